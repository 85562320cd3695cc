package ringbroker_test

import (
	"reflect"
	"testing"

	"ringbroker"
	"ringbroker/ringbrokertest"
)

func TestCall(t *testing.T) {
	identity := sum()
	identity.Name, identity.Inputs = "identity", identity.Inputs[:1]
	identity.Run = func(b *ringbrokertest.Batch) error {
		for row := range b.Rows() {
			copyRowTo(b, row)
		}
		return nil
	}
	c := dial(t, ringbrokertest.New(t, twice(), identity, sum()))
	m := open(t, c, "twice")
	y, err := ringbroker.Call[float32, float32](inTime(t), m, []float32{1, 2, 3, 4, 5, 6, 7, 8})
	if err != nil || !reflect.DeepEqual(y, []float32{2, 4, 6, 8, 10, 12, 14, 16}) {
		t.Error(y, err)
	}
	_, err = ringbroker.Call[float64, float32](inTime(t), m, make([]float64, 4))
	wants(t, err, ringbroker.CodeWrongDType)
	_, err = ringbroker.Call[float32, float64](inTime(t), m, make([]float32, 4))
	wants(t, err, ringbroker.CodeWrongDType)
	for _, wrong := range []int{0, 3, 5} {
		_, err = ringbroker.Call[float32, float32](inTime(t), m, make([]float32, wrong))
		wants(t, err, ringbroker.CodeWrongDim)
	}
	_, err = ringbroker.Call[float32, float32](inTime(t), m, make([]float32, 36))
	wants(t, err, ringbroker.CodeTooManyRows)
	short, err := ringbroker.Call[int64, int64](inTime(t), open(t, c, "identity"), []int64{7, 8, 9})
	if err != nil || !reflect.DeepEqual(short, []int64{7, 8, 9}) {
		t.Error(short, err)
	}
	_, err = ringbroker.Call[int64, int64](inTime(t), open(t, c, "sum"), make([]int64, 16))
	wants(t, err, ringbroker.CodeWrongTensorCount)
}

func copyRowTo(b *ringbrokertest.Batch, row int) {
	copy(ringbrokertest.Output[int64](b, "y", row), ringbrokertest.Input[int64](b, "a", row))
}

func TestModelInfer(t *testing.T) {
	m := open(t, dial(t, ringbrokertest.New(t, sum())), "sum")
	ones, twos := []int64{1, 1, 1, 1}, []int64{2, 2, 2, 2}
	out, err := m.Infer(inTime(t), ringbroker.Arrays{"a": {ones, []int{2, 2}}, "b": {twos, []int{2, 2}}})
	if want := (ringbroker.Arrays{"y": {[]int64{3, 3, 3, 3}, []int{2, 2}}}); err != nil || !reflect.DeepEqual(out, want) {
		t.Error(out, err)
	}
	for code, in := range map[ringbroker.Code]ringbroker.Arrays{
		ringbroker.CodeWrongTensorCount: {"a": {Data: ones}},
		ringbroker.CodeWrongDType:       {"a": {Data: []int32{1}}, "b": {Data: []int32{1}}},
		ringbroker.CodeWrongRank:        {"a": {ones, []int{2, 2, 1}}, "b": {twos, []int{2, 2, 1}}},
		ringbroker.CodeWrongDim:         {"a": {ones, []int{2, 2}}, "b": {twos, []int{1, 4}}},
	} {
		_, err := m.Infer(inTime(t), in)
		wants(t, err, code)
	}
	_, err = m.Infer(inTime(t), ringbroker.Arrays{"a": {Data: ones}, "c": {Data: ones}})
	wants(t, err, ringbroker.CodeWrongTensorCount)
	_, err = m.Infer(inTime(t), ringbroker.Arrays{"a": {Data: 3}, "b": {Data: "x"}})
	wants(t, err, ringbroker.CodeWrongDType)
	_, err = m.Infer(inTime(t), ringbroker.Arrays{"a": {ones, []int{4, 2}}, "b": {ones, []int{4, 2}}})
	wants(t, err, ringbroker.CodeWrongDim)
}

func TestModelInferOfEveryDType(t *testing.T) {
	m := open(t, dial(t, ringbrokertest.New(t, echo())), "echo")
	in := ringbroker.Arrays{
		"BOOL": {Data: []bool{true, false, true}}, "U8": {Data: []uint8{1, 2, 3}}, "I8": {Data: []int8{1, 2, 3}},
		"U16": {Data: []uint16{1, 2, 3}}, "I16": {Data: []int16{1, 2, 3}}, "U32": {Data: []uint32{1, 2, 3}},
		"I32": {Data: []int32{1, 2, 3}}, "U64": {Data: []uint64{1, 2, 3}}, "I64": {Data: []int64{1, 2, 3}},
		"F16": {Data: []uint16{1, 2, 3}}, "BF16": {Data: []uint16{1, 2, 3}}, "F32": {Data: []float32{1, 2, 3}},
		"F64": {Data: []float64{1, 2, 3}},
	}
	out, err := m.Infer(inTime(t), in)
	if err != nil {
		t.Fatal(err)
	}
	for name := range in {
		if !reflect.DeepEqual(out[name].Data, in[name].Data) {
			t.Errorf("%s: %v came back as %v", name, in[name].Data, out[name].Data)
		}
	}
}
