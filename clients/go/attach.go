package ringbroker

import (
	"context"
	"slices"
	"syscall"

	"ringbroker/internal/wire"
)

// open opens a ring of a model and maps it (spec section 6). Where the model is in another pool than the link's, the
// error is WRONG_POOL, and pool the one.
func (l *link) open(ctx context.Context, m *Model) (r *ring, pool string, err *Error) {
	err = l.ask(ctx, func(c *conn) (err *Error) {
		r, pool, err = c.open(ctx, m)
		return err
	})
	return r, pool, err
}

// open asks what the model is, and then for a ring of it: which dims are dynamic is told by the signature alone.
func (c *conn) open(ctx context.Context, m *Model) (r *ring, pool string, err *Error) {
	found, err := c.find(ctx, m.options.open.Model)
	if err != nil {
		return nil, "", err
	}
	if found != nil && c.pool != "" && c.pool != found.Pool {
		return nil, found.Pool, errorf(CodeWrongPool, "model", "the model is in the pool %s", found.Pool)
	}
	signature := &wire.Signature{} // of no tensors: OPEN will say that there is no such model
	if found != nil {
		signature = &found.Signature
		if err := m.accept(signature); err != nil {
			return nil, "", err
		}
	}
	answer, err := c.askForRing(ctx, m.options.open)
	if err != nil {
		return nil, "", err
	}
	w, ok := answer.(ringAnswer)
	if !ok {
		return nil, "", c.confused("OPEN")
	}
	r, err = c.attach(w, signature, &m.queue)
	if err == nil {
		r.reposts = m.options.repost && !w.Options.Stateful.Value
	}
	return r, "", err
}

// find is a model of the broker's, or nil.
func (c *conn) find(ctx context.Context, name string) (found *wire.Model, err *Error) {
	err = c.list(ctx, func(m *wire.Model) bool {
		if m.Name == name {
			found = m
		}
		return found != nil
	})
	return found, err
}

func (c *conn) askForRing(ctx context.Context, open wire.Open) (wire.Message, *Error) {
	takesDescriptors := slices.Contains(c.link.client.settings.hello.Options.Segments.Value, "fd")
	return c.call(ctx, &call{opens: takesDescriptors, late: c.refuse}, func(id uint64) wire.Message {
		open.ID = id
		return &open
	})
}

// refuse gives back a ring that nobody waits for any more, or that cannot be mapped.
func (c *conn) refuse(answer wire.Message) {
	if w, ok := answer.(ringAnswer); ok {
		w.drop()
		c.send(&wire.Attached{Ring: w.Ring.Ring, Code: uint16(CodeAttachFailed)}) // if it fails, the ring goes with the connection
	}
}

func (w ringAnswer) drop() {
	if w.descriptor >= 0 {
		syscall.Close(w.descriptor)
	}
}

// attach maps a ring's segment and tells the broker so.
func (c *conn) attach(w ringAnswer, signature *wire.Signature, q *queue) (*ring, *Error) {
	inputs, outputs, err := checkPlanes(w.Ring, c.limits)
	if err == nil {
		err = matchSignature(w.Ring, signature, inputs, outputs)
	}
	if err != nil {
		w.drop()
		c.end(err)
		return nil, err
	}
	memory, mapErr := mapSegment(w)
	if mapErr != nil {
		c.refuse(w)
		return nil, &Error{Code: CodeAttachFailed, Text: "the ring's memory cannot be mapped: " + mapErr.Error(), cause: mapErr}
	}
	w.drop()
	r := newRing(c.link, q, w.Ring, memory, inputs, outputs)
	if err := c.link.add(c, r); err != nil {
		c.end(err)
		r.retire(err)
		return nil, err
	}
	if err := c.post(&wire.Attached{Ring: r.number}); err != nil {
		return nil, err
	}
	return r, nil
}

// close gives the ring back to the broker.
func (r *ring) close() {
	r.retire(errModelClosed())
	if c := r.link.remove(r); c != nil {
		c.closeRing(r.number)
	}
}
