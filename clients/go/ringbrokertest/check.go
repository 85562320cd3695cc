package ringbrokertest

import (
	"fmt"
	"slices"

	"ringbroker"
	"ringbroker/internal/wire"
)

// refusal is an error that an answer tells.
type refusal struct {
	code   ringbroker.Code
	path   string
	text   string
	needed int64 // bytes of one row, for OUTPUT_TOO_LARGE
}

func newRefusal(code ringbroker.Code, path, text string) *refusal {
	return &refusal{code: code, path: path, text: text}
}

// check makes the checks of an INFER in the order of spec section 7, behind DUPLICATE_ID.
func (s *session) check(m *wire.Infer) (*request, *refusal) {
	r := s.rings[m.Ring]
	switch {
	case r == nil:
		return nil, newRefusal(ringbroker.CodeUnknownRing, "ring", "this session has no such ring")
	case !r.attached:
		return nil, newRefusal(ringbroker.CodeRingNotAttached, "ring", "the ring waits for its ATTACHED")
	case m.Version.Set && m.Version.Value != r.model.version():
		return nil, newRefusal(ringbroker.CodeUnknownVersion, "version", "the model has no such version")
	case m.Rows > r.maxRows:
		return nil, newRefusal(ringbroker.CodeTooManyRows, "rows", "more rows than a request may have")
	case m.Slot > r.slots || m.Rows > r.slots-m.Slot:
		return nil, newRefusal(ringbroker.CodeRowsOutOfRange, "slot", "rows past the ring's end")
	}
	dims := make(map[string]uint64)
	n := len(r.model.Inputs)
	if refused := r.checkAll("inputs", m.Inputs, r.planes[:n], m, dims); refused != nil {
		return nil, refused
	}
	if m.Outputs.Set {
		if refused := r.checkAll("outputs", m.Outputs.Value, r.planes[n:], m, nil); refused != nil {
			return nil, refused
		}
	}
	if slices.Contains(r.busy[m.Slot:m.Slot+m.Rows], true) {
		return nil, newRefusal(ringbroker.CodeRowsInFlight, "slot", "a row belongs to another request")
	}
	uniform, refused := r.look(m, dims)
	if refused != nil {
		return nil, refused
	}
	q := &request{id: m.ID, ring: r, slot: m.Slot, rows: m.Rows, dims: dims, uniform: uniform, deadline: m.DeadlineNS}
	return q, nil
}

// look looks at the values of BOOL and of uniform inputs. It returns the uniform ones': requests run together only where
// they are equal.
func (r *ring) look(m *wire.Infer, dims map[string]uint64) (uniform string, refused *refusal) {
	n := len(r.model.Inputs)
	for i := range n {
		p := &r.planes[i]
		for row := m.Slot; p.tensor.DType == ringbroker.BOOL && row < m.Slot+m.Rows; row++ {
			if slices.ContainsFunc(r.bytes(p, row, dims), func(b byte) bool { return b > 1 }) {
				return "", newRefusal(ringbroker.CodeInvalidBool, fmt.Sprintf("inputs[%d]", i), "a byte is neither 0 nor 1")
			}
		}
	}
	for i := range n {
		p := &r.planes[i]
		if !slices.Contains(r.model.Uniform, p.tensor.Name) {
			continue
		}
		first := string(r.bytes(p, m.Slot, dims))
		for row := m.Slot + 1; row < m.Slot+m.Rows; row++ {
			if string(r.bytes(p, row, dims)) != first {
				return "", newRefusal(ringbroker.CodeUniformMismatch, fmt.Sprintf("inputs[%d]", i), "the rows differ")
			}
		}
		uniform += first
	}
	return uniform, nil
}

// checkAll checks the descriptors of one direction. It binds the dynamic dims; where dims is nil, all must be at their
// maximum.
func (r *ring) checkAll(field string, all []wire.Descriptor, planes []plane, m *wire.Infer, dims map[string]uint64) *refusal {
	if len(all) != len(planes) {
		text := fmt.Sprintf("%d descriptors for %d planes", len(all), len(planes))
		return newRefusal(ringbroker.CodeWrongTensorCount, field, text)
	}
	for i := range planes {
		path := fmt.Sprintf("%s[%d]", field, i)
		if refused := planes[i].check(path, all[i], m, dims); refused != nil {
			return refused
		}
	}
	return nil
}

func (p *plane) check(path string, d wire.Descriptor, m *wire.Infer, dims map[string]uint64) *refusal {
	if d.DType != p.wire.DType {
		return newRefusal(ringbroker.CodeWrongDType, path+".dtype", "not the plane's dtype")
	}
	if len(d.Shape) != 1+len(p.sample) {
		return newRefusal(ringbroker.CodeWrongRank, path+".shape", "not the plane's rank")
	}
	if d.Shape[0] != m.Rows {
		return newRefusal(ringbroker.CodeWrongDim, path+".shape[0]", "not the rows")
	}
	for i, size := range d.Shape[1:] {
		if !p.takes(i, size, dims) {
			return newRefusal(ringbroker.CodeWrongDim, fmt.Sprintf("%s.shape[%d]", path, 1+i), "not a size that this dim may have")
		}
	}
	if d.Offset != p.wire.Offset+m.Slot*p.wire.Stride {
		return newRefusal(ringbroker.CodeWrongOffset, path+".offset", "not where the plane's row begins")
	}
	return nil
}

// takes says whether dim i may have this size, and binds a dynamic one to it.
func (p *plane) takes(i int, size uint64, dims map[string]uint64) bool {
	name := p.sample[i].Name
	if name == "" || dims == nil {
		return size == p.wire.Sample[i]
	}
	if bound, ok := dims[name]; ok && bound != size {
		return false
	}
	dims[name] = size
	return size >= 1 && size <= p.wire.Sample[i]
}
