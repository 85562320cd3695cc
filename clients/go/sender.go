package ringbroker

import (
	"sync"
	"syscall"

	"ringbroker/internal/wire"
)

// sender writes requests, each with one system call. It never waits: what the socket has no room for is kept, and
// written by the connection's goroutine when there is room. So a broker that has stopped reading, because we do not
// read, blocks nobody.
type sender struct {
	mu      sync.Mutex
	encoder wire.Encoder
	frames  []byte // what is not written yet
}

// maxUnsent is the most that is kept. Each request in flight has a frame of some 100 bytes in it, so this is many
// thousands of calls that were given up while the broker read nothing.
const maxUnsent = 16 << 20

// post sends a message. After a failed send the connection has ended, with the broker's own error if it sent one.
func (c *conn) post(m wire.Message) *Error {
	err, lostErr := c.send(m)
	if err != nil {
		return unsendable(err)
	}
	if lostErr == nil {
		return nil
	}
	c.drainLast()
	c.end(lostErr)
	return c.calls.ended()
}

// send sends a message, or keeps it to be sent.
func (c *conn) send(m wire.Message) (*wire.Error, *Error) {
	s := &c.sender
	s.mu.Lock()
	defer s.mu.Unlock()
	before := len(s.frames)
	frames, err := s.encoder.Append(s.frames, m)
	if err != nil {
		return err, nil
	}
	s.frames = frames
	if before > maxUnsent {
		s.frames = s.frames[:before]
		return nil, lost("the broker has not read for too long", nil)
	}
	if before > 0 {
		return nil, nil
	}
	return nil, c.write()
}

// write writes what there is room for. The caller has sender.mu.
func (c *conn) write() *Error {
	s := &c.sender
	if c.closed {
		return lost("the connection has ended", nil)
	}
	rest := s.frames
	for len(rest) > 0 {
		n, errno := writeSocket(c.fd, rest)
		if errno == syscall.EAGAIN {
			break
		}
		if errno != 0 && errno != syscall.EINTR {
			s.frames = s.frames[:0]
			return lost("sending failed", errno)
		}
		if errno == 0 {
			rest = rest[n:]
		}
	}
	s.frames = s.frames[:copy(s.frames, rest)]
	if len(s.frames) > 0 {
		c.bell.write(true)
	}
	return nil
}

// flush writes what was kept.
func (c *conn) flush() {
	s := &c.sender
	s.mu.Lock()
	if len(s.frames) > 0 {
		if err := c.write(); err == nil && len(s.frames) == 0 {
			c.bell.write(false)
		}
	}
	s.mu.Unlock()
}
