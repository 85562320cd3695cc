package wire

// Descriptor says where in a segment one tensor is.
type Descriptor struct {
	Offset uint64
	Shape  []uint64
	DType  string
}

func codeShape(c *codec, name string, s *[]uint64) { codeList(c, name, s, 16, codeU53) }
func codeNames(c *codec, name string, s *[]string) { codeList(c, name, s, 64, codeName) }

func codeDescriptor(c *codec, name string, d *Descriptor) {
	c.openTuple(name, 3)
	codeU53(c, "offset", &d.Offset)
	codeShape(c, "shape", &d.Shape)
	codeDType(c, "dtype", &d.DType)
	c.leave()
}

func codeDescriptors(c *codec, name string, s *[]Descriptor) {
	codeList(c, name, s, 32, codeDescriptor)
}

// Dim is a number, or the name of a dynamic dim.
type Dim struct {
	Size    uint64
	Name    string
	IsNamed bool
}

func codeDim(c *codec, name string, d *Dim) {
	if !c.writing && c.err == nil {
		d.IsNamed = c.at < len(c.b) && forms[c.b[c.at]].kind == kindString
	}
	if d.IsNamed {
		codeName(c, name, &d.Name)
		d.Size = 0
	} else {
		codeU53(c, name, &d.Size)
		d.Name = ""
	}
}

// Tensor is one input or output of a signature.
type Tensor struct {
	Name      string
	DType     string
	Shape     []Dim
	BatchAxis Opt[uint16]
}

func codeTensor(c *codec, name string, t *Tensor) {
	c.openTuple(name, 4)
	codeName(c, "name", &t.Name)
	codeDType(c, "dtype", &t.DType)
	codeList(c, "shape", &t.Shape, 16, codeDim)
	codeOpt(c, "batch_axis", &t.BatchAxis, codeU16)
	c.leave()
}

func codeTensors(c *codec, name string, s *[]Tensor) { codeList(c, name, s, 32, codeTensor) }

// Signature is a model's inputs and outputs, and the maximum of each dynamic dim.
type Signature struct {
	Inputs  []Tensor
	Outputs []Tensor
	Dims    map[string]Opt[uint64]
}

func codeOptU53(c *codec, name string, o *Opt[uint64]) { codeOpt(c, name, o, codeU53) }

var signatureKeys = []key[Signature]{
	{"inputs", nil, func(c *codec, name string, s *Signature) { codeTensors(c, name, &s.Inputs) }},
	{"outputs", nil, func(c *codec, name string, s *Signature) { codeTensors(c, name, &s.Outputs) }},
	{"dims", nil, func(c *codec, name string, s *Signature) { codeDict(c, name, &s.Dims, 64, codeOptU53) }},
}

// Model is one entry of a MODELS page.
type Model struct {
	Name      string
	Versions  []string
	Pool      string
	Signature Signature
}

func codeModel(c *codec, name string, m *Model) {
	c.openTuple(name, 4)
	codeName(c, "name", &m.Name)
	codeNames(c, "versions", &m.Versions)
	codeName(c, "pool", &m.Pool)
	codeMap(c, "signature", &m.Signature, signatureKeys)
	c.leave()
}

// Plane is all the slots of one input or output.
type Plane struct {
	Name      string
	Direction string
	DType     string
	Sample    []uint64
	Offset    uint64
	Stride    uint64
	BatchAxis Opt[uint16]
	Device    string
}

func codePlane(c *codec, name string, p *Plane) {
	c.openTuple(name, 8)
	codeName(c, "name", &p.Name)
	codeName(c, "direction", &p.Direction)
	codeDType(c, "dtype", &p.DType)
	codeShape(c, "sample", &p.Sample)
	codeU53(c, "offset", &p.Offset)
	codeU53(c, "stride", &p.Stride)
	codeOpt(c, "batch_axis", &p.BatchAxis, codeU16)
	codeName(c, "device", &p.Device)
	c.leave()
}

// Segment says what to map.
type Segment struct {
	Kind  string
	Path  Opt[string]
	Bytes uint64
}

var segmentKeys = []key[Segment]{
	{"kind", nil, func(c *codec, name string, s *Segment) { codeName(c, name, &s.Kind) }},
	{"path", nil, func(c *codec, name string, s *Segment) { codeOpt(c, name, &s.Path, codeText) }},
	{"bytes", nil, func(c *codec, name string, s *Segment) { codeU53(c, name, &s.Bytes) }},
}

// Client says who calls.
type Client struct {
	Name    string
	Version string
}

var clientKeys = []key[Client]{
	{"name", nil, func(c *codec, name string, m *Client) { codeName(c, name, &m.Name) }},
	{"version", nil, func(c *codec, name string, m *Client) { codeName(c, name, &m.Version) }},
}

// Limits are the most that a session may ask for.
type Limits struct {
	FrameBytes   uint64
	SegmentBytes uint64
	Slots        uint64
	Rings        uint64
}

var limitsKeys = []key[Limits]{
	{"frame_bytes", nil, func(c *codec, name string, l *Limits) { codeU53(c, name, &l.FrameBytes) }},
	{"segment_bytes", nil, func(c *codec, name string, l *Limits) { codeU53(c, name, &l.SegmentBytes) }},
	{"slots", nil, func(c *codec, name string, l *Limits) { codeU53(c, name, &l.Slots) }},
	{"rings", nil, func(c *codec, name string, l *Limits) { codeU53(c, name, &l.Rings) }},
}

// HelloOptions are the known options of a HELLO.
type HelloOptions struct {
	Segments Opt[[]string]
	Pool     Opt[string]
	Resume   Opt[string]
}

var helloKeys = []key[HelloOptions]{
	{"segments", func(o *HelloOptions) bool { return o.Segments.Set },
		func(c *codec, name string, o *HelloOptions) { codeOpt(c, name, &o.Segments, codeNames) }},
	{"pool", func(o *HelloOptions) bool { return o.Pool.Set },
		func(c *codec, name string, o *HelloOptions) { codeOpt(c, name, &o.Pool, codeName) }},
	{"resume", func(o *HelloOptions) bool { return o.Resume.Set },
		func(c *codec, name string, o *HelloOptions) { codeOpt(c, name, &o.Resume, codeName) }},
}

// RingState says whether a ring is as it was, code 0, after its session has been resumed (section 9).
type RingState struct {
	Ring uint64
	Code uint16
}

func codeRingState(c *codec, name string, s *RingState) {
	c.openTuple(name, 2)
	codeU53(c, "ring", &s.Ring)
	codeU16(c, "code", &s.Code)
	c.leave()
}

func codeRingStates(c *codec, name string, s *[]RingState) { codeList(c, name, s, 4096, codeRingState) }

// WelcomeOptions are the known options of a WELCOME.
type WelcomeOptions struct {
	Pool  Opt[string]
	Rings Opt[[]RingState]
	Lost  Opt[uint16]
}

var welcomeKeys = []key[WelcomeOptions]{
	{"pool", func(o *WelcomeOptions) bool { return o.Pool.Set },
		func(c *codec, name string, o *WelcomeOptions) { codeOpt(c, name, &o.Pool, codeName) }},
	{"rings", func(o *WelcomeOptions) bool { return o.Rings.Set },
		func(c *codec, name string, o *WelcomeOptions) { codeOpt(c, name, &o.Rings, codeRingStates) }},
	{"lost", func(o *WelcomeOptions) bool { return o.Lost.Set },
		func(c *codec, name string, o *WelcomeOptions) { codeOpt(c, name, &o.Lost, codeU16) }},
}

// RingOptions are the known options of a RING.
type RingOptions struct {
	Stateful Opt[bool]
}

var ringKeys = []key[RingOptions]{
	{"stateful", func(o *RingOptions) bool { return o.Stateful.Set },
		func(c *codec, name string, o *RingOptions) { codeOpt(c, name, &o.Stateful, codeBool) }},
}

// InferExtra is the known part of an INFER's extra.
type InferExtra struct {
	Trace Opt[string]
}

var inferKeys = []key[InferExtra]{
	{"trace", func(e *InferExtra) bool { return e.Trace.Set },
		func(c *codec, name string, e *InferExtra) { codeOpt(c, name, &e.Trace, codeName) }},
}

// ErrorExtra is the known part of an ERROR's extra.
type ErrorExtra struct {
	NeededBytes Opt[uint64]
}

var errorKeys = []key[ErrorExtra]{
	{"needed_bytes", func(e *ErrorExtra) bool { return e.NeededBytes.Set },
		func(c *codec, name string, e *ErrorExtra) { codeOptU53(c, name, &e.NeededBytes) }},
}

// Timings are how long a request waited, and how long its model ran.
type Timings struct {
	QueueNS   uint64
	ComputeNS uint64
}

func codeTimings(c *codec, name string, t *Timings) {
	c.openTuple(name, 2)
	codeU53(c, "queue_ns", &t.QueueNS)
	codeU53(c, "compute_ns", &t.ComputeNS)
	c.leave()
}
