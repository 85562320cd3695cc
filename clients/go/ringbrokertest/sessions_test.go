package ringbrokertest

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"ringbroker"
	"ringbroker/internal/wire"
)

func readVectors(t *testing.T, name string, into any) {
	t.Helper()
	file, err := os.Open(filepath.Join("..", "..", "..", "spec", "vectors", name))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	decoder := json.NewDecoder(file)
	decoder.UseNumber()
	if err := decoder.Decode(into); err != nil {
		t.Fatal(err)
	}
}

// scripted are the models that the scripts expect.
func scripted() []Model {
	seq := Shape("batch", "seq")
	add := func(b *Batch, inputs ...string) error {
		for row := range b.Rows() {
			y := Output[int64](b, "y", row)
			clear(y)
			for _, name := range inputs {
				for i, x := range Input[int64](b, name, row) {
					y[i] += x
				}
			}
		}
		return nil
	}
	i64 := func(name string) Tensor { return Tensor{Name: name, DType: ringbroker.I64, Shape: seq} }
	return []Model{
		Func("twice", 4, 4, func(x, y []float32) error {
			for i := range x {
				y[i] = 2 * x[i]
			}
			return nil
		}),
		{Name: "sum", Inputs: []Tensor{i64("a"), i64("b")}, Outputs: []Tensor{i64("y")}, Dims: map[string]int{"seq": 16},
			Run: func(b *Batch) error { return add(b, "a", "b") }},
		{Name: "open", Inputs: []Tensor{i64("a")}, Outputs: []Tensor{i64("y")}, Dims: map[string]int{"seq": 0},
			Run: func(b *Batch) error { return add(b, "a") }},
		scriptedFound(),
		scriptedScaled(),
		scriptedTurned(),
	}
}

func scriptedFound() Model {
	run := func(b *Batch) error {
		var kept []float32
		for _, x := range Input[float32](b, "x", 0) {
			if x > 0 {
				kept = append(kept, x)
			}
		}
		if err := b.SetDim("n", len(kept)); err != nil {
			return err
		}
		copy(Output[float32](b, "y", 0), kept)
		return nil
	}
	return Model{
		Name: "found", Dims: map[string]int{"n": 4}, MaxBatch: 1, Run: run,
		Inputs:  []Tensor{{Name: "x", DType: ringbroker.F32, Shape: Shape("batch", 4)}},
		Outputs: []Tensor{{Name: "y", DType: ringbroker.F32, Shape: Shape("batch", "n")}},
	}
}

func scriptedScaled() Model {
	run := func(b *Batch) error {
		by := Input[float32](b, "by", 0)[0] // the first row's is all rows'
		for row := range b.Rows() {
			x, keep, y := Input[float32](b, "x", row), Input[bool](b, "keep", row), Output[float32](b, "y", row)
			clear(y)
			for i := range x {
				if keep[i] {
					y[i] = x[i] * by
				}
			}
		}
		return nil
	}
	seq := Shape("batch", "seq")
	return Model{
		Name: "scaled", Dims: map[string]int{"seq": 4}, Uniform: []string{"by"}, Run: run,
		Inputs: []Tensor{
			{Name: "x", DType: ringbroker.F32, Shape: seq}, {Name: "keep", DType: ringbroker.BOOL, Shape: seq},
			{Name: "by", DType: ringbroker.F32, BatchAxis: -1},
		},
		Outputs: []Tensor{{Name: "y", DType: ringbroker.F32, Shape: seq}},
	}
}

func scriptedTurned() Model {
	run := func(b *Batch) error {
		for row := range b.Rows() {
			y := Output[float32](b, "y", row)
			for i, h := range Input[float32](b, "h", row) {
				y[i] = h + 1
			}
		}
		return nil
	}
	shape := Shape(2, "batch", 3)
	return Model{
		Name: "turned", Run: run,
		Inputs:  []Tensor{{Name: "h", DType: ringbroker.F32, Shape: shape, BatchAxis: 1}},
		Outputs: []Tensor{{Name: "y", DType: ringbroker.F32, Shape: shape, BatchAxis: 1}},
	}
}

func TestScriptedSessions(t *testing.T) {
	var vectors struct {
		Scripts []struct {
			Name  string
			Steps []any
		}
	}
	readVectors(t, "sessions.json", &vectors)
	if len(vectors.Scripts) == 0 {
		t.Fatal("there are no scripts")
	}
	b := newBroker(filepath.Join(t.TempDir(), "s", "b"), scripted())
	b.handshake = time.Second // one script waits for it
	if err := b.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		b.Stop()
		if left, _ := filepath.Glob(segmentPrefix + "*"); len(left) > 0 {
			t.Errorf("left behind: %v", left)
		}
	}()
	for _, script := range vectors.Scripts {
		t.Run(script.Name, func(t *testing.T) { newPlayer(t, b.Path()).play(script.Steps) })
	}
}

func TestLayoutsAreThoseOfTheVectors(t *testing.T) {
	var vectors struct {
		Layouts []struct {
			Name   string
			Slots  string
			Planes []struct {
				DType  string
				Sample []string
			}
			Error            *struct{ Code ringbroker.Code }
			Offsets, Strides []string
			SegmentBytes     string `json:"segment_bytes"`
		}
	}
	readVectors(t, "layouts.json", &vectors)
	number := func(s string) uint64 { return must(strconv.ParseUint(s, 10, 64)) }
	for _, v := range vectors.Layouts {
		var planes []wire.Plane
		for _, p := range v.Planes {
			plane := wire.Plane{DType: p.DType}
			for _, dim := range p.Sample {
				plane.Sample = append(plane.Sample, number(dim))
			}
			planes = append(planes, plane)
		}
		bytes, ok := layOut(number(v.Slots), planes)
		if v.Error != nil {
			if ok {
				t.Errorf("%s: laid out in %d bytes", v.Name, bytes)
			}
			continue
		}
		if !ok || bytes != number(v.SegmentBytes) {
			t.Errorf("%s: %d bytes (%v), not %s", v.Name, bytes, ok, v.SegmentBytes)
		}
		for i, p := range planes {
			if p.Offset != number(v.Offsets[i]) || p.Stride != number(v.Strides[i]) {
				t.Errorf("%s: plane %d at %d, stride %d", v.Name, i, p.Offset, p.Stride)
			}
		}
	}
	if len(vectors.Layouts) == 0 {
		t.Error("there are no layouts")
	}
}
