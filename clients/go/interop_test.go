package ringbroker_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"ringbroker"
)

// dialReal connects to the real broker that tests/interop/test_go_client.py started with the models of tests/interop/models.py.
func dialReal(t testing.TB) (context.Context, *ringbroker.Client) {
	t.Helper()
	socket := os.Getenv("RINGBROKER_TEST_SOCKET")
	if socket == "" {
		t.Skip("no real broker: tests/interop/test_go_client.py starts one, and sets RINGBROKER_TEST_SOCKET")
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	client, err := ringbroker.Dial(ctx, socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	return ctx, client
}

func openReal(t testing.TB, name string, options ...ringbroker.OpenOption) (context.Context, *ringbroker.Model) {
	t.Helper()
	ctx, client := dialReal(t)
	model, err := client.Open(ctx, name, options...)
	if err != nil {
		t.Fatal(err)
	}
	return ctx, model
}

func TestRealBrokerLeaseInfersInPlace(t *testing.T) {
	ctx, model := openReal(t, "affine", ringbroker.Slots(4))
	lease, err := model.Acquire(ctx, 3)
	if err != nil {
		t.Fatal(err)
	}
	defer lease.Release()
	x := view[float32](t, lease.Input("x"))
	for i := range x {
		x[i] = float32(i)
	}
	result, err := lease.Infer(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for i, y := range view[float32](t, result.Output("y")) {
		if y != float32(3*i+1) {
			t.Errorf("y[%d] = %v", i, y)
		}
	}
	if result.Version != "1" || result.BatchRows != 3 || result.Compute <= 0 {
		t.Errorf("%+v", result)
	}
}

func TestRealBrokerOneCall(t *testing.T) {
	ctx, model := openReal(t, "affine")
	out, err := ringbroker.Call[float32, float32](ctx, model, []float32{0, 1, 2, 3, 4, 5, 6, 7})
	if err != nil || !slices.Equal(out, []float32{1, 4, 7, 10, 13, 16, 19, 22}) {
		t.Fatal(out, err)
	}
}

func TestRealBrokerDynamicDimsAndSeveralOutputs(t *testing.T) {
	ctx, model := openReal(t, "sequence")
	out, err := model.Infer(ctx, ringbroker.Arrays{
		"values": {Data: []int64{1, 2, 3, 4, 5, 6}, Shape: []int{2, 3}},
		"mask":   {Data: []bool{true, false, true, true, true, false}, Shape: []int{2, 3}},
	})
	if err != nil {
		t.Fatal(err)
	}
	if masked := out["masked"].Data.([]int64); !slices.Equal(masked, []int64{1, 0, 3, 4, 5, 0}) {
		t.Error(masked)
	}
	if count := out["count"].Data.([]int64); !slices.Equal(count, []int64{2, 2}) {
		t.Error(count)
	}
}

func TestRealBrokerManyGoroutinesGetTheirOwnAnswers(t *testing.T) {
	ctx, model := openReal(t, "affine", ringbroker.Slots(5))
	var all group
	for number := range 8 {
		all.Go(func() {
			for round := range 100 {
				value := float32(1000*number + round)
				if err := askAffine(ctx, model, value); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	all.Wait()
}

func askAffine(ctx context.Context, model *ringbroker.Model, value float32) error {
	lease, err := model.Acquire(ctx, 1)
	if err != nil {
		return err
	}
	defer lease.Release()
	x, err := ringbroker.View[float32](lease.Input("x"))
	if err != nil {
		return err
	}
	for i := range x {
		x[i] = value
	}
	result, err := lease.Infer(ctx)
	if err != nil {
		return err
	}
	y, err := ringbroker.View[float32](result.Output("y"))
	if err != nil {
		return err
	}
	for i := range y {
		if y[i] != 3*value+1 {
			return fmt.Errorf("asked with %v, answered %v", value, y)
		}
	}
	return nil
}

func TestRealBrokerModelErrorNamesTheTypeAndNotTheValues(t *testing.T) {
	ctx, model := openReal(t, "picky")
	_, err := ringbroker.Call[float32, float32](ctx, model, []float32{-1, -1, -1, -1})
	if !errors.Is(err, ringbroker.CodeModelFailed) || !strings.Contains(err.Error(), "ValueError") || strings.Contains(err.Error(), "secret") {
		t.Fatal(err)
	}
	if out, err := ringbroker.Call[float32, float32](ctx, model, []float32{1, 1, 1, 1}); err != nil || out[0] != 4 {
		t.Fatal(out, err)
	}
}

func TestRealBrokerTimeoutReturnsAndTheRowsComeBackWithTheAnswer(t *testing.T) {
	ctx, model := openReal(t, "slow", ringbroker.Slots(1))
	lease, err := model.Acquire(ctx, 1)
	if err != nil {
		t.Fatal(err)
	}
	short, cancel := context.WithTimeout(ctx, 5*time.Millisecond)
	defer cancel()
	if _, err := lease.Infer(short); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatal(err)
	}
	if err := lease.Release(); err != nil {
		t.Fatal(err)
	}
	if err := askAffine(ctx, model, 2); err != nil {
		t.Fatal(err)
	}
}

func TestRealBrokerUnknownModel(t *testing.T) {
	ctx, client := dialReal(t)
	_, err := client.Open(ctx, "nothing")
	var e *ringbroker.Error
	if !errors.As(err, &e) || e.Code != ringbroker.CodeUnknownModel || e.Path != "model" {
		t.Fatal(err)
	}
}

// BenchmarkRealBrokerInfer shows the allocations of an inference: none.
func BenchmarkRealBrokerInfer(b *testing.B) {
	ctx, model := openReal(b, "affine")
	lease, err := model.Acquire(ctx, 1)
	if err != nil {
		b.Fatal(err)
	}
	defer lease.Release()
	b.ReportAllocs()
	b.ResetTimer()
	for range b.N {
		if _, err := lease.Infer(ctx); err != nil {
			b.Fatal(err)
		}
	}
}
