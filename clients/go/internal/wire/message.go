package wire

import "encoding/binary"

// MaxPayload is the most bytes in one frame, without its length.
const MaxPayload = 65536

// Message is a pointer to one of the message structs of this package.
type Message interface {
	number() uint64
	arity() int
	code(*codec)
}

// The messages of each side. New ones are made of these by the decoders.
var (
	fromClient = []func() Message{
		func() Message { return new(Hello) }, func() Message { return new(List) },
		func() Message { return new(Open) }, func() Message { return new(Attached) },
		func() Message { return new(Infer) }, func() Message { return new(Cancel) },
		func() Message { return new(Close) }, func() Message { return new(Ping) },
	}
	fromBroker = []func() Message{
		func() Message { return new(Failure) }, func() Message { return new(Welcome) },
		func() Message { return new(Models) }, func() Message { return new(Ring) },
		func() Message { return new(Result) }, func() Message { return new(Closed) },
		func() Message { return new(Pong) }, func() Message { return new(GoAway) },
	}
)

// Encoder writes frames. It may be used by one goroutine at a time.
type Encoder struct{ c codec }

// Append appends m as one frame, its length included, and allocates nothing where frames has room. What the protocol
// forbids (a name that is too long, a payload over 65536 bytes) is an *Error, and frames comes back as it was.
func (e *Encoder) Append(frames []byte, m Message) ([]byte, *Error) {
	start := len(frames)
	e.c = codec{writing: true, b: append(frames, 0, 0, 0, 0)}
	e.c.b = appendArray(e.c.b, 1+m.arity())
	e.c.b = appendUint(e.c.b, m.number())
	m.code(&e.c)
	b := e.c.b
	e.c.b = nil
	payload := len(b) - start - 4
	if e.c.err == nil && payload > MaxPayload {
		e.c.fail(FrameTooLarge, "", "the message is larger than a frame may be")
	}
	if e.c.err != nil {
		return frames[:start], e.c.err
	}
	binary.LittleEndian.PutUint32(b[start:], uint32(payload))
	return b, nil
}

// Decoder reads payloads. It may be used by one goroutine at a time.
type Decoder struct {
	c        codec
	makers   map[uint64]func() Message
	messages map[uint64]Message
}

// NewClientDecoder makes a decoder of what clients send.
func NewClientDecoder() *Decoder { return newDecoder(fromClient) }

// NewBrokerDecoder makes a decoder of what the broker sends.
func NewBrokerDecoder() *Decoder { return newDecoder(fromBroker) }

func newDecoder(makers []func() Message) *Decoder {
	d := &Decoder{makers: make(map[uint64]func() Message), messages: make(map[uint64]Message)}
	for _, make := range makers {
		m := make()
		d.makers[m.number()], d.messages[m.number()] = make, m
	}
	return d
}

// Keep gives a message of Decode's to the caller for good.
func (d *Decoder) Keep(m Message) { d.messages[m.number()] = d.makers[m.number()]() }

// Decode decodes a payload: one frame without its length. The message is the decoder's own: the next payload with a
// message of that kind overwrites it (see Keep). It holds no bytes of the payload. A message that is like the last of
// its kind costs no allocation.
func (d *Decoder) Decode(payload []byte) (Message, *Error) {
	d.c = codec{b: payload}
	m := d.read()
	err := d.c.err
	if err == nil && d.c.at != len(payload) || err != nil && !isWellFormed(payload) {
		err = &Error{BadMsgpack, "", "the payload is not exactly one msgpack value"}
	}
	d.c = codec{}
	if err != nil {
		return nil, err
	}
	return m, nil
}

func (d *Decoder) read() Message {
	c := &d.c
	k, n := c.head()
	if k != kindArray || n == 0 {
		c.fail(UnknownMessage, "", "the payload is not an array, or an empty one")
		return nil
	}
	k, number := c.head()
	m := d.messages[number]
	if k != kindInt || m == nil {
		c.fail(UnknownMessage, "", "the payload does not begin with the number of a message")
		return nil
	}
	if n != uint64(1+m.arity()) {
		c.fail(InvalidField, "", "the message has another number of fields")
		return nil
	}
	m.code(c)
	return m
}
