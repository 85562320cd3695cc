package ringbrokertest

import (
	"fmt"
	"slices"

	"ringbroker"
	"ringbroker/internal/wire"
)

// Model is a model that the broker serves.
type Model struct {
	Name     string
	Version  string // "" is "1"
	Pool     string // "" is "default"
	Inputs   []Tensor
	Outputs  []Tensor
	Dims     map[string]int // the largest size of each dynamic dim but the batch's; 0 leaves it to the client, save an open one
	Uniform  []string       // inputs without a batch axis, whose rows are equal in a request: see Batch.Rows
	MaxBatch int            // the most rows of one run; 0 is 8
	Stateful bool           // clients are told not to send a lost request again
	// Run fills a batch's outputs. Its error is answered as MODEL_FAILED, with the error's type as the text; a
	// *ringbroker.Error with its own code. It may block, and blocks its connection, as the broker's own models do.
	Run func(*Batch) error
}

// Tensor is an input or output of a model.
type Tensor struct {
	Name      string
	DType     ringbroker.DType
	Shape     []ringbroker.Dim // whole, the batch axis included: see Shape
	BatchAxis int              // which dim counts samples; -1: none
}

// Shape makes a tensor's shape of sizes (int) and of names of dynamic dims (string): Shape("batch", 8, 8).
func Shape(dims ...any) []ringbroker.Dim {
	shape := make([]ringbroker.Dim, len(dims))
	for i, d := range dims {
		switch d := d.(type) {
		case int:
			shape[i].Size = d
		case string:
			shape[i].Name = d
		default:
			panic(fmt.Sprintf("ringbrokertest: a dim is an int or a string, not %T", d))
		}
	}
	return shape
}

// Func is a model of one input x, of [batch, in], and one output y, of [batch, out]. f is called for each row.
func Func[In, Out ringbroker.Element](name string, in, out int, f func(x []In, y []Out) error) Model {
	return Model{
		Name:    name,
		Inputs:  []Tensor{{Name: "x", DType: dtypeOf[In](), Shape: Shape("batch", in)}},
		Outputs: []Tensor{{Name: "y", DType: dtypeOf[Out](), Shape: Shape("batch", out)}},
		Run: func(b *Batch) error {
			for row := range b.Rows() {
				if err := f(Input[In](b, "x", row), Output[Out](b, "y", row)); err != nil {
					return err
				}
			}
			return nil
		},
	}
}

func dtypeOf[T ringbroker.Element]() ringbroker.DType {
	var zero T
	name := map[string]string{
		"bool": "BOOL", "uint8": "U8", "int8": "I8", "uint16": "U16", "int16": "I16", "uint32": "U32", "int32": "I32",
		"uint64": "U64", "int64": "I64", "float32": "F32", "float64": "F64",
	}[fmt.Sprintf("%T", zero)]
	dtype, err := ringbroker.ParseDType(name)
	if err != nil {
		panic(err)
	}
	return dtype
}

func (m *Model) version() string {
	if m.Version == "" {
		return "1"
	}
	return m.Version
}

func (m *Model) maxBatch() int {
	if m.MaxBatch == 0 {
		return 8
	}
	return m.MaxBatch
}

func (m *Model) pool() string {
	if m.Pool == "" {
		return "default"
	}
	return m.Pool
}

// isBatched says whether requests of several rows can be run: every tensor has a batch axis, or is a uniform input.
func (m *Model) isBatched() bool {
	alone := func(t Tensor) bool { return t.BatchAxis < 0 && !slices.Contains(m.Uniform, t.Name) }
	return !slices.ContainsFunc(m.Inputs, alone) && !slices.ContainsFunc(m.Outputs, alone)
}

func (m *Model) describe() wire.Model {
	dims := make(map[string]wire.Opt[uint64], len(m.Dims))
	for name, maximum := range m.Dims {
		dims[name] = wire.Opt[uint64]{Value: uint64(maximum), Set: maximum > 0}
	}
	signature := wire.Signature{Inputs: describeTensors(m.Inputs), Outputs: describeTensors(m.Outputs), Dims: dims}
	return wire.Model{Name: m.Name, Versions: []string{m.version()}, Pool: m.pool(), Signature: signature}
}

func describeTensors(tensors []Tensor) []wire.Tensor {
	all := make([]wire.Tensor, len(tensors))
	for i, t := range tensors {
		all[i] = wire.Tensor{Name: t.Name, DType: t.DType.String(), BatchAxis: t.batchAxis()}
		for _, d := range t.Shape {
			all[i].Shape = append(all[i].Shape, wire.Dim{Size: uint64(d.Size), Name: d.Name, IsNamed: d.Name != ""})
		}
	}
	return all
}

func (t *Tensor) batchAxis() wire.Opt[uint16] {
	return wire.Opt[uint16]{Value: uint16(max(t.BatchAxis, 0)), Set: t.BatchAxis >= 0}
}

// sample is the shape of one row: without the batch axis.
func (t *Tensor) sample() []ringbroker.Dim {
	var dims []ringbroker.Dim
	for i, d := range t.Shape {
		if i != t.BatchAxis {
			dims = append(dims, d)
		}
	}
	return dims
}
