package ringbroker

import (
	"context"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"ringbroker/internal/wire"
)

// receiver reads answers. One goroutine at a time has the role of reading, and gives everybody what is theirs: a caller
// that polls for its own answer, or the connection's goroutine when the doorbell rings.
type receiver struct {
	role    sync.Mutex
	rang    atomic.Bool // the doorbell rang, and nobody has read since
	stream  *wire.Stream
	decoder *wire.Decoder

	opens       int   // OPENs without an answer
	descriptors []int // received, and not yet taken by a RING
}

// wait waits until done, and is false if the context ended first. It polls for a while, and then sleeps.
func (c *conn) wait(ctx context.Context, done <-chan struct{}) bool {
	if c.poll(ctx, done) {
		return true
	}
	c.bell.park()
	defer c.bell.unpark()
	select {
	case <-done:
		return true
	case <-ctx.Done():
		return false
	}
}

// poll reads until done, unless somebody reads already: then that one does it for us.
func (c *conn) poll(ctx context.Context, done <-chan struct{}) bool {
	if c.spin <= 0 || !c.receiver.role.TryLock() {
		return false
	}
	c.bell.poll(true)
	answered := c.pollUntil(ctx, done, time.Now().Add(c.spin))
	c.bell.poll(false)
	c.receiver.role.Unlock()
	c.drain()
	return answered
}

// pollUntil looks at the clock and the context every so often only: a poll that finds nothing takes some 200 ns, the
// clock 40.
func (c *conn) pollUntil(ctx context.Context, done <-chan struct{}, end time.Time) bool {
	for {
		for range 8 {
			c.receive()
			select {
			case <-done:
				return true
			default:
			}
		}
		select {
		case <-ctx.Done():
			return false
		default:
		}
		if time.Now().After(end) {
			return false
		}
		// A broker that waits for this processor runs now, not after the spin.
		syscall.RawSyscall(syscall.SYS_SCHED_YIELD, 0, 0, 0)
	}
}

// drain reads all that is there if the doorbell rang. Whoever cannot have the role leaves it to the one who has, who
// calls this after giving the role back: so no ring is lost.
func (c *conn) drain() {
	for c.receiver.rang.Load() && c.receiver.role.TryLock() {
		c.receiver.rang.Store(false)
		for c.receive() {
		}
		c.receiver.role.Unlock()
	}
}

// drainLast reads all that is there. A send that failed calls it: the last frame may say why (spec section 10).
func (c *conn) drainLast() {
	c.receiver.role.Lock()
	for c.receive() {
	}
	c.receiver.role.Unlock()
	c.drain()
}

// receive reads once and dispatches every whole frame. It says whether there may be more. The caller has the role.
func (c *conn) receive() bool {
	if c.closed {
		return false
	}
	space := c.receiver.stream.Space()
	n, errno := c.read(space)
	switch {
	case errno == syscall.EAGAIN:
		return false
	case errno == syscall.EINTR:
		return true
	case errno != 0:
		c.end(lost("reading failed", errno))
		return false
	case n == 0:
		c.end(lost("the broker closed the connection", nil))
		return false
	}
	c.receiver.stream.Received(n)
	return c.dispatchAll() // also after a short read: the end of the stream may be behind it, and rings only once
}

func (c *conn) read(space []byte) (int, syscall.Errno) {
	if len(c.receiver.descriptors) < c.receiver.opens {
		return c.receiveDescriptors(space)
	}
	return readSocket(c.fd, space)
}

func (c *conn) dispatchAll() bool {
	for {
		payload, ok, err := c.receiver.stream.Next()
		if err == nil && !ok {
			return true
		}
		var m wire.Message
		if err == nil {
			m, err = c.receiver.decoder.Decode(payload)
		}
		if err != nil {
			c.end(badAnswer("%v", err))
			return false
		}
		if err := c.dispatch(m); err != nil {
			c.end(err)
			return false
		}
		c.endIfDrained()
	}
}
