package ringbrokertest

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"ringbroker"
	"ringbroker/internal/wire"
)

// request is an INFER that has passed its checks and has not begun.
type request struct {
	id         uint64
	ring       *ring
	slot, rows uint64
	dims       map[string]uint64
	uniform    string // the values of the uniform inputs
	deadline   wire.Opt[uint64]
	received   time.Time
}

func (s *session) infer(m *wire.Infer) {
	if slices.ContainsFunc(s.queue, func(r *request) bool { return r.id == m.ID }) {
		s.end(ringbroker.CodeDuplicateID, "id", "the id is in flight")
		return
	}
	r, refused := s.check(m)
	if refused == nil {
		refused = s.broker.noteRequest()
	}
	if refused != nil {
		s.refuse(m.ID, refused)
		return
	}
	r.received = time.Now()
	r.ring.claim(r.slot, r.rows, true)
	s.queue = append(s.queue, r)
}

// cancel drops requests that have not begun.
func (s *session) cancel(which func(*request) bool) {
	s.drop(which, newRefusal(ringbroker.CodeCancelled, "", "the request was cancelled"))
}

func (s *session) drop(which func(*request) bool, why *refusal) {
	kept := s.queue[:0]
	for _, r := range s.queue {
		if !which(r) {
			kept = append(kept, r)
			continue
		}
		r.ring.claim(r.slot, r.rows, false)
		s.refuse(r.id, why)
	}
	s.queue = kept
}

// run runs what waits, batch by batch.
func (s *session) run() {
	for len(s.queue) > 0 && !s.held && !s.ended {
		now := s.broker.now()
		s.drop(func(r *request) bool { return r.deadline.Set && r.deadline.Value <= now },
			newRefusal(ringbroker.CodeDeadlineExceeded, "", "the deadline passed before the request was run"))
		if len(s.queue) > 0 {
			s.runBatch(s.gather())
		}
	}
}

// gather takes the first request and every one that makes its rows a longer run of the same shape.
func (s *session) gather() []*request {
	batch := []*request{s.queue[0]}
	s.queue = s.queue[1:]
	begin, end := batch[0].slot, batch[0].slot+batch[0].rows
	for i := 0; i < len(s.queue); i++ {
		r := s.queue[i]
		fits := r.ring == batch[0].ring && end-begin+r.rows <= r.ring.maxRows
		fits = fits && maps.Equal(r.dims, batch[0].dims) && r.uniform == batch[0].uniform
		if !fits || r.slot != end && r.slot+r.rows != begin {
			continue
		}
		begin, end = min(begin, r.slot), max(end, r.slot+r.rows)
		batch = append(batch, r)
		s.queue = slices.Delete(s.queue, i, i+1)
		i = -1 // the run is longer: look from the front again
	}
	return batch
}

func (s *session) runBatch(requests []*request) {
	first := requests[0]
	b := &Batch{ring: first.ring, slot: int(first.slot), dims: maps.Clone(first.dims)}
	for _, r := range requests {
		b.slot = min(b.slot, int(r.slot))
		b.rows += int(r.rows)
	}
	outputs := first.ring.planes[len(first.ring.model.Inputs):]
	begin := time.Now()
	err := first.ring.model.Run(b)
	compute := time.Since(begin)
	for _, r := range requests {
		r.ring.claim(r.slot, r.rows, false)
		if err != nil {
			s.refuse(r.id, refusalOf(err))
			continue
		}
		answer := &wire.Result{ID: r.id, Last: true, Version: r.ring.model.version(), BatchRows: uint64(b.rows)}
		answer.Timings = wire.Timings{QueueNS: uint64(begin.Sub(r.received)), ComputeNS: uint64(compute)}
		for i := range outputs {
			answer.Outputs = append(answer.Outputs, outputs[i].descriptor(r.slot, r.rows, b.dims))
		}
		s.reply(answer)
	}
}

func refusalOf(err error) *refusal {
	var own *ringbroker.Error
	if errors.As(err, &own) {
		return &refusal{own.Code, own.Path, own.Text, own.NeededBytes}
	}
	return newRefusal(ringbroker.CodeModelFailed, "", fmt.Sprintf("the model failed: %T", err))
}
