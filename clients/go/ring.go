package ringbroker

import (
	"context"
	"sync"
	"sync/atomic"

	"ringbroker/internal/wire"
)

// ring is the slots of a model, in one session. It outlives the session's connections. The client decides which rows a lease gets; that costs no message.
type ring struct {
	link    *link
	number  uint64
	version string
	maxRows int
	inputs  []plane
	outputs []plane
	reposts bool         // lost requests are sent again
	retired atomic.Bool  // gone is set
	load    atomic.Int64 // rows that are taken or waited for

	mu     sync.Mutex
	memory []byte // nil once hidden
	rows   rows
	queue  []*turn  // who waits for rows, in order of arrival
	turns  []*turn  // to be used again
	idle   []*lease // to be used again
	open   int      // leases whose rows are taken
	gone   *Error   // why there are no more leases; nil while there are
}

// turn is a place in the queue for rows.
type turn struct {
	rows  int
	lease *lease
	ready chan struct{} // has room for one
}

func newRing(l *link, w *wire.Ring, memory []byte, inputs, outputs []plane) *ring {
	return &ring{
		link: l, number: w.Ring, version: w.Version, maxRows: int(w.MaxRows), inputs: inputs, outputs: outputs,
		memory: memory, rows: newRows(int(w.Slots)),
	}
}

// conn is the connection for the ring's next request.
func (r *ring) conn(ctx context.Context) (*conn, *Error) {
	c, err := r.link.conn(ctx)
	if gone := r.whyGone(); gone != nil { // known before there is another connection
		return nil, gone
	}
	return c, err
}

// acquire waits for its turn and for n adjacent rows.
func (r *ring) acquire(ctx context.Context, n int) (*lease, *Error) {
	r.mu.Lock()
	if r.gone != nil || n > r.maxRows {
		defer r.mu.Unlock()
		return nil, r.refusal(n)
	}
	if len(r.queue) == 0 {
		if l := r.lend(n); l != nil {
			r.mu.Unlock()
			return l, nil
		}
	}
	t := r.enqueue(n)
	r.mu.Unlock()
	select {
	case <-t.ready:
	case <-ctx.Done():
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.dequeue(ctx, t)
}

func (r *ring) refusal(n int) *Error {
	if r.gone != nil {
		return r.gone
	}
	return errorf(CodeTooManyRows, "rows", "%d rows; this ring takes at most %d at a time", n, r.maxRows)
}

func (r *ring) enqueue(n int) *turn {
	if len(r.turns) == 0 {
		r.turns = append(r.turns, &turn{ready: make(chan struct{}, 1)})
	}
	t := r.turns[len(r.turns)-1]
	r.turns = r.turns[:len(r.turns)-1]
	t.rows, t.lease = n, nil
	r.load.Add(int64(n))
	r.queue = append(r.queue, t)
	return t
}

// dequeue ends a turn. It has come, or the ring has gone, or the context has ended; if two at once, a lease is not
// lost.
func (r *ring) dequeue(ctx context.Context, t *turn) (*lease, *Error) {
	for i, other := range r.queue {
		if other == t {
			r.queue = append(r.queue[:i], r.queue[i+1:]...)
			r.serve() // a smaller one behind it may fit
			break
		}
	}
	select {
	case <-t.ready:
	default:
	}
	r.turns = append(r.turns, t)
	r.load.Add(-int64(t.rows))
	if t.lease != nil {
		return t.lease, nil
	}
	if r.gone != nil {
		return nil, r.gone
	}
	return nil, ended(ctx, CodeAcquireTimeout, "no adjacent free rows became free in time")
}

// serve gives rows to who is first in the queue, and then the next. Who needs many rows is not overtaken by who needs
// few.
func (r *ring) serve() {
	for len(r.queue) > 0 && r.gone == nil {
		t := r.queue[0]
		if t.lease = r.lend(t.rows); t.lease == nil {
			return
		}
		r.queue = append(r.queue[:0], r.queue[1:]...)
		t.ready <- struct{}{}
	}
}

// lend makes a lease of n rows, or returns nil if there are not so many.
func (r *ring) lend(n int) *lease {
	row := r.rows.take(n)
	if row < 0 {
		return nil
	}
	if len(r.idle) == 0 {
		r.idle = append(r.idle, newLease(r))
	}
	l := r.idle[len(r.idle)-1]
	r.idle = r.idle[:len(r.idle)-1]
	r.open++
	r.load.Add(int64(n))
	l.prepare(row, n)
	return l
}

// put takes a lease's rows back.
func (r *ring) put(l *lease) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.rows.give(l.row, l.rows)
	r.idle = append(r.idle, l)
	r.open--
	r.load.Add(-int64(l.rows))
	r.serve()
	r.hide()
}

// retire ends the ring: there are no more leases, and its memory goes when the last one is released.
func (r *ring) retire(err *Error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.gone != nil {
		return
	}
	r.gone = err
	r.retired.Store(true)
	for _, t := range r.queue {
		t.ready <- struct{}{}
	}
	r.queue = nil
	r.hide()
}

func (r *ring) hide() {
	if r.gone != nil && r.open == 0 && r.memory != nil {
		hideSegment(r.memory)
		r.memory = nil
	}
}

// whyGone is why the ring has ended; nil while it has not.
func (r *ring) whyGone() *Error {
	if !r.retired.Load() {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.gone
}
