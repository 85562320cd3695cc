package ringbroker_test

import (
	"context"
	"testing"
	"time"

	"ringbroker"
)

// BenchmarkInfer is the round trip of one row on a held lease, with a deadline: 0 allocations. The broker is
// ringbrokertest's, in a process of its own; both ends poll, or both sleep.
func BenchmarkInfer(b *testing.B) {
	for name, spin := range spins {
		b.Run(name, func(b *testing.B) {
			m := benchModel(b, spin)
			ctx := inTime(b)
			l := acquire(b, m, 1)
			defer l.Release()
			x := view[float32](b, l.Input("x"))
			b.ReportAllocs()
			b.ResetTimer()
			for range b.N {
				x[0]++
				r, err := l.Infer(ctx)
				if err != nil {
					b.Fatal(err)
				}
				if y, err := ringbroker.View[float32](r.Output("y")); err != nil || y[0] != 2*x[0] {
					b.Fatal(y, err)
				}
			}
		})
	}
}

// BenchmarkAcquireInferRelease is the same with a lease for each, from several goroutines.
func BenchmarkAcquireInferRelease(b *testing.B) {
	for name, spin := range spins {
		b.Run(name, func(b *testing.B) {
			m := benchModel(b, spin)
			ctx := inTime(b)
			b.SetParallelism(8)
			b.ReportAllocs()
			b.RunParallel(func(p *testing.PB) {
				for p.Next() {
					if err := inferOnce(ctx, m); err != nil {
						b.Error(err)
						return
					}
				}
			})
		})
	}
}

var spins = map[string]time.Duration{"polling": time.Millisecond, "sleeping": 0}

func benchModel(b testing.TB, spin time.Duration) *ringbroker.Model {
	c, err := ringbroker.Dial(inTime(b), inAnotherProcess(b, spin), ringbroker.Spin(spin))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { c.Close() })
	return open(b, c, "twice")
}

func inferOnce(ctx context.Context, m *ringbroker.Model) error {
	l, err := m.Acquire(ctx, 1)
	if err != nil {
		return err
	}
	defer l.Release()
	x, err := ringbroker.View[float32](l.Input("x"))
	if err != nil {
		return err
	}
	x[0] = 1
	r, err := l.Infer(ctx)
	if err != nil {
		return err
	}
	_, err = ringbroker.View[float32](r.Output("y"))
	return err
}

// TestInferenceAllocatesNothing counts what the benchmark reports.
func TestInferenceAllocatesNothing(t *testing.T) {
	for name, spin := range spins {
		t.Run(name, func(t *testing.T) {
			m := benchModel(t, spin)
			ctx := inTime(t)
			count := testing.AllocsPerRun(1000, func() {
				if err := inferOnce(ctx, m); err != nil {
					t.Fatal(err)
				}
			})
			if count != 0 {
				t.Errorf("%v allocations for each inference", count)
			}
		})
	}
}
