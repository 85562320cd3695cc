package ringbroker_test

import (
	"context"
	"testing"

	"ringbroker"
	"ringbroker/ringbrokertest"
)

func TestALeaseIsUsedByOneInferenceAtATime(t *testing.T) {
	bothWays(t, func(t *testing.T, spin ringbroker.Option) {
		b := ringbrokertest.New(t, twice())
		l := acquire(t, open(t, dial(t, b, spin), "twice"), 1)
		x := l.Input("x")
		release := b.Hold()
		done := make(chan error)
		go func() {
			_, err := l.Infer(inTime(t))
			done <- err
		}()
		eventually(t, "the request has come", func() bool { return b.Requests() == 1 })
		_, err := l.Infer(inTime(t))
		wants(t, err, ringbroker.CodeLeaseBusy)
		_, err = ringbroker.View[float32](x)
		wants(t, err, ringbroker.CodeLeaseBusy)
		_, err = ringbroker.View[float32](l.Input("x"))
		wants(t, err, ringbroker.CodeLeaseBusy)
		wants(t, l.SetShape("x", 1), ringbroker.CodeLeaseBusy)
		release()
		if err := <-done; err != nil {
			t.Error(err)
		}
		infer(t, l)
	})
}

func TestAReleasedLeaseIsNeverAnothers(t *testing.T) {
	m := open(t, dial(t, ringbrokertest.New(t, twice())), "twice", ringbroker.Slots(1))
	first := acquire(t, m, 1)
	x, r := first.Input("x"), infer(t, first)
	y := r.Output("y")
	if err := first.Release(); err != nil {
		t.Fatal(err)
	}
	second := acquire(t, m, 1) // of the same row
	view[float32](t, second.Input("x"))[0] = 21
	for _, stale := range []ringbroker.Tensor{x, y, r.Output("y"), first.Input("x"), x.Row(0)} {
		_, err := ringbroker.View[float32](stale)
		wants(t, err, ringbroker.CodeLeaseReleased)
		if stale.Shape() != nil {
			t.Error("it has a shape")
		}
	}
	_, err := first.Infer(inTime(t))
	wants(t, err, ringbroker.CodeLeaseReleased)
	wants(t, first.Release(), ringbroker.CodeLeaseReleased)
	wants(t, first.SetShape("x", 4), ringbroker.CodeLeaseReleased)
	wants(t, first.SetTrace("x"), ringbroker.CodeLeaseReleased)
	if first.Rows() != 0 || second.Rows() != 1 {
		t.Error(first.Rows(), second.Rows())
	}
	if y := view[float32](t, infer(t, second).Output("y")); y[0] != 42 {
		t.Error("the second lease has", y)
	}
}

func TestTheZeroLeaseIsReleased(t *testing.T) {
	var l ringbroker.Lease
	wants(t, l.Release(), ringbroker.CodeLeaseReleased)
	_, err := l.Infer(inTime(t))
	wants(t, err, ringbroker.CodeLeaseReleased)
	_, err = ringbroker.View[float32](l.Input("x"))
	wants(t, err, ringbroker.CodeLeaseReleased)
	_, err = ringbroker.View[float32](ringbroker.Result{}.Output("y"))
	wants(t, err, ringbroker.CodeLeaseReleased)
	_, err = ringbroker.Tensor{}.Bytes()
	wants(t, err, ringbroker.CodeLeaseReleased)
	_, err = ringbroker.View[float32](ringbroker.Tensor{})
	wants(t, err, ringbroker.CodeWrongDType)
}

// A release in the middle of another goroutine's Infer is a mistake, and stays that one's.
func TestAReleaseDuringAnInferenceHarmsNobodyElse(t *testing.T) {
	bothWays(t, func(t *testing.T, spin ringbroker.Option) {
		b := ringbrokertest.New(t, twice())
		m := open(t, dial(t, b, spin), "twice", ringbroker.Slots(1))
		l := acquire(t, m, 1)
		release := b.Hold()
		done := make(chan error)
		go func() {
			_, err := l.Infer(inTime(t))
			done <- err
		}()
		eventually(t, "the request has come", func() bool { return b.Requests() == 1 })
		if err := l.Release(); err != nil {
			t.Fatal(err)
		}
		acquired := make(chan ringbroker.Lease)
		go func() { acquired <- acquire(t, m, 1) }()
		release()
		wants(t, <-done, ringbroker.CodeLeaseReleased)
		infer(t, <-acquired)
	})
}

func TestAResultIsItsInferencesOwn(t *testing.T) {
	l := acquire(t, open(t, dial(t, ringbrokertest.New(t, twice())), "twice"), 1)
	first := infer(t, l)
	y := first.Output("y")
	second := infer(t, l)
	for _, stale := range []ringbroker.Tensor{y, first.Output("y")} {
		_, err := ringbroker.View[float32](stale)
		wants(t, err, ringbroker.CodeLeaseReleased)
	}
	view[float32](t, second.Output("y"))
}

func TestAcquireRefuses(t *testing.T) {
	m := open(t, dial(t, ringbrokertest.New(t, twice())), "twice", ringbroker.Slots(16))
	_, err := m.Acquire(inTime(t), 9) // a batch has 8
	wants(t, err, ringbroker.CodeTooManyRows)
	_, err = m.Acquire(inTime(t), 0)
	wants(t, err, ringbroker.CodeInvalidField)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_, err = m.Acquire(ctx, 1)
	wants(t, err, context.Canceled, ringbroker.CodeCancelled)
}

func TestAcquireWaitsForItsContextOnly(t *testing.T) {
	m := open(t, dial(t, ringbrokertest.New(t, twice())), "twice", ringbroker.Slots(1))
	l := acquire(t, m, 1)
	ctx, cancel := context.WithTimeout(context.Background(), 1)
	defer cancel()
	_, err := m.Acquire(ctx, 1)
	wants(t, err, ringbroker.CodeAcquireTimeout, context.DeadlineExceeded)
	cancelled, giveUp := context.WithCancelCause(context.Background())
	waited := make(chan error)
	go func() {
		_, err := m.Acquire(cancelled, 1)
		waited <- err
	}()
	giveUp(ringbroker.CodeUnknownDim) // any error will do
	wants(t, <-waited, ringbroker.CodeCancelled, context.Canceled, ringbroker.CodeUnknownDim)
	l.Release()
	acquire(t, m, 1)
}

// Concurrent leases are neighbours, so their requests are one batch.
func TestConcurrentLeasesAreOneBatch(t *testing.T) {
	b := ringbrokertest.New(t, twice())
	m := open(t, dial(t, b), "twice", ringbroker.Slots(64))
	release := b.Hold()
	var all group
	for range 8 {
		l := acquire(t, m, 1)
		all.Go(func() {
			if r := infer(t, l); r.BatchRows != 8 {
				t.Error("a batch of", r.BatchRows)
			}
		})
	}
	eventually(t, "all have come", func() bool { return b.Requests() == 8 })
	release()
	all.Wait()
}

func TestManyGoroutinesGetTheirOwnAnswers(t *testing.T) {
	bothWays(t, func(t *testing.T, spin ringbroker.Option) {
		m := open(t, dial(t, ringbrokertest.New(t, twice()), spin), "twice", ringbroker.Slots(11))
		var all group
		for worker := range 16 {
			all.Go(func() {
				for i := range 60 {
					if !checkDoubling(t, m, 1+(worker+i)%8, float32(1000*worker+i)) {
						return
					}
				}
			})
		}
		all.Wait()
	})
}

func checkDoubling(t *testing.T, m *ringbroker.Model, rows int, value float32) bool {
	l, err := m.Acquire(inTime(t), rows)
	if err != nil {
		t.Error(err)
		return false
	}
	defer l.Release()
	x := view[float32](t, l.Input("x"))
	for i := range x {
		x[i] = value
	}
	r, err := l.Infer(inTime(t))
	if err != nil {
		t.Error(err)
		return false
	}
	y := view[float32](t, r.Output("y"))
	if len(y) != 4*rows {
		t.Errorf("%d elements of %d rows", len(y), rows)
	}
	for i := range y {
		if y[i] != 2*value {
			t.Errorf("row %d of %d is %v, not %v", i/4, rows, y[i], 2*value)
			return false
		}
	}
	return true
}
