package ringbroker_test

import (
	"context"
	"fmt"
	"path/filepath"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"

	"ringbroker"
	"ringbroker/internal/wire"
	"ringbroker/ringbrokertest"
)

func TestOpenIsRefused(t *testing.T) {
	open := sum()
	open.Name, open.Dims = "open", map[string]int{"seq": 0}
	c := dial(t, ringbrokertest.New(t, twice(), sum(), open))
	for _, refused := range []struct {
		model   string
		options []ringbroker.OpenOption
		code    ringbroker.Code
	}{
		{"nobody", nil, ringbroker.CodeUnknownModel},
		{"twice", []ringbroker.OpenOption{ringbroker.Version("9")}, ringbroker.CodeUnknownVersion},
		{"twice", []ringbroker.OpenOption{ringbroker.Max("seq", 1)}, ringbroker.CodeUnknownDim},
		{"sum", []ringbroker.OpenOption{ringbroker.Max("seq", 17)}, ringbroker.CodeMaximumTooLarge},
		{"open", nil, ringbroker.CodeMaximumMissing},
		{"open", []ringbroker.OpenOption{ringbroker.Max("seq", 1<<40)}, ringbroker.CodeRingTooLarge},
		{"twice", []ringbroker.OpenOption{ringbroker.Slots(1 << 40)}, ringbroker.CodeTooManySlots},
		{"twice", []ringbroker.OpenOption{ringbroker.Slots(-1)}, ringbroker.CodeInvalidField},
		{strings.Repeat("x", 129), nil, ringbroker.CodeInvalidField},
	} {
		_, err := c.Open(inTime(t), refused.model, refused.options...)
		wants(t, err, refused.code)
	}
	if _, err := c.Ping(inTime(t)); err != nil {
		t.Error("the connection did not outlive the refusals:", err)
	}
}

func TestAnOpenModelDescribesItself(t *testing.T) {
	m := open(t, dial(t, ringbrokertest.New(t, sum())), "sum", ringbroker.Slots(5), ringbroker.Max("seq", 7), ringbroker.Version("1"))
	if m.Name() != "sum" || m.Version() != "1" || m.Slots() != 5 || m.MaxRows() != 5 {
		t.Error(m.Name(), m.Version(), m.Slots(), m.MaxRows())
	}
	if want := []ringbroker.PlaneInfo{{Name: "y", DType: ringbroker.I64, Sample: []int{7}}}; !reflect.DeepEqual(m.Outputs(), want) {
		t.Error(m.Outputs())
	}
	if len(m.Inputs()) != 2 || m.Inputs()[1].Name != "b" {
		t.Error(m.Inputs())
	}
}

// Everything that a broker says of a ring is checked before a byte of it is touched.
func TestARingThatDoesNotFitItsSegmentIsRefused(t *testing.T) {
	for name, spoil := range map[string]func(*wire.Ring){
		"a plane in the header":           func(r *wire.Ring) { r.Planes[0].Offset = 0 },
		"a plane between two pages":       func(r *wire.Ring) { r.Planes[0].Offset += 8 },
		"a plane past the end":            func(r *wire.Ring) { r.Planes[1].Offset = r.Segment.Bytes },
		"a plane far past the end":        func(r *wire.Ring) { r.Planes[1].Offset = 1<<53 - 4096 },
		"planes that overlap":             func(r *wire.Ring) { r.Planes[1].Offset = r.Planes[0].Offset },
		"another stride":                  func(r *wire.Ring) { r.Planes[0].Stride++ },
		"a product that overflows":        func(r *wire.Ring) { r.Planes[0].Sample = []uint64{1 << 40, 1 << 40} },
		"a product that overflows to 0":   func(r *wire.Ring) { r.Planes[0].Sample = []uint64{1 << 32, 1 << 32}; r.Planes[0].Stride = 0 },
		"an unknown dtype":                func(r *wire.Ring) { r.Planes[0].DType = "F8" },
		"an unknown direction":            func(r *wire.Ring) { r.Planes[0].Direction = "inout" },
		"an unknown device":               func(r *wire.Ring) { r.Planes[0].Device = "cuda" },
		"more slots than there is memory": func(r *wire.Ring) { r.Slots = 4096 },
		"more slots than the limit":       func(r *wire.Ring) { r.Slots = 1 << 52 },
		"more rows than slots":            func(r *wire.Ring) { r.MaxRows = r.Slots + 1 },
		"two planes of one name":          func(r *wire.Ring) { r.Planes[1].Name, r.Planes[1].Direction = "x", "in" },
		"no memory":                       func(r *wire.Ring) { r.Segment.Bytes = 0 },
	} {
		t.Run(name, func(t *testing.T) {
			b := ringbrokertest.New(t, twice())
			c := dial(t, b)
			b.Mangle(func(payload []byte) []byte { return spoilRing(t, payload, spoil) })
			_, err := c.Open(inTime(t), "twice")
			wants(t, err, ringbroker.CodeBadAnswer)
			b.Mangle(nil)
			open(t, c, "twice") // on a new connection
		})
	}
}

// The planes are the signature's tensors: so their elements are what a caller takes them for.
func TestARingOfOtherPlanesThanTheModelsIsRefused(t *testing.T) {
	for name, spoil := range map[string]func(*wire.Ring){
		"another name":      func(r *wire.Ring) { r.Planes[0].Name = "b" },
		"another dtype":     func(r *wire.Ring) { r.Planes[0].DType = "U32" },
		"no batch axis":     func(r *wire.Ring) { r.Planes[0].BatchAxis = wire.Opt[uint16]{} },
		"another axis":      func(r *wire.Ring) { r.Planes[0].BatchAxis.Value = 0 },
		"another rank":      func(r *wire.Ring) { r.Planes[0].Sample = []uint64{6} },
		"another fixed dim": func(r *wire.Ring) { r.Planes[0].Sample = []uint64{3, 2} },
		"an input missing":  func(r *wire.Ring) { r.Planes = r.Planes[1:] },
		"an output missing": func(r *wire.Ring) { r.Planes = r.Planes[:1] },
		"no planes":         func(r *wire.Ring) { r.Planes = nil },
		"an input more":     func(r *wire.Ring) { r.Planes[1].Direction = "in" },
		"outputs first":     func(r *wire.Ring) { r.Planes[0], r.Planes[1] = r.Planes[1], r.Planes[0] },
	} {
		t.Run(name, func(t *testing.T) {
			b := ringbrokertest.New(t, turned())
			c := dial(t, b)
			b.Mangle(func(payload []byte) []byte { return spoilRing(t, payload, spoil) })
			_, err := c.Open(inTime(t), "turned")
			wants(t, err, ringbroker.CodeBadAnswer)
		})
	}
	b := ringbrokertest.New(t, sum())
	b.Mangle(func(payload []byte) []byte {
		return spoilRing(t, payload, func(r *wire.Ring) { r.Planes[1].Sample, r.Planes[1].Stride = []uint64{8}, 64 })
	})
	_, err := dial(t, b).Open(inTime(t), "sum") // where one dim has two sizes
	wants(t, err, ringbroker.CodeBadAnswer)
}

func TestAModelOnALaterPageIsOpened(t *testing.T) {
	var models []ringbrokertest.Model
	for i := range 40 {
		m := twice()
		m.Name += fmt.Sprint(i)
		models = append(models, m)
	}
	c := dial(t, ringbrokertest.New(t, models...))
	for _, name := range []string{"twice0", "twice16", "twice39"} {
		infer(t, acquire(t, open(t, c, name), 1))
	}
}

func TestPagesThatDoNotGrowAreABadAnswer(t *testing.T) {
	for _, next := range []uint64{0, 1} {
		b := ringbrokertest.New(t, twice())
		c := dial(t, b)
		var asked atomic.Uint64
		b.Mangle(func(payload []byte) []byte {
			m, ok := decode(t, payload).(*wire.Models)
			if !ok {
				return payload
			}
			m.NextPage = wire.Some(min(asked.Add(1), next)) // 0 after 0, or 1 after 0 and then 1 after 1
			return encode(t, m)
		})
		_, err := c.Models(inTime(t))
		wants(t, err, ringbroker.CodeBadAnswer)
		if asked.Load() != next+1 {
			t.Errorf("it asked for %d pages", asked.Load())
		}
		_, err = c.Open(inTime(t), "nobody")
		wants(t, err, ringbroker.CodeBadAnswer)
	}
}

func TestASegmentThatCannotBeMappedIsGivenBack(t *testing.T) {
	dir := t.TempDir()
	for name, spoil := range map[string]func(*wire.Ring){
		"no such file":          func(r *wire.Ring) { r.Segment.Path = wire.Some(filepath.Join(dir, "nothing")) },
		"a directory":           func(r *wire.Ring) { r.Segment.Path = wire.Some(dir) },
		"a device":              func(r *wire.Ring) { r.Segment.Path = wire.Some("/dev/zero") },
		"a file that is short":  func(r *wire.Ring) { r.Segment.Bytes *= 2 },
		"another kind":          func(r *wire.Ring) { r.Segment.Kind = "fd" },
		"a file with no header": func(r *wire.Ring) { r.Segment.Path = wire.Some(zeros(t, int(r.Segment.Bytes))) },
	} {
		t.Run(name, func(t *testing.T) {
			b := ringbrokertest.New(t, twice())
			c := dial(t, b)
			b.Mangle(func(payload []byte) []byte { return spoilRing(t, payload, spoil) })
			for range 40 { // more than a session may have rings
				_, err := c.Open(inTime(t), "twice")
				wants(t, err, ringbroker.CodeAttachFailed)
			}
			b.Mangle(nil)
			open(t, c, "twice")
			if b.Connections() != 1 {
				t.Error("the connection did not outlive the failures")
			}
		})
	}
}

func spoilRing(t *testing.T, payload []byte, spoil func(*wire.Ring)) []byte {
	m, ok := decode(t, payload).(*wire.Ring)
	if !ok {
		return payload
	}
	spoil(m)
	return encode(t, m)
}

// A ring that comes after its caller has left is given back, so that it does not count and its name goes.
func TestARingThatComesTooLateIsGivenBack(t *testing.T) {
	bothWays(t, func(t *testing.T, spin ringbroker.Option) {
		b := ringbrokertest.New(t, twice())
		c := dial(t, b, spin)
		for range 40 { // more than a session may have rings
			ctx, cancel := context.WithCancel(inTime(t))
			left := make(chan struct{})
			b.Mangle(func(payload []byte) []byte {
				if _, ok := decode(t, payload).(*wire.Ring); ok {
					cancel()
					<-left
				}
				return payload
			})
			_, err := c.Open(ctx, "twice")
			close(left)
			wants(t, err, ringbroker.CodeCancelled, context.Canceled)
			b.Mangle(nil)
		}
		eventually(t, "there is room for a ring", func() bool {
			_, err := c.Open(inTime(t), "twice")
			return err == nil
		})
		if b.Connections() != 1 {
			t.Error("the connection did not outlive the calls that were given up")
		}
	})
}
