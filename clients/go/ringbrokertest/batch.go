package ringbrokertest

import (
	"fmt"
	"unsafe"

	"ringbroker"
)

// Batch is what a model runs on: adjacent rows of one ring, whose dynamic dims are the same. It is valid during Run.
type Batch struct {
	ring *ring
	slot int
	rows int
	dims map[string]uint64
}

// Rows is how many rows the batch has, of one or several requests. A uniform input is the same in all of them.
func (b *Batch) Rows() int { return b.rows }

// Dim is the size of a dynamic dim in this batch; of an open one, which is no input's, what SetDim said.
func (b *Batch) Dim(name string) int { return int(b.dims[name]) }

// SetDim gives an open dim its size in this batch: call it before [Output], which is at the ring's maximum else. Its
// error, for Run to return, is OUTPUT_TOO_LARGE where an output would be larger than its plane.
func (b *Batch) SetDim(name string, size int) error {
	b.dims[name] = uint64(size)
	n := len(b.ring.model.Inputs)
	for i := range b.ring.planes[n:] {
		p := &b.ring.planes[n+i]
		needed, fits := int64(p.tensor.DType.Size()), true
		for axis, dim := range p.shape(b.dims) {
			needed *= int64(dim)
			fits = fits && dim <= p.wire.Sample[axis]
		}
		if !fits {
			path, text := fmt.Sprintf("outputs[%d]", i), "the output is larger than its plane"
			return &ringbroker.Error{Code: ringbroker.CodeOutputTooLarge, Path: path, Text: text, NeededBytes: needed}
		}
	}
	return nil
}

// Input is one row of an input, of its actual shape: the ring's memory. It panics where the model has no such input, or
// T is not its type.
func Input[T ringbroker.Element](b *Batch, name string, row int) []T {
	return see[T](b, "in", name, row)
}

// Output is one row of an output, as Input.
func Output[T ringbroker.Element](b *Batch, name string, row int) []T {
	return see[T](b, "out", name, row)
}

func see[T ringbroker.Element](b *Batch, direction, name string, row int) []T {
	var zero T
	for i := range b.ring.planes {
		p := &b.ring.planes[i]
		if p.wire.Name != name || p.wire.Direction != direction {
			continue
		}
		if p.tensor.DType.Size() != int(unsafe.Sizeof(zero)) || row < 0 || row >= b.rows {
			panic(fmt.Sprintf("ringbrokertest: %s is %s, and the batch has %d rows", name, p.tensor.DType, b.rows))
		}
		elements := uint64(1)
		for _, dim := range p.shape(b.dims) {
			elements *= dim
		}
		if elements == 0 {
			return nil
		}
		at := p.wire.Offset + uint64(b.slot+row)*p.wire.Stride
		return unsafe.Slice((*T)(unsafe.Pointer(&b.ring.memory[at])), elements)
	}
	panic(fmt.Sprintf("ringbrokertest: the model has no %sput %s", direction, name))
}
