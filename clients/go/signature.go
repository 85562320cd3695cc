package ringbroker

import (
	"slices"

	"ringbroker/internal/wire"
)

// sizeOf says what decides the size of one dim of a result (spec section 7).
type sizeOf struct {
	kind        sizeKind
	input, axis int // ofInput: of which input, and which dim of its row
}

type sizeKind uint8

const (
	fixed   sizeKind = iota // the plane
	ofInput                 // the request: it is a dim of an input too
	open                    // the model: it is no input's, and told by each RESULT
)

// matchSignature checks that a ring's planes are those of the model's inputs and then of its outputs, that fixed dims
// have their size, and that dims of one name have one. It notes what the signature knows and the planes do not say.
func matchSignature(r *wire.Ring, s *wire.Signature, inputs, outputs []plane) *Error {
	if len(inputs) != len(s.Inputs) || len(outputs) != len(s.Outputs) {
		return badAnswer("a ring of %d inputs and %d outputs", len(inputs), len(outputs))
	}
	sizes := make(map[string]uint64)
	for i := range r.Planes {
		t, direction := &wire.Tensor{}, "in"
		if i < len(s.Inputs) {
			t = &s.Inputs[i]
		} else {
			t, direction = &s.Outputs[i-len(s.Inputs)], "out"
		}
		if w := &r.Planes[i]; w.Direction != direction || !isPlaneOf(w, t, sizes) {
			return badAnswer("planes[%d] is not that of the model's tensor", i)
		}
	}
	for i := range inputs {
		inputs[i].batched = s.Inputs[i].BatchAxis.Set
	}
	for i := range outputs {
		for _, dim := range rowOf(&s.Outputs[i]) {
			outputs[i].sizes = append(outputs[i].sizes, decide(dim, s.Inputs))
		}
	}
	return nil
}

// serves says whether who knows the one signature can use a model that has the other: it takes the same inputs, and all
// of the known outputs are there. (The maxima of its dims are another matter: they are those of each ring.)
func serves(now, known *wire.Signature) bool {
	for i := range known.Outputs {
		isIt := func(t wire.Tensor) bool { return isSameTensor(t, known.Outputs[i]) }
		if !slices.ContainsFunc(now.Outputs, isIt) {
			return false
		}
	}
	return slices.EqualFunc(now.Inputs, known.Inputs, isSameTensor)
}

func isSameTensor(a, b wire.Tensor) bool {
	return a.Name == b.Name && a.DType == b.DType && axisOf(a.BatchAxis) == axisOf(b.BatchAxis) && slices.Equal(a.Shape, b.Shape)
}

// isPlaneOf compares a plane with its tensor. It notes the sizes of dynamic dims, or compares them.
func isPlaneOf(w *wire.Plane, t *wire.Tensor, sizes map[string]uint64) bool {
	if w.Name != t.Name || w.DType != t.DType || axisOf(w.BatchAxis) != axisOf(t.BatchAxis) {
		return false
	}
	dims := rowOf(t)
	if len(dims) != len(w.Sample) {
		return false
	}
	for i, dim := range dims {
		size := dim.Size
		if dim.IsNamed {
			if _, ok := sizes[dim.Name]; !ok {
				sizes[dim.Name] = w.Sample[i]
			}
			size = sizes[dim.Name]
		}
		if w.Sample[i] != size {
			return false
		}
	}
	return true
}

func axisOf(batch wire.Opt[uint16]) int {
	if !batch.Set {
		return -1
	}
	return int(batch.Value)
}

// rowOf is a tensor's dims without its batch axis: those of one row.
func rowOf(t *wire.Tensor) []wire.Dim {
	var dims []wire.Dim
	for axis, dim := range t.Shape {
		if axis != axisOf(t.BatchAxis) {
			dims = append(dims, dim)
		}
	}
	return dims
}

// decide finds what decides the size of an output's dim.
func decide(dim wire.Dim, inputs []wire.Tensor) sizeOf {
	if !dim.IsNamed {
		return sizeOf{}
	}
	for i := range inputs {
		for axis, other := range rowOf(&inputs[i]) {
			if other == dim {
				return sizeOf{ofInput, i, axis}
			}
		}
	}
	return sizeOf{kind: open}
}
