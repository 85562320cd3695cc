package ringbroker_test

import (
	"testing"

	"ringbroker"
	"ringbroker/internal/wire"
	"ringbroker/ringbrokertest"
)

func TestSegmentsByDescriptor(t *testing.T) {
	bothWays(t, func(t *testing.T, spin ringbroker.Option) {
		b := ringbrokertest.New(t, twice(), sum())
		c := dial(t, b, spin, ringbroker.Segments("fd", "path"))
		before := countFiles(t)
		opened := make(chan *ringbroker.Model)
		for range 8 { // several at a time, each with its own descriptor
			go func() { opened <- open(t, c, "twice", ringbroker.Slots(2)) }()
		}
		var all []*ringbroker.Model
		for range 8 {
			all = append(all, <-opened)
		}
		for i, m := range all {
			l := acquire(t, m, 1)
			view[float32](t, l.Input("x"))[0] = float32(i)
			if y := view[float32](t, infer(t, l).Output("y")); y[0] != float32(2*i) {
				t.Error(i, y)
			}
		}
		if after := countFiles(t); after != before {
			t.Errorf("%d open files; there were %d", after, before)
		}
		b.Disconnect()
		l := acquire(t, all[0], 1)
		for _, err := l.Infer(inTime(t)); err != nil; _, err = l.Infer(inTime(t)) {
			wants(t, err, ringbroker.ErrBrokerLost)
		}
	})
}

// What the descriptor was for does not come: it is closed.
func TestADescriptorWithoutItsRing(t *testing.T) {
	b := ringbrokertest.New(t, twice())
	c := dial(t, b, ringbroker.Segments("fd"))
	infer(t, acquire(t, open(t, c, "twice"), 1)) // the broker has read ATTACHED, and closed its own descriptor
	before := countFiles(t)
	b.Mangle(func(payload []byte) []byte {
		if m, ok := decode(t, payload).(*wire.Ring); ok {
			return encode(t, &wire.Failure{ID: wire.Some(m.ID), Code: uint16(ringbroker.CodeSHMFull)})
		}
		return payload
	})
	for range 5 {
		_, err := c.Open(inTime(t), "twice")
		wants(t, err, ringbroker.CodeSHMFull)
	}
	if after := countFiles(t); after != before+5 { // the broker keeps its own
		t.Errorf("%d open files; there were %d", after, before)
	}
}

func TestAnUnknownKindOfSegmentIsRefused(t *testing.T) {
	b := ringbrokertest.New(t)
	_, err := ringbroker.Dial(inTime(t), b.Path(), ringbroker.Segments("magic"))
	wants(t, err, ringbroker.CodeNotSupported)
}
