package ringbroker

import (
	"context"
	"sync"
	"sync/atomic"

	"ringbroker/internal/wire"
)

// Model is an opened model: a ring of the broker's, which is opened anew after a lost connection. It is safe for
// concurrent use.
type Model struct {
	client *Client
	open   wire.Open     // how to open it; not changed
	turn   chan struct{} // who holds its one token opens a ring
	ring   atomic.Pointer[ring]

	mu     sync.Mutex
	closed bool
}

// Open opens a ring of a model and maps its memory. Errors: UNKNOWN_MODEL, UNKNOWN_VERSION, UNKNOWN_DIM,
// MAXIMUM_MISSING, MAXIMUM_TOO_LARGE, TOO_MANY_SLOTS, TOO_MANY_RINGS, RING_TOO_LARGE, SHM_FULL of the broker (spec
// section 6); ATTACH_FAILED where the memory cannot be mapped; INVALID_FIELD for an option that cannot be sent;
// BROKER_LOST, BAD_ANSWER, CLIENT_CLOSED; TIMEOUT or CANCELLED at ctx's end.
func (c *Client) Open(ctx context.Context, model string, options ...OpenOption) (*Model, error) {
	m := &Model{client: c, open: wire.Open{Model: model}, turn: make(chan struct{}, 1)}
	for _, option := range options {
		option(&m.open)
	}
	if _, err := m.current(ctx); err != nil {
		return nil, err
	}
	return m, nil
}

// current is the ring to take leases of. Where the last one is gone with its connection, it opens another.
func (m *Model) current(ctx context.Context) (*ring, *Error) {
	if r := m.ring.Load(); r != nil && !r.retired.Load() {
		return r, nil
	}
	select {
	case m.turn <- struct{}{}:
		defer func() { <-m.turn }()
	case <-ctx.Done():
		return nil, ended(ctx, CodeTimeout, "the ring was not opened again in time")
	}
	if r := m.ring.Load(); r != nil && !r.retired.Load() { // opened while we waited
		return r, nil
	}
	if err := m.closedError(); err != nil {
		return nil, err
	}
	r, err := m.client.openRing(ctx, m.open)
	if err != nil {
		return nil, err
	}
	m.mu.Lock()
	m.ring.Store(r)
	closed := m.closed
	m.mu.Unlock()
	if closed { // while we opened
		r.close()
		return nil, errModelClosed()
	}
	return r, nil
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

// Acquire waits for its turn, and for so many adjacent free rows of the ring; that costs no message. Callers are served
// in the order in which they came. Errors: TOO_MANY_ROWS at once for more than [Model.MaxRows]; ACQUIRE_TIMEOUT or
// CANCELLED at ctx's end, which are ctx's error too; CLIENT_CLOSED. After a lost connection Acquire opens the ring
// anew, and has the errors of [Client.Open] too.
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
		l, err := r.acquire(ctx, rows)
		if err == nil {
			return Lease{l, l.generation}, nil
		}
		if !r.retired.Load() || ctx.Err() != nil || err.Code == CodeClientClosed {
			return Lease{}, err
		}
	}
}

// Close gives the ring back to the broker. Leases that are not released keep their memory until they are, but run
// nothing more. Later calls get CLIENT_CLOSED. A second Close does nothing. The error is always nil.
func (m *Model) Close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if r := m.ring.Load(); !m.closed && r != nil {
		r.close()
	}
	m.closed = true
	return nil
}

// Name is the model's name.
func (m *Model) Name() string { return m.open.Model }

// Version is the version that the ring was opened with.
func (m *Model) Version() string { return m.ring.Load().version }

// Slots is how many rows the ring has.
func (m *Model) Slots() int { return m.ring.Load().rows.count }

// MaxRows is the most rows of one lease.
func (m *Model) MaxRows() int { return m.ring.Load().maxRows }

// PlaneInfo describes an input or output as this ring holds it.
type PlaneInfo struct {
	Name   string
	DType  DType
	Sample []int // the shape of one row, with dynamic dims at the ring's maximum
}

// Inputs are the model's inputs, in the signature's order.
func (m *Model) Inputs() []PlaneInfo { return describePlanes(m.ring.Load().inputs) }

// Outputs are the model's outputs, in the signature's order.
func (m *Model) Outputs() []PlaneInfo { return describePlanes(m.ring.Load().outputs) }

func describePlanes(planes []plane) []PlaneInfo {
	all := make([]PlaneInfo, len(planes))
	for i, p := range planes {
		all[i] = PlaneInfo{Name: p.name, DType: p.dtype, Sample: make([]int, len(p.sample))}
		for at, dim := range p.sample {
			all[i].Sample[at] = int(dim)
		}
	}
	return all
}
