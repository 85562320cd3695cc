package ringbroker

import (
	"context"
	"slices"
	"sync"
)

// queue is who waits for rows of a model, in order of arrival. They get the first that are free, of any of its rings;
// who needs many rows is not overtaken by who needs few.
type queue struct {
	mu      sync.Mutex // also of the rings
	rings   []*ring    // that have not ended
	waiting []*turn
	turns   []*turn // to be used again
}

// turn is a place in the queue.
type turn struct {
	rows  int
	lease *lease
	told  bool          // that a ring has ended: begin anew
	ready chan struct{} // has room for one
}

// acquire waits for n adjacent rows, of r if it has them at once. Where a ring ends meanwhile there is neither a lease nor
// an error.
func (q *queue) acquire(ctx context.Context, r *ring, n int) (*lease, *Error) {
	q.mu.Lock()
	if r.gone != nil || n > r.maxRows {
		defer q.mu.Unlock()
		return nil, r.refusal(n)
	}
	if len(q.waiting) == 0 {
		if l := r.lend(n); l != nil {
			q.mu.Unlock()
			return l, nil
		}
	}
	t := q.enqueue(n)
	q.serve() // another ring may have them
	q.mu.Unlock()
	select {
	case <-t.ready:
	case <-ctx.Done():
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.dequeue(ctx, t)
}

func (q *queue) enqueue(n int) *turn {
	if len(q.turns) == 0 {
		q.turns = append(q.turns, &turn{ready: make(chan struct{}, 1)})
	}
	t := q.turns[len(q.turns)-1]
	q.turns = q.turns[:len(q.turns)-1]
	t.rows, t.lease, t.told = n, nil, false
	q.waiting = append(q.waiting, t)
	return t
}

// dequeue ends a turn. It has come, or a ring has ended, or the context has; if two at once, a lease is not lost.
func (q *queue) dequeue(ctx context.Context, t *turn) (*lease, *Error) {
	if i := slices.Index(q.waiting, t); i >= 0 {
		q.waiting = slices.Delete(q.waiting, i, i+1)
		q.serve() // a smaller one behind it may fit
	}
	select {
	case <-t.ready:
	default:
	}
	q.turns = append(q.turns, t)
	if t.lease != nil || t.told {
		return t.lease, nil
	}
	return nil, ended(ctx, CodeAcquireTimeout, "no adjacent free rows became free in time")
}

// serve gives rows to who is first, and then the next.
func (q *queue) serve() {
	for len(q.waiting) > 0 {
		t := q.waiting[0]
		for _, r := range q.rings {
			if t.lease = r.lend(t.rows); t.lease != nil {
				break
			}
		}
		if t.lease == nil {
			return
		}
		q.waiting = slices.Delete(q.waiting, 0, 1)
		t.ready <- struct{}{}
	}
}

// add takes a new ring, whose rows go to who waits.
func (q *queue) add(r *ring) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if r.gone == nil {
		q.rings = append(q.rings, r)
		q.serve()
	}
}

// remove forgets a ring that has ended. Who waits begins anew, so that somebody opens another.
func (q *queue) remove(r *ring) {
	i := slices.Index(q.rings, r)
	if i < 0 {
		return
	}
	q.rings = slices.Delete(q.rings, i, i+1)
	for _, t := range q.waiting {
		t.told = true
		t.ready <- struct{}{}
	}
	q.waiting = nil
}
