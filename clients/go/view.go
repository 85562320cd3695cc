package ringbroker

import "unsafe"

// Element is a Go type that a tensor's elements can be seen as.
type Element interface {
	bool | uint8 | int8 | uint16 | int16 | uint32 | int32 | uint64 | int64 | float32 | float64
}

// View is the tensor's elements as a slice in shared memory, C-ordered, rows first: no copy and no allocation. What is
// written to an input's view is what the model reads; an output's view is where the model wrote.
//
// The slice aliases the ring. It is valid until the lease is released, an output's until the lease's next Infer; do not
// touch it while an Infer is in flight. A slice that is kept longer sees another lease's data, or zeros once the ring
// has closed, and never memory of anything else.
//
// Errors: WRONG_DTYPE where T is not the tensor's type (F16 and BF16 are seen as uint16); WRONG_DIM where the rows are
// not one slice, being several and shorter than the ring's (use [Tensor.Row]); and those of [Lease.Input] and [Result.Output].
func View[T Element](t Tensor) ([]T, error) {
	if t.err == nil && dtypes[t.DType().index()].element != elementName[T]() {
		t.err = errorf(CodeWrongDType, t.name(), "the elements are %s, not %s", t.DType(), elementName[T]())
	}
	b, err := t.bytes()
	if err != nil {
		return nil, err
	}
	var zero T
	return unsafe.Slice((*T)(unsafe.Pointer(unsafe.SliceData(b))), len(b)/int(unsafe.Sizeof(zero))), nil
}

func (t Tensor) name() string {
	if t.plane == nil {
		return ""
	}
	return t.plane.name
}

func elementName[T Element]() string {
	var zero T
	switch any(zero).(type) {
	case bool:
		return "bool"
	case uint8:
		return "uint8"
	case int8:
		return "int8"
	case uint16:
		return "uint16"
	case int16:
		return "int16"
	case uint32:
		return "uint32"
	case int32:
		return "int32"
	case uint64:
		return "uint64"
	case int64:
		return "int64"
	case float32:
		return "float32"
	}
	return "float64"
}
