package ringbroker

import (
	"context"
	"sync/atomic"

	"ringbroker/internal/wire"
)

// ring is the slots of a model, in one session. It outlives the session's connections. The client decides which rows a
// lease gets; that costs no message. Who waits for rows waits in the model's queue.
type ring struct {
	link    *link
	queue   *queue
	number  uint64
	version string
	maxRows int
	inputs  []plane
	outputs []plane
	reposts bool         // lost requests are sent again
	retired atomic.Bool  // gone is set
	load    atomic.Int64 // rows that are taken

	// Under queue.mu.
	memory []byte // nil once hidden
	rows   rows
	idle   []*lease // to be used again
	open   int      // leases whose rows are taken
	gone   *Error   // why there are no more leases; nil while there are
}

func newRing(l *link, q *queue, w *wire.Ring, memory []byte, inputs, outputs []plane) *ring {
	return &ring{
		link: l, queue: q, number: w.Ring, version: w.Version, maxRows: int(w.MaxRows), inputs: inputs, outputs: outputs,
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

func (r *ring) refusal(n int) *Error {
	if r.gone != nil {
		return r.gone
	}
	return errorf(CodeTooManyRows, "rows", "%d rows; this ring takes at most %d at a time", n, r.maxRows)
}

// lend makes a lease of n rows, or returns nil if there are not so many.
func (r *ring) lend(n int) *lease {
	if n > r.maxRows {
		return nil
	}
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
	r.queue.mu.Lock()
	defer r.queue.mu.Unlock()
	r.rows.give(l.row, l.rows)
	r.idle = append(r.idle, l)
	r.open--
	r.load.Add(-int64(l.rows))
	r.queue.serve()
	r.hide()
}

// retire ends the ring: there are no more leases, and its memory goes when the last one is released.
func (r *ring) retire(err *Error) {
	r.queue.mu.Lock()
	defer r.queue.mu.Unlock()
	if r.gone != nil {
		return
	}
	r.gone = err
	r.retired.Store(true)
	r.queue.remove(r)
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
	r.queue.mu.Lock()
	defer r.queue.mu.Unlock()
	return r.gone
}
