package ringbroker

import "context"

// Call runs a model of one input and one output once: it acquires rows, copies in into them, infers, and returns a copy
// of the output. in is as many rows as it has elements for, one after the other; or, where a row is one dynamic dim,
// one shorter row. To save the copies, use [Model.Acquire].
//
// Errors: WRONG_TENSOR_COUNT where the model is not such a one; WRONG_DTYPE, WRONG_DIM; and those of [Model.Acquire]
// and [Lease.Infer].
func Call[In, Out Element](ctx context.Context, m *Model, in []In) ([]Out, error) {
	r, fault := m.current(ctx)
	if fault != nil {
		return nil, fault
	}
	if len(r.inputs) != 1 || len(r.outputs) != 1 {
		const text = "Call is for one input and one output; the model has %d and %d"
		return nil, errorf(CodeWrongTensorCount, "", text, len(r.inputs), len(r.outputs))
	}
	shape := Array{Data: in}.resolve(&r.inputs[0])
	l, err := m.Acquire(ctx, shape[0])
	if err != nil {
		return nil, err
	}
	defer l.Release()
	if err := fill(l, r.inputs[0].name, shape[0], shape, in); err != nil {
		return nil, err
	}
	result, err := l.Infer(ctx)
	if err != nil {
		return nil, err
	}
	out, _, err := copyOut[Out](result.Output(r.outputs[0].name))
	return out, err
}

// Infer runs the model once: it acquires rows, copies the inputs into them, infers, and returns copies of the outputs.
// An input without a batch axis, such as a sample rate, is copied into every row. To save the copies, use
// [Model.Acquire]. Errors: WRONG_TENSOR_COUNT where the inputs are not the model's;
// WRONG_DTYPE, WRONG_RANK, WRONG_DIM; and those of [Model.Acquire] and [Lease.Infer].
func (m *Model) Infer(ctx context.Context, inputs Arrays) (Arrays, error) {
	r, fault := m.current(ctx)
	if fault != nil {
		return nil, fault
	}
	shapes, rows, fault := inputs.resolve(r.inputs)
	if fault != nil {
		return nil, fault
	}
	l, err := m.Acquire(ctx, rows)
	if err != nil {
		return nil, err
	}
	defer l.Release()
	for i, p := range r.inputs {
		if err := fillAny(l, p.name, rows, shapes[i], inputs[p.name].Data); err != nil {
			return nil, err
		}
	}
	result, err := l.Infer(ctx)
	if err != nil {
		return nil, err
	}
	outputs := make(Arrays, len(r.outputs))
	for _, p := range r.outputs {
		if outputs[p.name], err = copyOutAny(result.Output(p.name)); err != nil {
			return nil, err
		}
	}
	return outputs, nil
}
