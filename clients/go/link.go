package ringbroker

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"ringbroker/internal/wire"
)

// link keeps one session connected: its connection is lost or sent away, and another takes the session up, with its
// rings as they were (spec section 9). It belongs to one pool.
type link struct {
	client  *Client
	asked   wire.Opt[string] // the pool to ask for where there is no session to take up
	current atomic.Pointer[conn]

	mu      sync.Mutex
	pool    string           // as the broker told, or as asked
	token   wire.Opt[string] // takes the session up
	rings   map[uint64]*ring // of this session, mapped
	search  *search          // the last; it may be over
	waiting int              // how many wait for it
	problem error            // what the last attempt to connect failed with
	closed  *Error
}

// search is one search for a connection, which everybody who needs it waits for. It goes on for as long as somebody
// does. Where nobody does, it ends when no broker is there: then the session is gone, and there is nothing to hurry for.
// With a broker that refuses it for now, it goes on for a while, for the session's sake. The next call begins another.
type search struct {
	began    time.Time
	answered chan struct{} // closed at the end, or sooner where it turns out that no broker is there
	done     chan struct{} // closed at the end
	err      *Error        // why there is no connection; read after done
}

// newLink begins to connect.
func newLink(c *Client, asked wire.Opt[string]) *link {
	l := &link{client: c, asked: asked, pool: asked.Value, rings: make(map[uint64]*ring)}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.begin()
	return l
}

// conn is a connection for new requests. It waits for one until the context ends, which is BROKER_LOST.
func (l *link) conn(ctx context.Context) (*conn, *Error) {
	for {
		if c := l.current.Load(); c != nil && c.isUsable() {
			return c, nil
		}
		s, err := l.join()
		if err != nil {
			return nil, err
		}
		select {
		case <-s.done:
		case <-ctx.Done():
		}
		l.leave()
		if !isClosed(s.done) {
			return nil, l.unreachable(ctx)
		}
		if s.err != nil {
			return nil, s.err
		}
	}
}

// isUp says whether a request need not wait for a connection.
func (l *link) isUp() bool {
	c := l.current.Load()
	return c != nil && c.isUsable()
}

// reasonTime is how long a lost request waits to be told why it was lost. The broker says so when it has another worker,
// usually within 200 ms.
const reasonTime = 5 * time.Second

// follow waits for the connection that follows one that was lost, and says whether there is one. Where it is not
// patient, it waits for no broker that is away, nor for long.
func (l *link) follow(ctx context.Context, lost *conn, patient bool) bool {
	s, err := l.join()
	if err != nil {
		return false
	}
	defer l.leave()
	if l.current.Load() != lost {
		return true
	}
	wait := s.done
	if !patient {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, reasonTime)
		defer cancel()
		wait = s.answered
	}
	select {
	case <-wait:
	case <-ctx.Done():
	}
	return l.current.Load() != lost
}

func (l *link) unreachable(ctx context.Context) *Error {
	l.mu.Lock()
	defer l.mu.Unlock()
	text := "no connection to " + l.client.path
	if l.problem != nil {
		text += " (" + l.problem.Error() + ")"
	}
	return lost(text, joinCause(ctx))
}

// asks is how often something is asked that changes nothing, or is undone by the loss of its connection.
const asks = 3

// ask does something that may be done again, on another connection, where one is lost.
func (l *link) ask(ctx context.Context, do func(*conn) *Error) *Error {
	for times := 1; ; times++ {
		c, err := l.conn(ctx)
		if err != nil {
			return err
		}
		if err = do(c); err == nil || err.Code != CodeBrokerLost || ctx.Err() != nil || times == asks {
			return err
		}
	}
}

// add notes a ring that was opened on this connection, unless that has ended.
func (l *link) add(c *conn, r *ring) *Error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := c.calls.ended(); err != nil {
		return err
	}
	if l.rings[r.number] != nil {
		return badAnswer("ring %d is open already", r.number)
	}
	l.rings[r.number] = r
	return nil
}

// remove forgets a ring, and returns the connection on which the broker has it; nil if it has it no more.
func (l *link) remove(r *ring) *conn {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.rings[r.number] != r {
		return nil
	}
	delete(l.rings, r.number)
	return l.current.Load()
}

// forget ends the session: every ring is gone, and the next connection begins anew.
func (l *link) forget(err *Error) {
	l.mu.Lock()
	l.token = wire.Opt[string]{}
	l.mu.Unlock()
	l.retireRings(err)
}

// retireRings ends every ring, and returns their numbers.
func (l *link) retireRings(err *Error) (numbers []uint64) {
	l.mu.Lock()
	rings := l.rings
	l.rings = make(map[uint64]*ring)
	l.mu.Unlock()
	for number, r := range rings {
		r.retire(err)
		numbers = append(numbers, number)
	}
	return numbers
}

// abandon ends the session of a connection that ended with an error of the protocol.
func (l *link) abandon(c *conn, err *Error) {
	l.mu.Lock()
	closed := l.closed != nil // then it is nobody's fault
	l.mu.Unlock()
	if !closed && l.current.Load() == c {
		l.forget(err)
	}
	l.down(c)
}

// close ends the link, what waits for it, and the session, so that the broker frees its memory now. The client's life
// is over.
func (l *link) close(err *Error) {
	l.mu.Lock()
	again := l.closed != nil
	l.closed = err
	l.mu.Unlock()
	if again {
		return
	}
	rings := l.retireRings(err)
	if c := l.current.Load(); c != nil {
		for _, number := range rings { // a GOAWAY may be on its way, after which the end alone would not free them
			c.closeRing(number)
		}
		l.endWith(c, err)
	}
	<-l.search.done
}

// endWith ends the connection of a link that is closed. Where the broker has sent it away or lost it, a last search
// takes the session up, so that it ends.
func (l *link) endWith(c *conn, err *Error) {
	if !c.isUsable() {
		l.mu.Lock()
		if isClosed(l.search.done) {
			l.begin()
		}
		l.mu.Unlock()
	}
	c.end(err)
}

func (l *link) poolName() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.pool
}
