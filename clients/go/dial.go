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

// unwaitedSearch is how long a connection is looked for that nobody waits for: longer than most brokers keep a session.
var unwaitedSearch = time.Minute

// isAbsent says whether nobody listens at the socket.
func isAbsent(err error) bool {
	return errors.Is(err, syscall.ENOENT) || errors.Is(err, syscall.ECONNREFUSED)
}

// isAway says whether an attempt failed as it does while a broker starts, restarts, or has many connecting at once.
func isAway(err error) bool {
	if isBusy(err) || isAbsent(err) {
		return true
	}
	var e *Error
	return errors.As(err, &e) && e.Code == CodeBrokerLost
}

// pause waits for the next attempt, or for the context's end.
func (b *backoff) pause(ctx context.Context) {
	timer := time.NewTimer(b.next())
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// isBusy says whether a broker is there that has many connecting at once: a full backlog is EAGAIN, at once.
func isBusy(err error) bool { return errors.Is(err, syscall.EAGAIN) || errors.Is(err, syscall.EINTR) }

// asError makes an *Error of any error: BROKER_LOST where it is not one already.
func asError(err error, text string) *Error {
	var e *Error
	if errors.As(err, &e) {
		return e
	}
	return lost(text, err)
}
