package ringbroker

import "reflect"

// Array is a tensor in the program's own memory, for [Model.Infer].
type Array struct {
	// Data is a slice of an [Element] type, such as []float32, C-ordered, rows first: also where the model has its
	// batch axis elsewhere.
	Data any
	// Shape is [rows, dims...]. Nil for an input means: as many of the ring's full rows as Data has elements for, or
	// one shorter row where a row is one dynamic dim. An input without a batch axis has one row, which stands for all.
	Shape []int
}

// Arrays are tensors by name.
type Arrays map[string]Array

// resolve is the shape of each input, in order, and how many rows the request has: as many as each input with a batch
// axis, and 1 where there is none.
func (a Arrays) resolve(inputs []plane) (shapes [][]int, rows int, err *Error) {
	if len(a) != len(inputs) {
		return nil, 0, errorf(CodeWrongTensorCount, "inputs", "%d inputs; the model has %d", len(a), len(inputs))
	}
	shapes, rows = make([][]int, len(inputs)), 1
	first := true
	for i := range inputs {
		array, ok := a[inputs[i].name]
		if !ok {
			return nil, 0, errorf(CodeWrongTensorCount, "inputs", "the input %s is missing", inputs[i].name)
		}
		shapes[i] = array.resolve(&inputs[i])
		if inputs[i].batched && first {
			rows, first = shapes[i][0], false
		}
	}
	for i := range inputs {
		if n := shapes[i][0]; n != rows && (inputs[i].batched || n != 1) {
			return nil, 0, errorf(CodeWrongDim, inputs[i].name, "%d rows; the request has %d", n, rows)
		}
	}
	return shapes, rows, nil
}

// resolve is the array's shape, or the one that its data has. Data of no such shape is left to fill to refuse.
func (a Array) resolve(p *plane) []int {
	if len(a.Shape) > 0 {
		return a.Shape
	}
	n, each := 0, max(int(p.elements), 1)
	if data := reflect.ValueOf(a.Data); data.Kind() == reflect.Slice {
		n = data.Len()
	}
	if len(p.sample) == 1 && n < each {
		return []int{1, n}
	}
	shape := []int{max(n/each, 1)}
	for _, dim := range p.sample {
		shape = append(shape, int(dim))
	}
	return shape
}

// fill copies data into the rows of a lease's input, of which there are so many; one row of data goes into all of them.
func fill[T Element](l Lease, name string, rows int, shape []int, data []T) error {
	if err := l.SetShape(name, shape[1:]...); err != nil {
		return err
	}
	input := l.Input(name)
	for i := range rows {
		row, err := View[T](input.Row(i))
		if err != nil {
			return err
		}
		if len(data) != shape[0]*len(row) {
			return errorf(CodeWrongDim, name, "%d elements, not %d rows of %d", len(data), shape[0], len(row))
		}
		copy(row, data[i%shape[0]*len(row):])
	}
	return nil
}

// copyOut copies a tensor's rows, and says what shape they have.
func copyOut[T Element](t Tensor) ([]T, []int, error) {
	all, shape := []T{}, t.Shape()
	for i := 0; i == 0 || i < shape[0]; i++ {
		row, err := View[T](t.Row(i))
		if err != nil {
			return nil, nil, err
		}
		all = append(all, row...)
	}
	return all, shape, nil
}

// elementType does for one Go type what fill and copyOut do for a type parameter.
type elementType struct {
	fill    func(l Lease, name string, rows int, shape []int, data any) error
	copyOut func(t Tensor) (Array, error)
}

func makeElementType[T Element]() elementType {
	return elementType{
		fill: func(l Lease, name string, rows int, shape []int, data any) error {
			values, ok := data.([]T)
			if !ok {
				return errorf(CodeWrongDType, name, "%T is not []%s", data, elementName[T]())
			}
			return fill(l, name, rows, shape, values)
		},
		copyOut: func(t Tensor) (Array, error) {
			data, shape, err := copyOut[T](t)
			return Array{data, shape}, err
		},
	}
}

// elementTypes are the types of an [Element], by name.
var elementTypes = map[string]elementType{
	"bool": makeElementType[bool](), "uint8": makeElementType[uint8](), "int8": makeElementType[int8](),
	"uint16": makeElementType[uint16](), "int16": makeElementType[int16](), "uint32": makeElementType[uint32](),
	"int32": makeElementType[int32](), "uint64": makeElementType[uint64](), "int64": makeElementType[int64](),
	"float32": makeElementType[float32](), "float64": makeElementType[float64](),
}

func fillAny(l Lease, name string, rows int, shape []int, data any) error {
	t := l.Input(name)
	if t.err != nil {
		return t.err
	}
	return elementTypes[dtypes[t.DType()].element].fill(l, name, rows, shape, data)
}

func copyOutAny(t Tensor) (Array, error) {
	if t.err != nil {
		return Array{}, t.err
	}
	return elementTypes[dtypes[t.DType()].element].copyOut(t)
}
