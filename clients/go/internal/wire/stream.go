package wire

import "encoding/binary"

// Stream cuts a byte stream into payloads, however the bytes arrive.
type Stream struct {
	b          []byte
	start, end int // the bytes that are not cut yet
}

// NewStream makes a stream with room for one frame of the largest size.
func NewStream() *Stream { return &Stream{b: make([]byte, 4+MaxPayload)} }

// Space is where the next bytes go; it is never empty after Next has returned false. It moves what is there to the
// front, so a payload of Next is gone with it.
func (s *Stream) Space() []byte {
	if s.start > 0 {
		s.end = copy(s.b, s.b[s.start:s.end])
		s.start = 0
	}
	return s.b[s.end:]
}

// Received says that n bytes have been put into Space.
func (s *Stream) Received(n int) { s.end += n }

// Next cuts the next payload, if all of it is there. It is valid until Space. A frame that is too large is an *Error as
// soon as its length is there; nothing comes after it.
func (s *Stream) Next() ([]byte, bool, *Error) {
	if s.end-s.start < 4 {
		return nil, false, nil
	}
	n := binary.LittleEndian.Uint32(s.b[s.start:])
	if n > MaxPayload {
		return nil, false, &Error{FrameTooLarge, "", "a frame's length is over 65536 bytes"}
	}
	if s.end-s.start-4 < int(n) {
		return nil, false, nil
	}
	payload := s.b[s.start+4 : s.start+4+int(n)]
	s.start += 4 + int(n)
	return payload, true, nil
}
