package ringbroker

import "strings"

// Tensor is an input of a lease or an output of a result, in shared memory; [View] makes a slice of it. It is a small
// value.
type Tensor struct {
	lease Lease
	plane *plane
	shape []uint64 // [rows, *dims]; the lease's own, so it follows SetShape
	run   uint64   // the inference that an output belongs to; 0 for an input
	row   int      // or allRows
	err   *Error   // told by every use
}

const allRows = -1

func errNoTensor(name string, planes []plane) *Error {
	names := make([]string, len(planes))
	for i := range planes {
		names[i] = planes[i].name
	}
	return errorf(CodeInvalidField, name, "there is no tensor of that name here; there are %s", strings.Join(names, ", "))
}

// Input is an input of the lease, of the shape that the request will have: the ring's largest, or what SetShape said.
// What is wrong with it is told by its view: INVALID_FIELD where the model has no such input; LEASE_RELEASED,
// LEASE_BUSY.
func (l Lease) Input(name string) Tensor {
	s, err := l.hold()
	if err != nil {
		return Tensor{err: err}
	}
	defer s.mu.Unlock()
	i := indexOfPlane(s.ring.inputs, name)
	if i < 0 {
		return Tensor{err: errNoTensor(name, s.ring.inputs)}
	}
	return Tensor{lease: l, plane: &s.ring.inputs[i], shape: s.request.Inputs[i].Shape, row: allRows}
}

// DType is the type of the tensor's elements; 0 if it has an error.
func (t Tensor) DType() DType {
	if t.plane == nil {
		return 0
	}
	return t.plane.dtype
}

// Shape is the tensor's shape, rows first; without them for a [Tensor.Row]. It is nil if the tensor has an error.
func (t Tensor) Shape() []int {
	s, err := t.hold()
	if err != nil {
		return nil
	}
	defer s.mu.Unlock()
	var shape []int
	for _, dim := range t.shape {
		shape = append(shape, int(dim))
	}
	if t.row != allRows {
		return shape[1:]
	}
	return shape
}

// Row is row i of the tensor, from 0. What is wrong with it is told by its view: WRONG_DIM where there is no such row.
func (t Tensor) Row(i int) Tensor {
	if t.err == nil {
		t.row = max(i, 0)
		if i < 0 {
			t.err = errorf(CodeWrongDim, t.plane.name, "there is no row %d", i)
		}
	}
	return t
}

// Bytes is the tensor's memory: no copy. It aliases the ring as [View] does, and has the same errors but WRONG_DTYPE.
func (t Tensor) Bytes() ([]byte, error) {
	b, err := t.bytes()
	if err != nil {
		return nil, err
	}
	return b, nil
}

// hold locks the lease's state if the tensor may be used.
func (t Tensor) hold() (*lease, *Error) {
	if t.err != nil {
		return nil, t.err
	}
	s, err := t.lease.hold()
	if err != nil {
		return nil, err
	}
	if t.run != 0 && t.run != s.runs {
		s.mu.Unlock()
		return nil, errorf(CodeLeaseReleased, t.plane.name, "the lease has begun another inference since this result")
	}
	return s, nil
}

// bytes is the memory of the tensor's elements: of one row, or of all of them where they are one piece.
func (t Tensor) bytes() ([]byte, *Error) {
	s, err := t.hold()
	if err != nil {
		return nil, err
	}
	defer s.mu.Unlock()
	p, row, rows, elements := t.plane, uint64(max(t.row, 0)), t.shape[0], count(t.shape)
	switch {
	case row >= rows:
		return nil, errorf(CodeWrongDim, p.name, "there is no row %d of %d", row, rows)
	case t.row != allRows:
		rows = 1
	case rows > 1 && elements != p.elements && elements > 0:
		return nil, errorf(CodeWrongDim, p.name, "rows shorter than the ring's are not one slice: use Row")
	}
	begin := p.offset + (uint64(s.row)+row)*p.stride
	end := begin + rows*elements*uint64(p.dtype.Size())
	return s.ring.memory[begin:end:end], nil
}
