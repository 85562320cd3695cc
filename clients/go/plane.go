package ringbroker

import (
	"math"

	"ringbroker/internal/wire"
)

const pageBytes = 4096

// plane is all the rows of one input or output of a ring, checked against the segment it lies in (spec section 6).
type plane struct {
	name     string
	dtype    DType
	sample   []uint64 // the largest shape of one row
	elements uint64   // of one row
	offset   uint64
	stride   uint64

	batched bool     // of an input: whether it has a batch axis; where not, its rows are equal
	sizes   []sizeOf // of an output: what decides each dim of a row
}

// checkPlanes checks everything that the broker says of a ring's memory, and returns its inputs and its outputs.
func checkPlanes(r *wire.Ring, limits wire.Limits) (inputs, outputs []plane, err *Error) {
	bytes := r.Segment.Bytes
	if bytes < pageBytes || bytes > math.MaxInt || r.Slots > limits.Slots || r.Slots > math.MaxInt32 || r.MaxRows > r.Slots {
		return nil, nil, badAnswer("a ring of %d slots, %d rows and %d bytes", r.Slots, r.MaxRows, bytes)
	}
	for i, w := range r.Planes {
		p, ok := checkPlane(w, r.Slots, bytes)
		if !ok || overlapsAny(p, inputs, r.Slots) || overlapsAny(p, outputs, r.Slots) {
			return nil, nil, badAnswer("planes[%d] does not fit its ring", i)
		}
		side := &inputs
		if w.Direction == "out" {
			side = &outputs
		}
		if indexOfPlane(*side, p.name) >= 0 {
			return nil, nil, badAnswer("planes[%d] has the name of another", i)
		}
		*side = append(*side, p)
	}
	return inputs, outputs, nil
}

// checkPlane checks that a plane's stride is its sample's bytes and that its rows lie inside the segment, behind the
// header.
func checkPlane(w wire.Plane, slots, bytes uint64) (plane, bool) {
	dtype, err := ParseDType(w.DType)
	if err != nil || w.Device != "cpu" || w.Direction != "in" && w.Direction != "out" {
		return plane{}, false
	}
	stride, ok := dtype.Bytes(w.Sample...)
	if !ok || stride != w.Stride || w.Offset%pageBytes != 0 || w.Offset < pageBytes || w.Offset > bytes {
		return plane{}, false
	}
	if stride > 0 && slots > (bytes-w.Offset)/stride {
		return plane{}, false
	}
	p := plane{name: w.Name, dtype: dtype, sample: w.Sample, offset: w.Offset, stride: stride}
	p.elements = stride / uint64(dtype.Size())
	return p, true
}

func overlapsAny(p plane, others []plane, slots uint64) bool {
	for _, o := range others {
		if p.offset < o.offset+slots*o.stride && o.offset < p.offset+slots*p.stride {
			return true
		}
	}
	return false
}

func indexOfPlane(planes []plane, name string) int {
	for i := range planes {
		if planes[i].name == name {
			return i
		}
	}
	return -1
}

// isShapeOf says whether [rows, *dims] is a shape that the answer to this request may tell for the plane's output.
func (p *plane) isShapeOf(request *wire.Infer, shape []uint64) bool {
	if len(shape) != 1+len(p.sample) || shape[0] != request.Rows {
		return false
	}
	for i, dim := range shape[1:] {
		size := p.sample[i]
		switch from := p.sizes[i]; from.kind {
		case ofInput:
			size = request.Inputs[from.input].Shape[1+from.axis]
		case open:
			size = min(size, dim)
		}
		if dim != size {
			return false
		}
	}
	return true
}

// count is the elements of one row of that shape. No dim is over the plane's, so the product cannot overflow.
func count(shape []uint64) uint64 {
	n := uint64(1)
	for _, dim := range shape[1:] {
		n *= dim
	}
	return n
}
