package ringbroker

// ring is what the model's properties are those of: any of its rings, the last one where it is gone.
func (m *Model) ring() *ring { return m.seats[0].ring.Load() }

// Name is the model's name.
func (m *Model) Name() string { return m.options.open.Model }

// Version is the version that answers a request that asks for none, where no other has a share.
func (m *Model) Version() string { return m.ring().version }

// Slots is how many rows each of the model's rings has: one, or as many as [Conns] says.
func (m *Model) Slots() int { return m.ring().rows.count }

// MaxRows is the most rows of one lease.
func (m *Model) MaxRows() int { return m.ring().maxRows }

// PlaneInfo describes an input or output as this ring holds it.
type PlaneInfo struct {
	Name   string
	DType  DType
	Sample []int // the shape of one row, with dynamic dims at the ring's maximum
}

// Inputs are the model's inputs, in the signature's order.
func (m *Model) Inputs() []PlaneInfo { return describePlanes(m.ring().inputs) }

// Outputs are the model's outputs, in the signature's order.
func (m *Model) Outputs() []PlaneInfo { return describePlanes(m.ring().outputs) }

func describePlanes(planes []plane) []PlaneInfo {
	all := make([]PlaneInfo, len(planes))
	for i, p := range planes {
		all[i] = PlaneInfo{Name: p.name, DType: p.dtype, Sample: make([]int, len(p.sample))}
		for at, dim := range p.sample {
			all[i].Sample[at] = int(dim)
		}
	}
	return all
}
