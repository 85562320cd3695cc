package ringbroker

import (
	"context"
	"math"
	"sync/atomic"
)

// seat is a model's place on one of the connections to its pool: the ring that it has there, which is opened anew where
// the last one is gone.
type seat struct {
	model *Model
	index int           // of the connection
	turn  chan struct{} // who holds its one token opens a ring
	ring  atomic.Pointer[ring]
	pool  string // where the model was last; "" is that of Dial's connection; under turn
}

func newSeat(m *Model, index int, pool string) *seat {
	return &seat{model: m, index: index, turn: make(chan struct{}, 1), pool: pool}
}

// current is the ring to take leases of, when its connection is there.
func (s *seat) current(ctx context.Context) (*ring, *Error) {
	for {
		r := s.ring.Load()
		if r == nil || r.retired.Load() {
			return s.reopen(ctx)
		}
		if _, err := r.link.conn(ctx); err != nil && !r.retired.Load() {
			return nil, err
		}
		if !r.retired.Load() {
			return r, nil
		}
	}
}

// load is how many rows are taken. One whose connection is being made has the most of all; one whose ring
// is gone has none, so that it is opened anew.
func (s *seat) load() int64 {
	r := s.ring.Load()
	if r.link.isUp() {
		if r.retired.Load() {
			return -1
		}
		return r.load.Load()
	}
	r.link.seek()
	return math.MaxInt64
}

// reopen opens a ring, unless somebody else has meanwhile.
func (s *seat) reopen(ctx context.Context) (*ring, *Error) {
	select {
	case s.turn <- struct{}{}:
		defer func() { <-s.turn }()
	case <-ctx.Done():
		return nil, ended(ctx, CodeTimeout, "the ring was not opened again in time")
	}
	if r := s.ring.Load(); r != nil && !r.retired.Load() {
		return r, nil
	}
	if err := s.model.closedError(); err != nil {
		return nil, err
	}
	r, err := s.open(ctx)
	if err != nil {
		return nil, err
	}
	s.ring.Store(r)
	s.model.queue.add(r)
	if err := s.model.closedError(); err != nil { // while we opened
		r.close()
		return nil, err
	}
	return r, nil
}

// open opens a ring in the pool where the model is, which may have moved.
func (s *seat) open(ctx context.Context) (r *ring, err *Error) {
	for range asks {
		l, fault := s.model.client.link(s.pool, s.index)
		if fault != nil {
			return nil, fault
		}
		var pool string
		r, pool, err = l.open(ctx, s.model)
		switch {
		case err == nil:
			return r, nil
		case err.Code == CodeWrongPool:
			s.pool = pool
		case err.Code == CodeUnknownPool && s.pool != "":
			s.pool = ""
		default:
			return nil, err
		}
	}
	return nil, err
}
