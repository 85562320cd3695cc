package ringbroker_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"ringbroker"
	"ringbroker/ringbrokertest"
)

// echo has an input and an output of every dtype, and copies them.
func echo() ringbrokertest.Model {
	m := ringbrokertest.Model{Name: "echo", Run: func(b *ringbrokertest.Batch) error { return nil }}
	for d := ringbroker.BOOL; d <= ringbroker.F64; d++ {
		shape := ringbrokertest.Shape("batch", 3)
		m.Inputs = append(m.Inputs, ringbrokertest.Tensor{Name: d.String(), DType: d, Shape: shape})
	}
	m.Outputs = m.Inputs
	m.Run = func(b *ringbrokertest.Batch) error {
		for row := range b.Rows() {
			copyRow[bool](b, row, "BOOL")
			copyRow[uint8](b, row, "U8", "I8")
			copyRow[uint16](b, row, "U16", "I16", "F16", "BF16")
			copyRow[uint32](b, row, "U32", "I32", "F32")
			copyRow[uint64](b, row, "U64", "I64", "F64")
		}
		return nil
	}
	return m
}

func copyRow[T ringbroker.Element](b *ringbrokertest.Batch, row int, names ...string) {
	for _, name := range names {
		copy(ringbrokertest.Output[T](b, name, row), ringbrokertest.Input[T](b, name, row))
	}
}

func TestEveryDTypeIsSeenAsItsGoType(t *testing.T) {
	l := acquire(t, open(t, dial(t, ringbrokertest.New(t, echo())), "echo"), 1)
	checkElements(t, l, []bool{true, false, true}, "BOOL")
	checkElements(t, l, []uint8{0, 1, 255}, "U8")
	checkElements(t, l, []int8{-128, 0, 127}, "I8")
	checkElements(t, l, []uint16{0, 1, 65535}, "U16", "F16", "BF16")
	checkElements(t, l, []int16{-32768, 0, 32767}, "I16")
	checkElements(t, l, []uint32{0, 1, 1<<32 - 1}, "U32")
	checkElements(t, l, []int32{-1 << 31, 0, 1<<31 - 1}, "I32")
	checkElements(t, l, []uint64{0, 1, 1<<64 - 1}, "U64")
	checkElements(t, l, []int64{-1 << 63, 0, 1<<63 - 1}, "I64")
	checkElements(t, l, []float32{-0.5, 0, 1e30}, "F32")
	checkElements(t, l, []float64{-0.5, 0, 1e300}, "F64")
}

func checkElements[T ringbroker.Element](t *testing.T, l ringbroker.Lease, values []T, names ...string) {
	t.Helper()
	for _, name := range names {
		copy(view[T](t, l.Input(name)), values)
		if got := view[T](t, infer(t, l).Output(name)); !slices.Equal(got, values) {
			t.Errorf("%s: %v came back as %v", name, values, got)
		}
		if d := l.Input(name).DType(); d.String() != name {
			t.Errorf("%s is %s", name, d)
		}
	}
}

func TestAViewOfAnotherTypeIsRefused(t *testing.T) {
	l := acquire(t, open(t, dial(t, ringbrokertest.New(t, echo())), "echo"), 1)
	for _, name := range []string{"I32", "F64", "U32", "BOOL"} {
		_, err := ringbroker.View[float32](l.Input(name))
		wants(t, err, ringbroker.CodeWrongDType)
	}
	_, err := ringbroker.View[float32](l.Input("nothing"))
	wants(t, err, ringbroker.CodeInvalidField)
	_, err = ringbroker.View[float32](infer(t, l).Output("nothing"))
	wants(t, err, ringbroker.CodeInvalidField)
	if b, err := l.Input("F64").Bytes(); err != nil || len(b) != 24 {
		t.Error(len(b), err)
	}
}

func TestShortRowsAreSeenOneByOne(t *testing.T) {
	l := acquire(t, open(t, dial(t, ringbrokertest.New(t, sum())), "sum"), 3)
	for _, name := range []string{"a", "b"} {
		if err := l.SetShape(name, 5); err != nil {
			t.Fatal(err)
		}
		_, err := ringbroker.View[int64](l.Input(name))
		wants(t, err, ringbroker.CodeWrongDim)
		for i := range 3 {
			row := view[int64](t, l.Input(name).Row(i))
			copy(row, []int64{int64(i), 1, 2, 3, 4})
			if len(row) != 5 || cap(row) != 5 {
				t.Error(len(row), cap(row))
			}
		}
	}
	y := infer(t, l).Output("y")
	if shape := fmt.Sprint(y.Shape(), y.Row(0).Shape()); shape != "[3 5] [5]" {
		t.Error(shape)
	}
	for i := range 3 {
		if row := view[int64](t, y.Row(i)); !slices.Equal(row, []int64{int64(2 * i), 2, 4, 6, 8}) {
			t.Error(row)
		}
	}
	for _, row := range []int{-1, 3} {
		_, err := ringbroker.View[int64](y.Row(row))
		wants(t, err, ringbroker.CodeWrongDim)
	}
}

func TestOneShortRowIsOneSlice(t *testing.T) {
	l := acquire(t, open(t, dial(t, ringbrokertest.New(t, sum())), "sum"), 1)
	a := l.Input("a")
	if err := l.SetShape("a", 2); err != nil {
		t.Fatal(err)
	}
	if len(view[int64](t, a)) != 2 {
		t.Error("the tensor did not follow its shape")
	}
	_, err := l.Infer(inTime(t)) // b has another seq
	wants(t, err, ringbroker.CodeWrongDim)
	if err := l.SetShape("b", 2); err != nil {
		t.Fatal(err)
	}
	infer(t, l)
	for _, refused := range []struct {
		err  error
		code ringbroker.Code
		text string
	}{
		{l.SetShape("a", 17), ringbroker.CodeWrongDim, "a row is at most [16], not [17]"},
		{l.SetShape("a", -1), ringbroker.CodeWrongDim, "a row is at most [16], not [-1]"},
		{l.SetShape("a", 1, 1), ringbroker.CodeWrongRank, "a row is at most [16], not [1 1]"},
		{l.SetShape("c", 1), ringbroker.CodeInvalidField, "there are a, b"},
	} {
		wants(t, refused.err, refused.code)
		if !strings.Contains(refused.err.Error(), refused.text) {
			t.Errorf("%v does not say %q", refused.err, refused.text)
		}
	}
	if len(view[int64](t, l.Input("a"))) != 2 {
		t.Error("a shape that was refused was taken")
	}
	if err := l.SetShape("a", 0); err != nil {
		t.Fatal(err)
	}
	if v := view[int64](t, l.Input("a")); len(v) != 0 {
		t.Error(v)
	}
	l.Release()
	if m := acquire(t, open(t, dial(t, ringbrokertest.New(t, sum())), "sum"), 1); len(view[int64](t, m.Input("a"))) != 16 {
		t.Error("a new lease does not begin with the largest shape")
	}
}

func TestALeaseBeginsAtTheLargestShape(t *testing.T) {
	m := open(t, dial(t, ringbrokertest.New(t, sum())), "sum", ringbroker.Slots(1))
	l := acquire(t, m, 1)
	l.SetShape("a", 2)
	l.Release()
	if n := len(view[int64](t, acquire(t, m, 1).Input("a"))); n != 16 {
		t.Error(n)
	}
}
