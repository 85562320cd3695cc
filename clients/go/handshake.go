package ringbroker

import (
	"context"

	"ringbroker/internal/wire"
)

// greet says HELLO and waits for the WELCOME (spec section 4). Nothing else has been sent before.
func (c *conn) greet(ctx context.Context, hello wire.Hello) *Error {
	asked := monotonicNS()
	answer, err := c.call(ctx, func(id uint64) wire.Message {
		c.helloID.Store(id)
		return &hello
	}, nil)
	if err != nil {
		return err
	}
	welcome, ok := answer.(*wire.Welcome)
	if !ok || welcome.Major != hello.Major || welcome.Minor > hello.Minor {
		err := badAnswer("HELLO is not answered by a WELCOME of this version")
		c.end(err)
		return err
	}
	c.clock = newClock(asked, monotonicNS(), welcome.ClockNS)
	c.limits = welcome.Limits
	return nil
}
