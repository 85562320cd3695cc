package ringbroker

import (
	"sync/atomic"
	"syscall"
	"time"

	"ringbroker/internal/wire"
)

// conn is one connection of a link. It ends once, with one error, for everybody.
//
// Locks, from the outside in: receiver.role, then lease.mu or call.mu, then queue.mu; Client.mu, then link.mu; calls.mu,
// sender.mu and doorbell.mu are taken last and hold nothing.
type conn struct {
	link     *link
	fd       int
	born     time.Time
	closed   bool // fd is closed, by run; under role and sender.mu
	spin     time.Duration
	bell     *doorbell
	calls    calls
	receiver receiver
	sender   sender

	welcomed bool // under role
	helloID  atomic.Uint64
	clock    clock
	limits   wire.Limits
	pool     string // "" where the broker did not tell

	over chan struct{} // closed by the end
	lost Code          // why the broker ended the worker that served this; read when another connection has followed
}

// newConn takes the socket over.
func newConn(l *link, fd int) (*conn, error) {
	bell, err := newDoorbell(fd)
	if err != nil {
		syscall.Close(fd)
		return nil, err
	}
	c := &conn{link: l, fd: fd, born: time.Now(), spin: l.client.settings.spin, bell: bell, over: make(chan struct{})}
	c.calls.taking.Store(true)
	c.receiver.stream, c.receiver.decoder = wire.NewStream(), wire.NewBrokerDecoder()
	go c.run()
	return c, nil
}

// run is the connection's goroutine. It sleeps but for the doorbell.
func (c *conn) run() {
	err := c.bell.watch(c.rung)
	c.end(lost("the connection ended", err))
	c.bell.close()
	c.receiver.role.Lock()
	c.sender.mu.Lock()
	syscall.Close(c.fd)
	c.closed = true
	c.receiver.dropDescriptors()
	c.sender.mu.Unlock()
	c.receiver.role.Unlock()
}

// rung does what the doorbell was rung for, and says whether the connection has ended.
func (c *conn) rung() bool {
	c.flush()
	c.receiver.rang.Store(true)
	c.drain()
	return c.calls.ended() != nil
}

// end ends the connection. The link knows first, so that a caller that learns of the end waits for the next one.
func (c *conn) end(err *Error) {
	owners, first := c.calls.close(c.fd, err)
	if !first {
		return
	}
	close(c.over)
	if err.Code == CodeBrokerLost {
		c.link.down(c)
	} else { // one side broke the protocol: such a session is not taken up
		c.link.abandon(c, err)
	}
	for _, owner := range owners {
		owner.settle(nil, err)
	}
	c.bell.end()
}

// isUsable says whether new requests may be sent.
func (c *conn) isUsable() bool { return c.calls.taking.Load() }

// goAway takes no more requests. What is in flight is still answered; then the connection ends (spec section 9).
func (c *conn) goAway(reason string) {
	c.calls.leave(lost("the broker closes this connection: "+reason, nil))
	c.link.down(c)
}

// endIfDrained ends a connection that was sent away, once it has nothing in flight.
func (c *conn) endIfDrained() {
	if err := c.calls.drained(); err != nil {
		c.end(err)
	}
}

// closeRing gives a ring back to the broker, which answers when it has cancelled what had not begun. If it cannot be
// asked, the ring goes with the connection, or is closed when the session is taken up.
func (c *conn) closeRing(number uint64) {
	if id, err := c.calls.add(closing{}); err == nil {
		c.post(&wire.Close{ID: id, Ring: number})
	}
}

// closing waits for CLOSED, and does nothing then.
type closing struct{}

func (closing) settle(wire.Message, *Error) *Error { return nil }
