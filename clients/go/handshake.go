package ringbroker

import (
	"context"

	"ringbroker/internal/wire"
)

// greet says HELLO and waits for the WELCOME (spec section 4). Nothing else has been sent before.
func (c *conn) greet(ctx context.Context, hello *wire.Hello) (*wire.Welcome, *Error) {
	asked := monotonicNS()
	answer, err := c.call(ctx, &call{}, func(id uint64) wire.Message {
		c.helloID.Store(id)
		return hello
	})
	if err != nil {
		return nil, err
	}
	welcome, ok := answer.(*wire.Welcome)
	if !ok || welcome.Major != hello.Major || welcome.Minor > hello.Minor {
		err := badAnswer("HELLO is not answered by a WELCOME of this version")
		return nil, err
	}
	c.clock = newClock(asked, monotonicNS(), welcome.ClockNS)
	c.limits, c.pool = welcome.Limits, welcome.Options.Pool.Value
	return welcome, nil
}
