package ringbroker_test

import (
	"reflect"
	"slices"
	"testing"

	"ringbroker"
	"ringbroker/ringbrokertest"
)

// scaled is y = x * by where keep, else 0; by is one value for all rows.
func scaled() ringbrokertest.Model {
	seq := ringbrokertest.Shape("batch", "seq")
	return ringbrokertest.Model{
		Name: "scaled", Dims: map[string]int{"seq": 4}, Uniform: []string{"by"},
		Inputs: []ringbrokertest.Tensor{
			{Name: "by", DType: ringbroker.F32, BatchAxis: -1},
			{Name: "x", DType: ringbroker.F32, Shape: seq},
			{Name: "keep", DType: ringbroker.BOOL, Shape: seq},
		},
		Outputs: []ringbrokertest.Tensor{{Name: "y", DType: ringbroker.F32, Shape: seq}},
		Run: func(b *ringbrokertest.Batch) error {
			for row := range b.Rows() {
				y, by := ringbrokertest.Output[float32](b, "y", row), ringbrokertest.Input[float32](b, "by", row)[0]
				for i, x := range ringbrokertest.Input[float32](b, "x", row) {
					y[i] = 0
					if ringbrokertest.Input[bool](b, "keep", row)[i] {
						y[i] = x * by
					}
				}
			}
			return nil
		},
	}
}

func TestAUniformInputHasAValueInEachRow(t *testing.T) {
	m := open(t, dial(t, ringbrokertest.New(t, scaled())), "scaled")
	if m.MaxRows() != 8 {
		t.Fatal(m.MaxRows())
	}
	l := acquire(t, m, 3)
	by := view[float32](t, l.Input("by"))
	if len(by) != 3 || !slices.Equal(l.Input("by").Shape(), []int{3}) || len(l.Input("by").Row(1).Shape()) != 0 {
		t.Fatal(by, l.Input("by").Shape())
	}
	clear(view[bool](t, l.Input("keep")))
	copy(by, []float32{2, 2, 3})
	_, err := l.Infer(inTime(t))
	wants(t, err, ringbroker.CodeUniformMismatch)
	by[2] = 2
	infer(t, l)
	if b, err := l.Input("keep").Bytes(); err != nil {
		t.Error(err)
	} else {
		b[5] = 2
	}
	_, err = l.Infer(inTime(t))
	wants(t, err, ringbroker.CodeInvalidBool)
}

func TestModelInferFillsEveryRowOfAUniformInput(t *testing.T) {
	m := open(t, dial(t, ringbrokertest.New(t, scaled())), "scaled")
	x, keep := []float32{1, 2, 3, 4, 5, 6}, []bool{true, true, false, true, true, true}
	want := ringbroker.Arrays{"y": {[]float32{10, 20, 0, 40, 50, 60}, []int{3, 2}}}
	for _, by := range []ringbroker.Array{
		{Data: []float32{10}}, {Data: []float32{10}, Shape: []int{1}}, {Data: []float32{10, 10, 10}, Shape: []int{3}},
	} {
		out, err := m.Infer(inTime(t), ringbroker.Arrays{"x": {x, []int{3, 2}}, "keep": {keep, []int{3, 2}}, "by": by})
		if err != nil || !reflect.DeepEqual(out, want) {
			t.Error(by, out, err)
		}
	}
	for _, by := range [][]float32{{}, {10, 10}, {10, 10, 10, 10}} {
		_, err := m.Infer(inTime(t), ringbroker.Arrays{"x": {x, []int{3, 2}}, "keep": {keep, []int{3, 2}}, "by": {Data: by}})
		wants(t, err, ringbroker.CodeWrongDim)
	}
	// Only an input without a batch axis has one row for all.
	_, err := m.Infer(inTime(t), ringbroker.Arrays{
		"x": {x, []int{3, 2}}, "keep": {keep[:2], []int{1, 2}}, "by": {Data: []float32{10}},
	})
	wants(t, err, ringbroker.CodeWrongDim)
}

// turned is y = h + row, of a state whose batch axis is not first.
func turned() ringbrokertest.Model {
	tensor := func(name string) ringbrokertest.Tensor {
		return ringbrokertest.Tensor{
			Name: name, DType: ringbroker.I32, Shape: ringbrokertest.Shape(2, "batch", 3), BatchAxis: 1,
		}
	}
	return ringbrokertest.Model{
		Name: "turned", Inputs: []ringbrokertest.Tensor{tensor("h")}, Outputs: []ringbrokertest.Tensor{tensor("y")},
		Run: func(b *ringbrokertest.Batch) error {
			for row := range b.Rows() {
				y := ringbrokertest.Output[int32](b, "y", row)
				for i, h := range ringbrokertest.Input[int32](b, "h", row) {
					y[i] = h + int32(row)
				}
			}
			return nil
		},
	}
}

// A batch axis that is not first: each row of the plane is a sample, [2, 3], and rows come first in every view.
func TestABatchAxisThatIsNotFirst(t *testing.T) {
	m := open(t, dial(t, ringbrokertest.New(t, turned())), "turned")
	if in := m.Inputs(); !slices.Equal(in[0].Sample, []int{2, 3}) {
		t.Fatal(in)
	}
	l := acquire(t, m, 2)
	h := l.Input("h")
	if !slices.Equal(h.Shape(), []int{2, 2, 3}) || !slices.Equal(h.Row(1).Shape(), []int{2, 3}) {
		t.Error(h.Shape(), h.Row(1).Shape())
	}
	copy(view[int32](t, h.Row(0)), []int32{1, 2, 3, 4, 5, 6})
	copy(view[int32](t, h.Row(1)), []int32{7, 8, 9, 10, 11, 12})
	if all := view[int32](t, h); !slices.Equal(all, []int32{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}) {
		t.Error(all)
	}
	want := []int32{1, 2, 3, 4, 5, 6, 8, 9, 10, 11, 12, 13}
	if y := view[int32](t, infer(t, l).Output("y")); !slices.Equal(y, want) {
		t.Error(y)
	}
	given := []int32{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}
	out, err := m.Infer(inTime(t), ringbroker.Arrays{"h": {Data: given}})
	if err != nil || !reflect.DeepEqual(out, ringbroker.Arrays{"y": {want, []int{2, 2, 3}}}) {
		t.Error(out, err)
	}
	if y, err := ringbroker.Call[int32, int32](inTime(t), m, given); err != nil || !slices.Equal(y, want) {
		t.Error(y, err)
	}
}
