package ringbroker

import "time"

// Result is the answer of an inference. Its tensors are the lease's: they are valid until the lease's next Infer or its
// release.
type Result struct {
	Version   string        // of the model that answered
	Queue     time.Duration // from the broker's receipt to the start of the batch
	Compute   time.Duration // of the model's run
	BatchRows int           // the rows of the batch that it ran in

	state      *lease
	generation uint64
	run        uint64
}

func (l *lease) describe(generation uint64) Result {
	m := &l.result
	return Result{
		Version: m.Version, Queue: time.Duration(m.Timings.QueueNS), Compute: time.Duration(m.Timings.ComputeNS),
		BatchRows: int(m.BatchRows), state: l, generation: generation, run: l.runs,
	}
}

// Output is an output of this result, of its actual shape: a dim that is no input's has the size that the model gave it,
// which may be 0. What is wrong with it is told by its view: INVALID_FIELD
// where the model has no such output; LEASE_RELEASED after the lease's next Infer or its release; LEASE_BUSY while one
// is in flight.
func (r Result) Output(name string) Tensor {
	s, err := Lease{r.state, r.generation}.hold()
	if err != nil {
		return Tensor{err: err}
	}
	defer s.mu.Unlock()
	i := indexOfPlane(s.ring.outputs, name)
	if i < 0 {
		return Tensor{err: errNoTensor(name, s.ring.outputs)}
	}
	shape := s.result.Outputs[i].Shape
	return Tensor{lease: Lease{s, r.generation}, run: r.run, plane: &s.ring.outputs[i], shape: shape, row: allRows}
}
