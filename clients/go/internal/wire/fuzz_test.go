package wire

import (
	"bytes"
	"testing"
)

// FuzzDecodeClient: whatever a client sends is decoded or is one of four errors, and what is decoded encodes to bytes
// that decode to the same.
func FuzzDecodeClient(f *testing.F) { fuzzDecode(f, "client") }

// FuzzDecodeBroker is the same for the other direction.
func FuzzDecodeBroker(f *testing.F) { fuzzDecode(f, "broker") }

func fuzzDecode(f *testing.F, from string) {
	all := readVectors(f)
	for _, v := range append(all.Valid, all.Truncations...) {
		if v.From == from && v.Hex != "" {
			f.Add(mustHex(f, v.Hex))
		}
	}
	f.Fuzz(func(t *testing.T, payload []byte) {
		var encoder Encoder
		side := decoders()[from]
		m, err := side.Decode(payload)
		if err != nil {
			checkError(t, err)
			return
		}
		once, err := encoder.Append(nil, m)
		if err != nil {
			return // the shortest form of a frame may be longer only where it was not in a frame
		}
		m, err = side.Decode(once[4:])
		if err != nil {
			t.Fatalf("its own encoding %x: %v", once, err)
		}
		if twice, err := encoder.Append(nil, m); err != nil || !bytes.Equal(once, twice) {
			t.Fatalf("encoded as %x, and then as %x (%v)", once, twice, err)
		}
	})
}

func checkError(t *testing.T, err *Error) {
	if err.Code < FrameTooLarge || err.Code > InvalidField {
		t.Fatalf("code %d", err.Code)
	}
	if err.Code != InvalidField && err.Path != "" {
		t.Fatalf("code %d has the path %q", err.Code, err.Path)
	}
}

// FuzzStream: however a stream is split, the same payloads come out, and the same end.
func FuzzStream(f *testing.F) {
	f.Add([]byte("\x03\x00\x00\x00\x92\x08\x01\x00\x00\x00\x00\xff\xff\xff\xff"), uint8(3))
	f.Fuzz(func(t *testing.T, data []byte, size uint8) {
		whole, wholeErr := cut(data, 1<<30)
		split, splitErr := cut(data, int(size)+1)
		if !bytes.Equal(whole, split) || (wholeErr == nil) != (splitErr == nil) {
			t.Fatalf("%x %v and %x %v", whole, wholeErr, split, splitErr)
		}
	})
}

func cut(data []byte, size int) (all []byte, end *Error) {
	s := NewStream()
	for len(data) > 0 {
		n := copy(s.Space(), data[:min(size, len(data))])
		data = data[n:]
		s.Received(n)
		for {
			payload, ok, err := s.Next()
			if err != nil {
				return all, err
			}
			if !ok {
				break
			}
			all = append(append(all, payload...), '|')
		}
	}
	return all, nil
}
