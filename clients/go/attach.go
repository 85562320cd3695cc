package ringbroker

import (
	"context"

	"ringbroker/internal/wire"
)

// openRing opens a ring and maps it (spec section 6).
func (c *Client) openRing(ctx context.Context, open wire.Open) (*ring, *Error) {
	request := func(id uint64) wire.Message {
		open.ID = id
		return &open
	}
	answer, current, err := c.ask(ctx, request, (*conn).refuse)
	if err != nil {
		return nil, err
	}
	w, ok := answer.(*wire.Ring)
	if !ok {
		return nil, current.confused("OPEN")
	}
	return current.attach(w)
}

// refuse gives back a ring that nobody waits for any more.
func (c *conn) refuse(answer wire.Message) {
	if w, ok := answer.(*wire.Ring); ok {
		c.send(&wire.Attached{Ring: w.Ring, Code: uint16(CodeAttachFailed)}) // if it fails, the ring goes with the connection
	}
}

// attach maps a ring's segment and tells the broker so.
func (c *conn) attach(w *wire.Ring) (*ring, *Error) {
	inputs, outputs, err := checkPlanes(w, c.limits)
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
