package ringbroker

import (
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"ringbroker/internal/wire"
)

// conn is one connection, which is one session (spec section 1). It ends once, with one error, for everybody.
//
// Locks, from the outside in: receiver.role, then lease.mu or call.mu, then ring.mu; calls.mu, sender.mu and
// doorbell.mu are taken last and hold nothing.
type conn struct {
	fd       int
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

	leaving atomic.Bool // a GOAWAY came
	mu      sync.Mutex
	rings   map[uint64]*ring
}

// newConn takes the socket over.
func newConn(fd int, spin time.Duration) (*conn, error) {
	bell, err := newDoorbell(fd)
	if err != nil {
		syscall.Close(fd)
		return nil, err
	}
	c := &conn{fd: fd, spin: spin, bell: bell, rings: make(map[uint64]*ring)}
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

// end ends the connection. Rings go first, so that a caller that learns of the end does not get a lease of them.
func (c *conn) end(err *Error) {
	owners, first := c.calls.close(c.fd, err)
	if !first {
		return
	}
	c.retireRings(err)
	for _, owner := range owners {
		owner.settle(nil, err)
	}
	c.bell.end()
}

// isUsable says whether new requests may be sent.
func (c *conn) isUsable() bool { return !c.leaving.Load() && c.calls.ended() == nil }

// goAway retires the connection: what is in flight is still answered (spec section 9).
func (c *conn) goAway(reason string) {
	c.leaving.Store(true)
	c.retireRings(lost("the broker closes this connection: "+reason, nil))
}

func (c *conn) addRing(r *ring) *Error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.rings[r.number] != nil {
		return badAnswer("ring %d is open already", r.number)
	}
	if err := c.calls.ended(); err != nil {
		return err
	}
	c.rings[r.number] = r
	return nil
}

func (c *conn) removeRing(r *ring) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.rings, r.number)
}

func (c *conn) retireRings(err *Error) {
	c.mu.Lock()
	rings := c.rings
	c.rings = make(map[uint64]*ring)
	c.mu.Unlock()
	for _, r := range rings {
		r.retire(err)
	}
}
