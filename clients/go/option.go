package ringbroker

import (
	"runtime"
	"time"

	"ringbroker/internal/wire"
)

// Option is an option of [Dial].
type Option func(*settings)

type settings struct {
	spin  time.Duration
	conns int
	pool  wire.Opt[string]
	hello wire.Hello
}

// autoSpin is how long a call polls for its answer before it sleeps, where there is a second processor for the broker
// to run on. A sleeping call is answered some 40 us later than a polling one, so polling for a few times that is repaid
// by every model that answers within it, and costs little beside one that does not.
const autoSpin = 100 * time.Microsecond

func defaults() settings {
	s := settings{hello: wire.Hello{Major: 1, Minor: 0, Client: wire.Client{Name: "ringbroker-go", Version: "0.1.0"}}}
	if runtime.NumCPU() > 1 {
		s.spin = autoSpin
	}
	return s
}

// Spin sets how long a call polls the socket for its answer before it sleeps. Polling answers sooner and costs a
// processor meanwhile. The default is 100 us where there is more than one processor; 0 never polls.
func Spin(d time.Duration) Option { return func(s *settings) { s.spin = d } }

// Name sets what the broker's log calls this client.
func Name(name, version string) Option {
	return func(s *settings) { s.hello.Client = wire.Client{Name: name, Version: version} }
}

// Pool says which of the broker's pools of models the first connection is for. The default is any: [Client.Open]
// connects to a model's pool by itself.
func Pool(name string) Option { return func(s *settings) { s.pool = wire.Some(name) } }

// Conns sets how many connections there are to each pool, 1 being the default. The broker gives each to another of the
// pool's workers, as far as there are some; a model has a ring on each, and a lease is of the one that has the fewest
// rows taken.
func Conns(n int) Option { return func(s *settings) { s.conns = n } }

// Segments sets how the rings' memory is passed, the best first: "path", a name in /dev/shm, or "fd", a file descriptor,
// which needs no file system in common with the broker. The default is "path". A broker that knows none of them answers
// NOT_SUPPORTED.
func Segments(kinds ...string) Option {
	return func(s *settings) { s.hello.Options.Segments = wire.Some(kinds) }
}

// OpenOption is an option of [Client.Open].
type OpenOption func(*openOptions)

type openOptions struct {
	open   wire.Open
	repost bool
}

// Slots sets how many samples the ring holds, which is how many one-row leases there can be at a time. The default, 0,
// leaves it to the broker.
func Slots(n int) OpenOption { return func(o *openOptions) { o.open.Slots = uint64(n) } }

// Max sets the largest size of a dynamic dim that this ring will see. A dim for which the model sets no maximum needs
// one; for others, those of outputs included, it makes the rows smaller.
func Max(dim string, size int) OpenOption {
	return func(o *openOptions) {
		if o.open.Maxima == nil {
			o.open.Maxima = make(map[string]uint64)
		}
		o.open.Maxima[dim] = uint64(size)
	}
}

// Version asks for one version of the model, which then answers every request. The default leaves it to the broker; see
// also [Lease.SetVersion].
func Version(version string) OpenOption {
	return func(o *openOptions) { o.open.Version = wire.Some(version) }
}

// Repost sends a request that was lost with its worker again, from the same rows and up to twice, where its Infer would
// be BROKER_LOST. It may then have run more than once; so one of a model that the broker calls stateful is not sent
// again.
func Repost() OpenOption { return func(o *openOptions) { o.repost = true } }
