package ringbroker

import (
	"context"
	"sync"

	"ringbroker/internal/wire"
)

// Model is an opened model: a ring of the broker's on each connection to the model's pool. It is safe for concurrent
// use.
//
// The rings outlive their connections. One that is lost all the same, because the broker started anew or the model
// changed, is opened again by the next Acquire, as long as the model still takes the inputs and gives the outputs that
// it did when it was opened; where it does not, Acquire is SIGNATURE_CHANGED: look at the model, and call
// [Client.Open].
type Model struct {
	client  *Client
	options openOptions // not changed
	seats   []*seat
	queue   queue

	mu        sync.Mutex
	signature *wire.Signature // what the caller knows
	closed    bool
}

// Open opens a ring of a model on each connection to its pool, and maps its memory. Errors: UNKNOWN_MODEL,
// UNKNOWN_VERSION, UNKNOWN_DIM, MAXIMUM_MISSING, MAXIMUM_TOO_LARGE, TOO_MANY_SLOTS, TOO_MANY_RINGS, RING_TOO_LARGE,
// SHM_FULL, SHM_UNAVAILABLE of the broker (spec section 6); ATTACH_FAILED where the memory cannot be mapped;
// INVALID_FIELD for an option that cannot be sent; BROKER_LOST, BAD_ANSWER, CLIENT_CLOSED; TIMEOUT or CANCELLED at ctx's
// end, BROKER_LOST too where there was no connection.
func (c *Client) Open(ctx context.Context, model string, options ...OpenOption) (*Model, error) {
	m := &Model{client: c, options: openOptions{open: wire.Open{Model: model}}}
	for _, option := range options {
		option(&m.options)
	}
	pool := ""
	for i := range max(c.settings.conns, 1) {
		s := newSeat(m, i, pool)
		if _, err := s.current(ctx); err != nil {
			m.Close()
			return nil, err
		}
		m.seats = append(m.seats, s)
		pool = s.pool
	}
	return m, nil
}

// accept says whether the model may be opened with that signature: the first, or one that whoever knows the first can
// go on with.
func (m *Model) accept(signature *wire.Signature) *Error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.signature == nil {
		m.signature = signature
	}
	if !serves(signature, m.signature) {
		return errorf(CodeSignatureChanged, "", "the model has other inputs or outputs than when it was opened; open it again")
	}
	return nil
}

func (m *Model) closedError() *Error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return errModelClosed()
	}
	return nil
}

func errModelClosed() *Error { return errorf(CodeClientClosed, "", "the model was closed") }

// Acquire waits for its turn, and for so many adjacent free rows: of the ring that has the fewest taken, or of the first
// that has them. That costs no message. Callers are served in the order in which they came. While the broker sends a connection away, or a worker is
// replaced, Acquire waits. Errors: TOO_MANY_ROWS at once for more than [Model.MaxRows]; ACQUIRE_TIMEOUT, CANCELLED or
// BROKER_LOST (where there is no connection) at ctx's end, which are ctx's error too; SIGNATURE_CHANGED; CLIENT_CLOSED.
// Where the ring is lost, Acquire opens another, and has the errors of [Client.Open] too.
func (m *Model) Acquire(ctx context.Context, rows int) (Lease, error) {
	if ctx.Err() != nil {
		return Lease{}, ended(ctx, CodeAcquireTimeout, "no rows were acquired")
	}
	if rows < 1 {
		return Lease{}, errorf(CodeInvalidField, "rows", "a lease of %d rows", rows)
	}
	for {
		r, err := m.current(ctx)
		if err != nil {
			return Lease{}, err
		}
		l, err := m.queue.acquire(ctx, r, rows)
		if l != nil {
			return Lease{l, l.generation}, nil
		}
		if err != nil && (!r.retired.Load() || ctx.Err() != nil || err.Code == CodeClientClosed) {
			return Lease{}, err
		}
	}
}

// current is the ring with the least to do.
func (m *Model) current(ctx context.Context) (*ring, *Error) {
	best := m.seats[0]
	if len(m.seats) > 1 {
		least := best.load()
		for _, s := range m.seats[1:] {
			if load := s.load(); load < least {
				best, least = s, load
			}
		}
	}
	return best.current(ctx)
}

// Close gives the rings back to the broker. Leases that are not released keep their memory until they are, but run
// nothing more. Later calls get CLIENT_CLOSED. A second Close does nothing. The error is always nil.
func (m *Model) Close() error {
	m.mu.Lock()
	m.closed = true
	m.mu.Unlock()
	for _, s := range m.seats {
		if r := s.ring.Load(); r != nil {
			r.close()
		}
	}
	return nil
}
