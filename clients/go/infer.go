package ringbroker

import (
	"context"

	"ringbroker/internal/wire"
)

// Infer runs the model on the lease's rows and waits for the result. Meanwhile the rows are the broker's: write no
// input and read no output. ctx's deadline is the request's too: a request that has not begun by then is not run.
//
// When ctx ends, Infer returns at once with TIMEOUT or CANCELLED, which is also ctx's error, and asks the broker to
// drop the request. The rows stay taken until the broker answers; releasing the lease before that is fine. (spec
// section 7)
//
// Other errors: MODEL_FAILED, OUTPUT_MISMATCH, OUTPUT_TOO_LARGE, DEADLINE_EXCEEDED of the run; WRONG_DIM and others of
// section 7 for a shape that the model does not take, UNIFORM_MISMATCH and INVALID_BOOL for values; BROKER_LOST, BAD_ANSWER, CLIENT_CLOSED; LEASE_BUSY, LEASE_RELEASED. The lease can
// be used again after all of these but the last four.
//
// An inference allocates nothing.
func (l Lease) Infer(ctx context.Context) (Result, error) {
	if ctx.Err() != nil {
		return Result{}, ended(ctx, CodeTimeout, "the inference was not begun")
	}
	s, err := l.hold()
	if err != nil {
		return Result{}, err
	}
	s.inFlight, s.waiting = true, true
	s.runs++
	s.mu.Unlock()
	id, err := s.submit(ctx)
	if err != nil {
		s.settle(nil, err)
	}
	if !s.ring.conn.wait(ctx, s.done) && s.leave() {
		s.ring.conn.post(&wire.Cancel{ID: id}) // a connection that has ended needs none
		return Result{}, ended(ctx, CodeTimeout, "no answer came in time")
	}
	return s.finish(l.generation)
}

// submit sends the request. On an error nobody else settles it.
func (l *lease) submit(ctx context.Context) (uint64, *Error) {
	c := l.ring.conn
	if err := l.ring.whyGone(); err != nil {
		return 0, err
	}
	deadline, ok := ctx.Deadline()
	l.request.DeadlineNS.Set = ok
	if ok {
		l.request.DeadlineNS.Value = c.clock.deadlineNS(deadline)
	}
	id, err := c.calls.add(l)
	if err != nil {
		return 0, err
	}
	l.request.ID = id
	if err := c.post(&l.request); err != nil && c.calls.take(id) != nil {
		return 0, err
	}
	return id, nil
}

// settle takes the answer: the rows are ours again.
func (l *lease) settle(answer wire.Message, err *Error) (bad *Error) {
	l.mu.Lock()
	if err == nil {
		bad = l.accept(answer)
		err = bad
	}
	l.failure = err
	l.inFlight = false
	if !l.waiting {
		l.ring.conn.bell.unpark()
	}
	mine := l.released && !l.waiting // nobody else gives the rows back
	if l.waiting {
		l.done <- struct{}{}
	}
	if mine {
		l.released = false
	}
	l.mu.Unlock()
	if mine {
		l.ring.put(l)
	}
	return bad
}

// leave says that nobody waits for the answer, unless it is there already. The doorbell attends to it from now on.
func (l *lease) leave() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.inFlight {
		<-l.done
		return false
	}
	l.waiting = false
	l.ring.conn.bell.park()
	return true
}

// finish makes the result of an answer.
func (l *lease) finish(generation uint64) (Result, error) {
	l.mu.Lock()
	l.waiting = false
	if l.released {
		l.released = false
		l.mu.Unlock()
		l.ring.put(l)
		return Result{}, errReleased()
	}
	defer l.mu.Unlock()
	if l.failure != nil {
		return Result{}, l.failure
	}
	return l.describe(generation), nil
}

// accept checks a RESULT against the planes, and keeps what it says.
func (l *lease) accept(answer wire.Message) *Error {
	m, ok := answer.(*wire.Result)
	if !ok || !m.Last {
		return badAnswer("INFER is answered by something else than its last RESULT")
	}
	if len(m.Outputs) != len(l.ring.outputs) {
		return badAnswer("a RESULT of %d outputs, not %d", len(m.Outputs), len(l.ring.outputs))
	}
	for i := range m.Outputs {
		d, p := &m.Outputs[i], &l.ring.outputs[i]
		if d.DType != p.dtype.String() || d.Offset != p.offset+uint64(l.row)*p.stride || !p.isShapeOf(&l.request, d.Shape) {
			return badAnswer("outputs[%d] is not what the request's rows can have", i)
		}
	}
	l.keep(m)
	return nil
}

// keep copies a RESULT into the lease's own, whose memory is used again.
func (l *lease) keep(m *wire.Result) {
	kept := &l.result
	if kept.Outputs == nil {
		kept.Outputs = make([]wire.Descriptor, len(m.Outputs))
	}
	for i := range m.Outputs {
		kept.Outputs[i].Shape = append(kept.Outputs[i].Shape[:0], m.Outputs[i].Shape...)
	}
	kept.Version, kept.Timings, kept.BatchRows = m.Version, m.Timings, m.BatchRows
}
