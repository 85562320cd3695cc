package ringbroker

import (
	"context"
	"sync"

	"ringbroker/internal/wire"
)

// call is a request that is made once, such as OPEN. Inferences use their lease instead, again and again.
type call struct {
	conn  *conn
	done  chan struct{} // has room for one
	opens bool          // its answer may come with a descriptor
	late  func(answer wire.Message)

	mu      sync.Mutex
	answer  wire.Message
	failure *Error
	left    bool // nobody waits any more
}

func (c *call) settle(answer wire.Message, err *Error) *Error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.left {
		c.conn.bell.unpark()
		if answer != nil && c.late != nil {
			c.late(answer)
		}
		return nil
	}
	c.answer, c.failure = answer, err
	c.done <- struct{}{}
	return nil
}

// leave says that nobody waits, unless the answer is there already. The doorbell attends to it from now on.
func (c *call) leave() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.answer != nil || c.failure != nil {
		return false
	}
	c.left = true
	c.conn.bell.park()
	return true
}

// call sends a request and waits for its answer. An answer that comes after the context's end is given to late, if
// that is not nil.
func (c *conn) call(ctx context.Context, waiting *call, request func(id uint64) wire.Message) (wire.Message, *Error) {
	waiting.conn, waiting.done = c, make(chan struct{}, 1)
	id, err := c.calls.add(waiting)
	if err != nil {
		return nil, err
	}
	if waiting.opens {
		c.expectDescriptors(1)
	}
	if err := c.post(request(id)); err != nil {
		if c.calls.take(id) != nil && waiting.opens {
			c.expectDescriptors(-1)
		}
		c.endIfDrained()
		return nil, err
	}
	if !c.wait(ctx, waiting.done) && waiting.leave() {
		return nil, ended(ctx, CodeTimeout, "no answer came in time")
	}
	return waiting.answer, waiting.failure
}
