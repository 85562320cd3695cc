package ringbroker_test

import (
	"errors"
	"reflect"
	"slices"
	"testing"

	"ringbroker"
	"ringbroker/internal/wire"
	"ringbroker/ringbrokertest"
)

// found has two outputs whose size is known when it has run: the largest of the rows' first values.
func found() ringbrokertest.Model {
	tensor := func(name string, dims ...any) ringbrokertest.Tensor {
		return ringbrokertest.Tensor{Name: name, DType: ringbroker.F32, Shape: ringbrokertest.Shape(dims...)}
	}
	return ringbrokertest.Model{
		Name: "found", Dims: map[string]int{"n": 2},
		Inputs:  []ringbrokertest.Tensor{tensor("x", "batch", 4)},
		Outputs: []ringbrokertest.Tensor{tensor("boxes", "batch", "n", 2), tensor("scores", "batch", "n")},
		Run: func(b *ringbrokertest.Batch) error {
			n := 0
			for row := range b.Rows() {
				n = max(n, int(ringbrokertest.Input[float32](b, "x", row)[0]))
			}
			if err := b.SetDim("n", n); err != nil {
				return err
			}
			for row := range b.Rows() {
				x := ringbrokertest.Input[float32](b, "x", row)
				copy(ringbrokertest.Output[float32](b, "boxes", row), x)
				copy(ringbrokertest.Output[float32](b, "scores", row), x[1:])
			}
			return nil
		},
	}
}

// find runs found on rows that begin with n and go on with their own numbers.
func find(t *testing.T, l ringbroker.Lease, n int) ringbroker.Result {
	t.Helper()
	for row := range l.Rows() {
		copy(view[float32](t, l.Input("x").Row(row)), []float32{float32(n), float32(10 * row), 2, 3})
	}
	return infer(t, l)
}

func TestOpenDimsHaveTheSizeThatTheResultTells(t *testing.T) {
	m := open(t, dial(t, ringbrokertest.New(t, found())), "found")
	if outputs := m.Outputs(); !slices.Equal(outputs[0].Sample, []int{2, 2}) || !slices.Equal(outputs[1].Sample, []int{2}) {
		t.Error(outputs)
	}
	for _, rows := range []int{1, 3} {
		l := acquire(t, m, rows)
		for n := range 3 {
			r := find(t, l, n)
			boxes, scores := r.Output("boxes"), r.Output("scores")
			if !slices.Equal(boxes.Shape(), []int{rows, n, 2}) || !slices.Equal(scores.Shape(), []int{rows, n}) {
				t.Error(boxes.Shape(), scores.Shape())
			}
			for row := range rows {
				want := []float32{float32(n), float32(10 * row), 2, 3}
				if got := view[float32](t, boxes.Row(row)); !slices.Equal(got, want[:2*n]) || cap(got) != 2*n {
					t.Errorf("row %d of %d, n %d: %v", row, rows, n, got)
				}
				if got := view[float32](t, scores.Row(row)); !slices.Equal(got, want[1:1+n]) {
					t.Errorf("row %d of %d, n %d: %v", row, rows, n, got)
				}
			}
			if n == 1 && rows > 1 {
				_, err := ringbroker.View[float32](boxes)
				wants(t, err, ringbroker.CodeWrongDim)
			} else if all := view[float32](t, boxes); len(all) != rows*n*2 {
				t.Error(all)
			}
		}
		l.Release()
	}
}

func TestModelInferCopiesOpenDims(t *testing.T) {
	m := open(t, dial(t, ringbrokertest.New(t, found())), "found")
	for n, want := range []ringbroker.Arrays{
		{"boxes": {[]float32{}, []int{2, 0, 2}}, "scores": {[]float32{}, []int{2, 0}}},
		{"boxes": {[]float32{1, 7, 0, 8}, []int{2, 1, 2}}, "scores": {[]float32{7, 8}, []int{2, 1}}},
	} {
		out, err := m.Infer(inTime(t), ringbroker.Arrays{"x": {Data: []float32{float32(n), 7, 0, 0, 0, 8, 0, 0}}})
		if err != nil || !reflect.DeepEqual(out, want) {
			t.Error(n, out, err)
		}
	}
}

func TestAnOutputThatIsTooLargeSaysWhatItNeeds(t *testing.T) {
	c := dial(t, ringbrokertest.New(t, found()))
	for _, too := range []struct {
		large  int
		needed int64
		max    []ringbroker.OpenOption
	}{{3, 24, nil}, {2, 16, []ringbroker.OpenOption{ringbroker.Max("n", 1)}}} {
		l := acquire(t, open(t, c, "found", too.max...), 1)
		copy(view[float32](t, l.Input("x")), []float32{float32(too.large)})
		_, err := l.Infer(inTime(t))
		var e *ringbroker.Error
		if !errors.As(err, &e) || e.Code != ringbroker.CodeOutputTooLarge || e.NeededBytes != too.needed || e.Path != "outputs[0]" {
			t.Errorf("%+v", err)
		}
		find(t, l, 1) // on the same lease
	}
	_, err := c.Open(inTime(t), "found", ringbroker.Max("n", 3))
	wants(t, err, ringbroker.CodeMaximumTooLarge)
	if e := new(ringbroker.Error); !errors.As(err, &e) || e.NeededBytes != 0 {
		t.Error(e)
	}
}

func TestAResultOfAShapeThatItCannotHave(t *testing.T) {
	for name, spoil := range map[string]func(*wire.Result){
		"an open dim over the plane's":     func(r *wire.Result) { r.Outputs[0].Shape[1] = 3 },
		"an open dim far over the plane's": func(r *wire.Result) { r.Outputs[1].Shape[1] = 1<<53 - 1 },
		"a fixed dim that is smaller":      func(r *wire.Result) { r.Outputs[0].Shape[2] = 1 },
		"a fixed dim that is larger":       func(r *wire.Result) { r.Outputs[0].Shape = []uint64{1, 1, 4} },
		"a fixed dim of 0":                 func(r *wire.Result) { r.Outputs[0].Shape[2] = 0 },
		"a rank that is smaller":           func(r *wire.Result) { r.Outputs[0].Shape = []uint64{1, 2} },
		"no rows":                          func(r *wire.Result) { r.Outputs[0].Shape = []uint64{0, 2, 2} },
	} {
		t.Run(name, func(t *testing.T) {
			b := ringbrokertest.New(t, found())
			l := acquire(t, open(t, dial(t, b), "found"), 1)
			b.Mangle(func(payload []byte) []byte { return spoilResult(t, payload, spoil) })
			_, err := l.Infer(inTime(t))
			wants(t, err, ringbroker.CodeBadAnswer)
		})
	}
}

func spoilResult(t *testing.T, payload []byte, spoil func(*wire.Result)) []byte {
	m, ok := decode(t, payload).(*wire.Result)
	if !ok {
		return payload
	}
	spoil(m)
	return encode(t, m)
}

// A dim of an output that is an input's too has the size that it has in the request.
func TestAResultThatIsNotAsLongAsItsRequest(t *testing.T) {
	for _, length := range []uint64{0, 4, 6, 16} {
		b := ringbrokertest.New(t, sum())
		l := acquire(t, open(t, dial(t, b), "sum"), 1)
		for _, name := range []string{"a", "b"} {
			if err := l.SetShape(name, 5); err != nil {
				t.Fatal(err)
			}
		}
		infer(t, l)
		b.Mangle(func(payload []byte) []byte {
			return spoilResult(t, payload, func(r *wire.Result) { r.Outputs[0].Shape[1] = length })
		})
		_, err := l.Infer(inTime(t))
		wants(t, err, ringbroker.CodeBadAnswer)
	}
}
