package ringbroker_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"ringbroker"
	"ringbroker/ringbrokertest"
)

// serve is a broker for the examples; with a real one, path is its socket, or "".
func serve() (path string, stop func()) {
	b, err := ringbrokertest.Serve(twice(), sum())
	if err != nil {
		panic(err)
	}
	return b.Path(), b.Stop
}

// The whole way: fill the model's input in shared memory, run it, and read its output there.
func Example() {
	path, stop := serve()
	defer stop()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()

	client, err := ringbroker.Dial(ctx, path)
	if err != nil {
		panic(err)
	}
	defer client.Close()
	model, err := client.Open(ctx, "twice", ringbroker.Slots(64))
	if err != nil {
		panic(err)
	}

	lease, err := model.Acquire(ctx, 1) // one row; no round trip
	if err != nil {
		panic(err)
	}
	defer lease.Release()
	x, err := ringbroker.View[float32](lease.Input("x")) // shared memory: no copy
	if err != nil {
		panic(err)
	}
	copy(x, []float32{1, 2, 3, 4})
	result, err := lease.Infer(ctx) // ctx cancels, and sets the deadline
	if err != nil {
		panic(err)
	}
	y, err := ringbroker.View[float32](result.Output("y"))
	if err != nil {
		panic(err)
	}
	fmt.Println(y, "of version", result.Version)
	// Output: [2 4 6 8] of version 1
}

// One call, with copies in and out: here for two rows.
func ExampleCall() {
	path, stop := serve()
	defer stop()
	ctx := context.Background()
	client, err := ringbroker.Dial(ctx, path)
	if err != nil {
		panic(err)
	}
	defer client.Close()
	model, err := client.Open(ctx, "twice")
	if err != nil {
		panic(err)
	}
	y, err := ringbroker.Call[float32, float32](ctx, model, []float32{1, 2, 3, 4, 5, 6, 7, 8})
	fmt.Println(y, err)
	// Output: [2 4 6 8 10 12 14 16] <nil>
}

// One call of a model of several inputs.
func ExampleModel_Infer() {
	path, stop := serve()
	defer stop()
	ctx := context.Background()
	client, err := ringbroker.Dial(ctx, path)
	if err != nil {
		panic(err)
	}
	defer client.Close()
	model, err := client.Open(ctx, "sum")
	if err != nil {
		panic(err)
	}
	out, err := model.Infer(ctx, ringbroker.Arrays{
		"a": {Data: []int64{1, 2, 3}},
		"b": {Data: []int64{10, 20, 30}},
	})
	fmt.Println(out["y"].Data, out["y"].Shape, err)
	// Output: [11 22 33] [1 3] <nil>
}

// Two sequences of 3 in a ring whose rows have room for 16.
func ExampleLease_SetShape() {
	path, stop := serve()
	defer stop()
	ctx := context.Background()
	client, err := ringbroker.Dial(ctx, path)
	if err != nil {
		panic(err)
	}
	defer client.Close()
	model, err := client.Open(ctx, "sum")
	if err != nil {
		panic(err)
	}
	lease, err := model.Acquire(ctx, 2)
	if err != nil {
		panic(err)
	}
	defer lease.Release()
	for _, name := range []string{"a", "b"} {
		if err := lease.SetShape(name, 3); err != nil {
			panic(err)
		}
		for i := range lease.Rows() {
			row, err := ringbroker.View[int64](lease.Input(name).Row(i))
			if err != nil {
				panic(err)
			}
			copy(row, []int64{1, 2, 3})
		}
	}
	result, err := lease.Infer(ctx)
	if err != nil {
		panic(err)
	}
	last, err := ringbroker.View[int64](result.Output("y").Row(1))
	fmt.Println(last, result.Output("y").Shape(), err)
	// Output: [2 4 6] [2 3] <nil>
}

// A code says what went wrong, and whether to try again.
func ExampleError() {
	path, stop := serve()
	defer stop()
	ctx := context.Background()
	client, err := ringbroker.Dial(ctx, path)
	if err != nil {
		panic(err)
	}
	defer client.Close()
	_, err = client.Open(ctx, "nobody")
	var e *ringbroker.Error
	if errors.As(err, &e) {
		fmt.Println(e.Code, e.Path, e.Retryable(), errors.Is(err, ringbroker.CodeUnknownModel))
	}
	// Output: UNKNOWN_MODEL model false true
}
