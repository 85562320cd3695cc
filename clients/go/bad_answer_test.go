package ringbroker_test

import (
	"context"
	"testing"
	"time"

	"ringbroker"
	"ringbroker/internal/wire"
	"ringbroker/ringbrokertest"
)

// Whatever a broker answers that the protocol does not allow is BAD_ANSWER, ends the connection, and nothing worse.
func TestBadAnswersToAnInference(t *testing.T) {
	for name, spoil := range map[string]func(*wire.Result) wire.Message{
		"another id":            func(r *wire.Result) wire.Message { r.ID++; return r },
		"an id that is reused":  func(r *wire.Result) wire.Message { r.ID = 1<<53 - 1; return r },
		"not the last":          func(r *wire.Result) wire.Message { r.Last = false; return r },
		"no output":             func(r *wire.Result) wire.Message { r.Outputs = nil; return r },
		"an output more":        func(r *wire.Result) wire.Message { r.Outputs = append(r.Outputs, r.Outputs[0]); return r },
		"another dtype":         func(r *wire.Result) wire.Message { r.Outputs[0].DType = "F64"; return r },
		"an unknown dtype":      func(r *wire.Result) wire.Message { r.Outputs[0].DType = ""; return r },
		"another offset":        func(r *wire.Result) wire.Message { r.Outputs[0].Offset += 16; return r },
		"an offset far outside": func(r *wire.Result) wire.Message { r.Outputs[0].Offset = 1<<53 - 1; return r },
		"another rank":          func(r *wire.Result) wire.Message { r.Outputs[0].Shape = []uint64{1}; return r },
		"no shape":              func(r *wire.Result) wire.Message { r.Outputs[0].Shape = nil; return r },
		"more rows":             func(r *wire.Result) wire.Message { r.Outputs[0].Shape[0] = 2; return r },
		"a dim that is larger":  func(r *wire.Result) wire.Message { r.Outputs[0].Shape[1] = 1<<53 - 1; return r },
		"a pong":                func(r *wire.Result) wire.Message { return &wire.Pong{Token: r.ID} },
		"a ring":                func(r *wire.Result) wire.Message { return &wire.Ring{ID: r.ID, Slots: 1, MaxRows: 1} },
		"a second welcome":      func(r *wire.Result) wire.Message { return &wire.Welcome{Major: 1} },
		"an error of another":   func(r *wire.Result) wire.Message { return &wire.Failure{ID: wire.Some(r.ID + 1), Code: 5001} },
	} {
		t.Run(name, func(t *testing.T) {
			b := ringbrokertest.New(t, twice())
			m := open(t, dial(t, b), "twice")
			l := acquire(t, m, 1)
			b.Mangle(func(payload []byte) []byte { return encode(t, spoil(decode(t, payload).(*wire.Result))) })
			_, err := l.Infer(inTime(t))
			wants(t, err, ringbroker.CodeBadAnswer)
			b.Mangle(nil)
			infer(t, acquire(t, m, 1)) // on a new connection
		})
	}
}

// An ERROR that belongs to no request and is none of the protocol's ends nothing, and answers nothing.
func TestAnErrorOfNoRequestIsIgnored(t *testing.T) {
	bothWays(t, func(t *testing.T, spin ringbroker.Option) {
		b := ringbrokertest.New(t, twice())
		c := dial(t, b, spin)
		l := acquire(t, open(t, c, "twice"), 1)
		b.Mangle(func(payload []byte) []byte {
			if _, ok := decode(t, payload).(*wire.Pong); !ok {
				return payload
			}
			return encode(t, &wire.Failure{Code: uint16(ringbroker.CodeSHMFull)})
		})
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
		defer cancel()
		_, err := c.Ping(ctx) // its answer is the ERROR, and so never comes
		wants(t, err, ringbroker.CodeTimeout)
		b.Mangle(nil)
		infer(t, l) // on the same connection, or the lease would be lost
	})
}

func TestGarbageForAnAnswer(t *testing.T) {
	for name, payload := range map[string]string{
		"an empty frame":       "",
		"no msgpack":           "\xc1",
		"half a message":       "\x92\x48",
		"a message of ours":    "\x92\x08\x01",
		"an unknown message":   "\x92\x63\x01",
		"a field of no type":   "\x92\x48\xc0",
		"a frame of 65537":     string(make([]byte, 65537)),
		"an array of 2^32":     "\xdd\xff\xff\xff\xff",
		"a string of 2^32":     "\x93\x49\xdb\xff\xff\xff\xff",
		"nested without end":   string(repeat('\x91', 60000)),
		"a message of the dim": "\x91\x91\x91\x91",
	} {
		t.Run(name, func(t *testing.T) {
			b := ringbrokertest.New(t, twice())
			c := dial(t, b)
			b.Mangle(func([]byte) []byte { return append([]byte{}, payload...) })
			_, err := c.Ping(inTime(t))
			wants(t, err, ringbroker.CodeBadAnswer)
			b.Mangle(nil)
			if _, err := c.Ping(inTime(t)); err != nil {
				t.Error(err)
			}
		})
	}
}

func repeat(c byte, times int) []byte {
	all := make([]byte, times)
	for i := range all {
		all[i] = c
	}
	return all
}

func TestTheWrongAnswerToARequest(t *testing.T) {
	b := ringbrokertest.New(t, twice())
	c := dial(t, b)
	wrong := func(payload []byte) []byte {
		switch m := decode(t, payload).(type) {
		case *wire.Models:
			return encode(t, &wire.Closed{ID: m.ID})
		case *wire.Ring:
			return encode(t, &wire.Models{ID: m.ID})
		case *wire.Pong:
			return encode(t, &wire.Models{ID: m.Token})
		}
		return payload
	}
	for _, call := range []func() error{
		func() error { _, err := c.Models(inTime(t)); return err },
		func() error { _, err := c.Open(inTime(t), "twice"); return err },
		func() error { _, err := c.Ping(inTime(t)); return err },
	} {
		b.Mangle(wrong)
		wants(t, call(), ringbroker.CodeBadAnswer)
		b.Mangle(nil)
		if err := call(); err != nil {
			t.Error(err)
		}
	}
}
