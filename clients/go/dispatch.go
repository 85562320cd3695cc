package ringbroker

import "ringbroker/internal/wire"

// dispatch gives a message to who waits for it. An error ends the connection.
func (c *conn) dispatch(m wire.Message) *Error {
	switch m := m.(type) {
	case *wire.Result:
		return c.answer(m.ID, m)
	case *wire.Failure:
		return c.fail(m)
	case *wire.Models:
		return c.answer(m.ID, c.keep(m))
	case *wire.Ring:
		return c.answerOpen(m)
	case *wire.Closed:
		return c.answer(m.ID, c.keep(m))
	case *wire.Pong:
		return c.answer(m.Token, c.keep(m))
	case *wire.Welcome:
		return c.welcome(m)
	case *wire.GoAway:
		c.goAway(m.Reason)
	}
	return nil
}

// keep takes a message from the decoder, which would reuse it.
func (c *conn) keep(m wire.Message) wire.Message {
	c.receiver.decoder.Keep(m)
	return m
}

// take is who waits for an answer that has come, or nil.
func (c *conn) take(id uint64) waiter {
	owner := c.calls.take(id)
	if asked, ok := owner.(*call); ok && asked.opens {
		c.receiver.opened()
	}
	return owner
}

func (c *conn) answer(id uint64, m wire.Message) *Error {
	owner := c.take(id)
	if owner == nil {
		return badAnswer("it is for a request that is not in flight")
	}
	return owner.settle(m, nil)
}

// answerOpen gives a RING with its descriptor to who asked for it.
func (c *conn) answerOpen(m *wire.Ring) *Error {
	answer := ringAnswer{m, -1}
	if m.Segment.Kind == "fd" {
		answer.descriptor = c.receiver.takeDescriptor()
	}
	c.keep(m)
	err := c.answer(m.ID, answer)
	if err != nil {
		answer.drop()
	}
	return err
}

// welcome answers HELLO, which has no id.
func (c *conn) welcome(m *wire.Welcome) *Error {
	if c.welcomed {
		return badAnswer("a second WELCOME")
	}
	c.welcomed = true
	return c.answer(c.helloID.Load(), c.keep(m))
}

// fail hands on an ERROR. Before the WELCOME every one ends the connection, later those of the protocol do. One without
// an id belongs to no request of ours.
func (c *conn) fail(m *wire.Failure) *Error {
	err := told(m)
	if !c.welcomed || err.Code.endsSession() {
		return err
	}
	if !m.ID.Set {
		return nil
	}
	owner := c.take(m.ID.Value)
	if owner == nil {
		return badAnswer("an ERROR for a request that is not in flight")
	}
	return owner.settle(nil, err)
}
