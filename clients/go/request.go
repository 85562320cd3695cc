package ringbroker

import (
	"context"
	"sync"

	"ringbroker/internal/wire"
)

// call is a request that is made once, such as OPEN. Inferences use their lease instead, again and again.
type call struct {
	done chan struct{} // has room for one
	late func(answer wire.Message)

	mu      sync.Mutex
	answer  wire.Message
	failure *Error
	left    bool // nobody waits any more
}

func (c *call) settle(answer wire.Message, err *Error) *Error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.left {
		if answer != nil && c.late != nil {
			c.late(answer)
		}
		return nil
	}
	c.answer, c.failure = answer, err
	c.done <- struct{}{}
	return nil
}

// leave says that nobody waits, unless the answer is there already.
func (c *call) leave() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.left = c.answer == nil && c.failure == nil
	return c.left
}

// call sends a request and waits for its answer. An answer that comes after the context's end is given to late, if
// that is not nil.
func (c *conn) call(ctx context.Context, request func(id uint64) wire.Message, late func(wire.Message)) (wire.Message, *Error) {
	waiting := &call{done: make(chan struct{}, 1), late: late}
	id, err := c.calls.add(waiting)
	if err != nil {
		return nil, err
	}
	if err := c.post(request(id)); err != nil {
		c.calls.take(id)
		return nil, err
	}
	if !c.wait(ctx, waiting.done) && waiting.leave() {
		return nil, ended(ctx, CodeTimeout, "no answer came in time")
	}
	return waiting.answer, waiting.failure
}
