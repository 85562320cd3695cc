package ringbroker

import (
	"context"

	"ringbroker/internal/wire"
)

// openRing opens a ring and maps it (spec section 6).
func (c *Client) openRing(ctx context.Context, open wire.Open) (r *ring, err *Error) {
	err = c.retry(ctx, func(current *conn) (err *Error) {
		r, err = current.open(ctx, open)
		return err
	})
	return r, err
}

// open asks what the model is, and then for a ring of it: which dims are dynamic is told by the signature alone.
func (c *conn) open(ctx context.Context, open wire.Open) (*ring, *Error) {
	var signature wire.Signature // of no tensors: OPEN will say that there is no such model
	err := c.list(ctx, func(m *wire.Model) bool {
		if m.Name == open.Model {
			signature = m.Signature
		}
		return m.Name == open.Model
	})
	if err != nil {
		return nil, err
	}
	request := func(id uint64) wire.Message {
		open.ID = id
		return &open
	}
	answer, err := c.call(ctx, request, c.refuse)
	if err != nil {
		return nil, err
	}
	w, ok := answer.(*wire.Ring)
	if !ok {
		return nil, c.confused("OPEN")
	}
	return c.attach(w, &signature)
}

// refuse gives back a ring that nobody waits for any more.
func (c *conn) refuse(answer wire.Message) {
	if w, ok := answer.(*wire.Ring); ok {
		c.send(&wire.Attached{Ring: w.Ring, Code: uint16(CodeAttachFailed)}) // if it fails, the ring goes with the connection
	}
}

// attach maps a ring's segment and tells the broker so.
func (c *conn) attach(w *wire.Ring, signature *wire.Signature) (*ring, *Error) {
	inputs, outputs, err := checkPlanes(w, c.limits)
	if err == nil {
		err = matchSignature(w, signature, inputs, outputs)
	}
	if err != nil {
		c.end(err)
		return nil, err
	}
	memory, mapErr := mapSegment(w.Segment)
	if mapErr != nil {
		c.refuse(w)
		return nil, &Error{Code: CodeAttachFailed, Text: "the ring's memory cannot be mapped: " + mapErr.Error(), cause: mapErr}
	}
	r := newRing(c, w, memory, inputs, outputs)
	if err := c.addRing(r); err != nil {
		c.end(err)
		r.retire(err)
		return nil, err
	}
	if err := c.post(&wire.Attached{Ring: w.Ring}); err != nil {
		return nil, err
	}
	return r, nil
}

// close gives the ring back to the broker, which answers when it has cancelled what had not begun.
func (r *ring) close() {
	r.retire(errModelClosed())
	r.conn.removeRing(r)
	if id, err := r.conn.calls.add(closing{}); err == nil {
		r.conn.post(&wire.Close{ID: id, Ring: r.number}) // if it fails, the ring goes with the connection
	}
}

// closing waits for CLOSED, and does nothing then.
type closing struct{}

func (closing) settle(wire.Message, *Error) *Error { return nil }
