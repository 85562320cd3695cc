package ringbrokertest

import (
	"slices"

	"ringbroker"
	"ringbroker/internal/wire"
)

// ring is what a session opened.
type ring struct {
	*segment
	number   uint64
	model    *Model
	slots    uint64
	maxRows  uint64
	planes   []plane // inputs, then outputs
	attached bool
	busy     []bool // rows that are in flight
}

// plane is one of its planes.
type plane struct {
	wire   wire.Plane
	tensor *Tensor
	sample []ringbroker.Dim
}

// shape is a row's shape where the dynamic dims have these sizes; the largest where one has none.
func (p *plane) shape(dims map[string]uint64) []uint64 {
	shape := slices.Clone(p.wire.Sample)
	for i, d := range p.sample {
		if size, ok := dims[d.Name]; ok && d.Name != "" {
			shape[i] = size
		}
	}
	return shape
}

// bytes is one row of a plane, of its actual shape.
func (r *ring) bytes(p *plane, row uint64, dims map[string]uint64) []byte {
	size := uint64(p.tensor.DType.Size())
	for _, dim := range p.shape(dims) {
		size *= dim
	}
	return r.memory[p.wire.Offset+row*p.wire.Stride:][:size]
}

func (p *plane) descriptor(slot, rows uint64, dims map[string]uint64) wire.Descriptor {
	return wire.Descriptor{
		Offset: p.wire.Offset + slot*p.wire.Stride, Shape: append([]uint64{rows}, p.shape(dims)...), DType: p.wire.DType,
	}
}

// open makes the ring that an OPEN asks for, or says why not.
func (s *session) open(m *wire.Open) (*ring, *refusal) {
	model := s.model(m.Model)
	if model == nil {
		return nil, newRefusal(ringbroker.CodeUnknownModel, "model", "there is no such model")
	}
	if model.pool() != s.pool {
		return nil, newRefusal(ringbroker.CodeWrongPool, "model", "the model is in another pool")
	}
	if m.Version.Set && m.Version.Value != model.version() {
		return nil, newRefusal(ringbroker.CodeUnknownVersion, "version", "the model has no such version")
	}
	dims, refused := model.maxima(m.Maxima)
	if refused != nil {
		return nil, refused
	}
	slots := m.Slots
	if slots == 0 {
		slots = defaultSlots
	}
	if slots > maxSlots {
		return nil, newRefusal(ringbroker.CodeTooManySlots, "slots", "more slots than a ring may have")
	}
	if len(s.rings) >= maxRings {
		return nil, newRefusal(ringbroker.CodeTooManyRings, "", "the session has as many rings as it may have")
	}
	r := &ring{model: model, slots: slots, maxRows: min(slots, uint64(model.maxBatch())), busy: make([]bool, slots)}
	if !model.isBatched() {
		r.maxRows = 1
	}
	return r, r.place(dims, s.kind)
}

// place lays the ring's planes out and makes its segment.
func (r *ring) place(dims map[string]uint64, kind string) *refusal {
	var planes []wire.Plane
	for _, side := range []struct {
		direction string
		tensors   []Tensor
	}{{"in", r.model.Inputs}, {"out", r.model.Outputs}} {
		for i := range side.tensors {
			t := &side.tensors[i]
			p := plane{tensor: t, sample: t.sample()}
			w := wire.Plane{Name: t.Name, Direction: side.direction, DType: t.DType.String(), Device: "cpu"}
			w.BatchAxis = t.batchAxis()
			for _, d := range p.sample {
				size := uint64(d.Size)
				if d.Name != "" {
					size = dims[d.Name]
				}
				w.Sample = append(w.Sample, size)
			}
			r.planes, planes = append(r.planes, p), append(planes, w)
		}
	}
	bytes, ok := layOut(r.slots, planes)
	if !ok || bytes > maxSegmentBytes {
		return newRefusal(ringbroker.CodeRingTooLarge, "", "the ring would be too large")
	}
	for i := range planes {
		r.planes[i].wire = planes[i]
	}
	var err error
	if r.segment, err = newSegment(bytes, kind); err != nil {
		return newRefusal(ringbroker.CodeSHMFull, "", "there is no room for the ring")
	}
	return nil
}

// maxima are the sizes of the dynamic dims in a ring.
func (m *Model) maxima(asked map[string]uint64) (map[string]uint64, *refusal) {
	for name := range asked {
		if _, ok := m.Dims[name]; !ok {
			return nil, newRefusal(ringbroker.CodeUnknownDim, "maxima."+name, "the model has no such dim")
		}
	}
	dims := make(map[string]uint64)
	for name, own := range m.Dims {
		size, ok := asked[name]
		switch {
		case !ok && own == 0:
			return nil, newRefusal(ringbroker.CodeMaximumMissing, "maxima."+name, "the model leaves this dim to the client")
		case !ok:
			size = uint64(own)
		case size == 0 || own > 0 && size > uint64(own):
			return nil, newRefusal(ringbroker.CodeMaximumTooLarge, "maxima."+name, "0, or more than the model's own")
		}
		dims[name] = size
	}
	return dims, nil
}

func (r *ring) describe(id uint64) *wire.Ring {
	m := &wire.Ring{ID: id, Ring: r.number, Slots: r.slots, MaxRows: r.maxRows, Version: r.model.version()}
	m.Segment = wire.Segment{Kind: "fd", Bytes: uint64(len(r.memory))}
	if r.path != "" {
		m.Segment.Kind, m.Segment.Path = "path", wire.Some(r.path)
	}
	m.Options.Stateful = wire.Opt[bool]{Value: true, Set: r.model.Stateful}
	for i := range r.planes {
		m.Planes = append(m.Planes, r.planes[i].wire)
	}
	return m
}

// claim marks rows as in flight, or gives them back.
func (r *ring) claim(slot, rows uint64, busy bool) {
	for i := slot; i < slot+rows; i++ {
		r.busy[i] = busy
	}
}
