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
// Where the connection is lost, or sent away by the broker, the client connects again, and the lease goes on with its
// rows and what is in them. A request that was in flight then is BROKER_LOST, and may be made again with the same lease;
// or [Repost] does that; or it is EXECUTION_TIMEOUT, where that is why its worker was ended. A lease whose ring did not
// outlive the connection is BROKER_LOST, or SIGNATURE_CHANGED, in every later Infer: its inputs can still be read, to be
// copied into a new lease.
//
// Other errors: MODEL_FAILED, OUTPUT_MISMATCH, OUTPUT_TOO_LARGE, DEADLINE_EXCEEDED of the run; UNKNOWN_VERSION;
// WRONG_DIM and others of section 7 for a shape that the model does not take, UNIFORM_MISMATCH and INVALID_BOOL for
// values; BAD_ANSWER, CLIENT_CLOSED; LEASE_BUSY, LEASE_RELEASED. The lease can be used again after all of these but the
// last four.
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
	for sent := 0; ; {
		id, isSent := s.submit(ctx)
		if !isSent {
			<-s.done
		} else if sent++; !s.conn.wait(ctx, s.done) && s.leave() {
			s.conn.post(&wire.Cancel{ID: id}) // a connection that has ended needs none
			return Result{}, ended(ctx, CodeTimeout, "no answer came in time")
		}
		if !s.isToBeSent(ctx, isSent, sent) {
			return s.finish(l.generation)
		}
	}
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
		l.conn.bell.unpark()
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
	l.conn.bell.park()
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
