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

// Pool asks for one of the broker's pools of models (spec section 4). The default is any.
func Pool(name string) Option {
	return func(s *settings) { s.hello.Options.Pool = wire.Some(name) }
}

// OpenOption is an option of [Client.Open].
type OpenOption func(*wire.Open)

// Slots sets how many samples the ring holds, which is how many one-row leases there can be at a time. The default, 0,
// leaves it to the broker.
func Slots(n int) OpenOption { return func(o *wire.Open) { o.Slots = uint64(n) } }

// Max sets the largest size of a dynamic dim that this ring will see. A dim for which the model sets no maximum needs
// one; for others, those of outputs included, it makes the rows smaller.
func Max(dim string, size int) OpenOption {
	return func(o *wire.Open) {
		if o.Maxima == nil {
			o.Maxima = make(map[string]uint64)
		}
		o.Maxima[dim] = uint64(size)
	}
}

// Version asks for one version of the model. The default leaves it to the broker.
func Version(version string) OpenOption {
	return func(o *wire.Open) { o.Version = wire.Some(version) }
}
