// Package ringbroker is the client of ringbroker, a shared-memory inference broker: a Go service runs a PyTorch model in
// another process of the same host without serialising, copying or parsing a tensor. Linux only; the standard library
// only; no cgo.
//
//	client, err := ringbroker.Dial(ctx, "")                       // waits for a broker that is starting
//	model, err := client.Open(ctx, "digits", ringbroker.Slots(64)) // a ring of 64 rows in shared memory
//	lease, err := model.Acquire(ctx, 1)                           // one row of it; no round trip
//	defer lease.Release()
//	image, err := ringbroker.View[float32](lease.Input("image"))  // []float32 in shared memory
//	fill(image)
//	result, err := lease.Infer(ctx)                               // ctx cancels, and sets the deadline
//	logits, err := ringbroker.View[float32](result.Output("logits"))
//
// # Memory
//
// A view aliases the ring. It is valid until its lease is released, an output's until the lease's next Infer, and it is
// the broker's while an Infer is in flight. What is kept longer must be copied. A view that is kept longer all the same
// sees another lease's data, or zeros once the ring has closed: the addresses are never unmapped, and never anything
// else's. A released [Lease], and every [Tensor] and [Result] of it, is an error in every later use, also when another
// lease has its rows.
//
// # Goroutines
//
// [Client] and [Model] are safe for concurrent use; share one of each. A lease belongs to one goroutine at a time. Leases
// that are held at the same time are neighbours in the ring, and what arrives together runs as one batch.
//
// # Contexts
//
// Every call that waits takes a context and returns at once when that ends. What waits for a broker to start or to come
// back waits as long as the context allows: give it a deadline.
//
// # Errors
//
// Every error is an [*Error] with a [Code]; each function names the codes it gives.
//
// # Lost connections
//
// A client connects again by itself where a worker died, and goes on with the same rings: a lease keeps its rows and
// what is in them. An inference that was in flight is BROKER_LOST, and may be made again with the same lease; see
// [Repost]. A broker that replaces its workers is not noticed. Where a ring is lost too, because the broker started anew
// or the model has another signature, its leases stay readable and run nothing, and the next Acquire opens another; see
// [Model].
//
// # Cost
//
// An inference, with its lease, allocates nothing. For up to 100 us (see [Spin]) a call polls the socket before it
// sleeps, and reads the answers of other callers too.
//
// To test without a broker, see ringbroker/ringbrokertest. The protocol is spec/PROTOCOL.md of the project; the sections
// named here are its.
package ringbroker
