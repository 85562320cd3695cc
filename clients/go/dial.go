package ringbroker

import (
	"context"
	"errors"
	"math/rand/v2"
	"syscall"
	"time"
)

// The waits between two attempts to connect: short first, for a broker that is just starting, and then long enough that
// many clients of a broker that is away cost nothing.
const (
	firstBackoff = 2 * time.Millisecond
	maxBackoff   = 250 * time.Millisecond
)

// backoff is half of the wait, and up to as much again by chance, so that clients do not come all at once.
type backoff struct{ wait time.Duration }

func (b *backoff) next() time.Duration {
	b.wait = min(max(2*b.wait, firstBackoff), maxBackoff)
	return b.wait/2 + rand.N(b.wait/2)
}

// isAway says whether an attempt failed as it does while a broker starts, restarts, or has many connecting at once. (A
// full backlog is EAGAIN, at once, and no reason to give up.)
func isAway(err error) bool {
	for _, errno := range []syscall.Errno{syscall.ENOENT, syscall.ECONNREFUSED, syscall.EAGAIN, syscall.EINTR} {
		if errors.Is(err, errno) {
			return true
		}
	}
	var e *Error
	return errors.As(err, &e) && e.Code == CodeBrokerLost
}

// connect connects, waiting for the broker until the context ends or the client is closed.
func (c *Client) connect(ctx context.Context) (*conn, *Error) {
	var waits backoff
	for {
		connection, err := c.attempt(ctx)
		if err == nil {
			return connection, nil
		}
		if ctx.Err() != nil {
			return nil, lost("no broker at "+c.path+" ("+err.Error()+")", joinCause(ctx))
		}
		if closed := c.closedError(); closed != nil {
			return nil, closed
		}
		if !isAway(err) {
			return nil, asError(err, "no connection to "+c.path)
		}
		timer := time.NewTimer(waits.next())
		select {
		case <-timer.C:
		case <-ctx.Done():
		case <-c.done:
		}
		timer.Stop()
	}
}

// attempt connects once.
func (c *Client) attempt(ctx context.Context) (*conn, error) {
	fd, err := connectSocket(c.path)
	if err != nil {
		return nil, err
	}
	connection, err := newConn(fd, c.settings.spin)
	if err != nil {
		return nil, err
	}
	if err := c.adopt(connection); err != nil {
		connection.end(err)
		return nil, err
	}
	if err := connection.greet(ctx, c.settings.hello); err != nil {
		connection.end(err)
		c.forget(connection)
		return nil, err
	}
	return connection, nil
}

// asError makes an *Error of any error: BROKER_LOST where it is not one already.
func asError(err error, text string) *Error {
	var e *Error
	if errors.As(err, &e) {
		return e
	}
	return lost(text, err)
}
