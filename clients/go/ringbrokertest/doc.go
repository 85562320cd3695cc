// Package ringbrokertest is a broker to test against: a real Unix socket, real shared memory and the whole protocol,
// with Go functions for models and no Python.
//
//	broker := ringbrokertest.New(t, ringbrokertest.Func("twice", 4, 4, func(x, y []float32) error {
//		for i := range x {
//			y[i] = 2 * x[i]
//		}
//		return nil
//	}))
//	client, err := ringbroker.Dial(ctx, broker.Path())
//
// It follows the checks of spec/PROTOCOL.md in their order, so a request that it takes is one that the real broker
// takes. It can be told to fail requests, to hold them back, to lose its connections, to stop and start again. It ends
// with the test, and leaves nothing behind.
package ringbrokertest
