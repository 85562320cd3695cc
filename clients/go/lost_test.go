package ringbroker_test

import (
	"context"
	"testing"

	"ringbroker"
	"ringbroker/internal/wire"
	"ringbroker/ringbrokertest"
)

func TestALostBrokerIsOneRetryableError(t *testing.T) {
	bothWays(t, func(t *testing.T, spin ringbroker.Option) {
		b := ringbrokertest.New(t, twice())
		c := dial(t, b, spin)
		m := open(t, c, "twice", ringbroker.Slots(4))
		lost := acquire(t, m, 1)
		kept := view[float32](t, lost.Input("x"))
		kept[0] = 7
		release := b.Hold()
		done := make(chan error)
		go func() {
			_, err := lost.Infer(inTime(t))
			done <- err
		}()
		eventually(t, "the request has come", func() bool { return b.Requests() == 1 })
		b.Stop()
		err := <-done
		wants(t, err, ringbroker.ErrBrokerLost)
		if !err.(*ringbroker.Error).Retryable() {
			t.Error("it is not retryable")
		}
		if view[float32](t, lost.Input("x"))[0] != 7 {
			t.Error("the data went with the broker")
		}
		acquired := make(chan ringbroker.Lease)
		go func() { acquired <- acquire(t, m, 1) }() // waits for the broker
		if err := b.Start(); err != nil {
			t.Fatal(err)
		}
		next := <-acquired
		release()
		infer(t, next)
		_, err = lost.Infer(inTime(t)) // of a ring that the new broker never had
		wants(t, err, ringbroker.ErrBrokerLost)
		if err := lost.Release(); err != nil {
			t.Error(err)
		}
		if kept[0] != 0 {
			t.Error("a slice that outlived its ring reads", kept[0])
		}
		kept[1] = 1 // harms nobody
		if view[float32](t, next.Input("x"))[1] == 1 {
			t.Error("a slice that outlived its ring is another's")
		}
	})
}

func TestEveryCallConnectsAgain(t *testing.T) {
	b := ringbrokertest.New(t, twice())
	c := dial(t, b)
	m := open(t, c, "twice")
	for name, call := range map[string]func() error{
		"Models":  func() error { _, err := c.Models(inTime(t)); return err },
		"Open":    func() error { _, err := c.Open(inTime(t), "twice"); return err },
		"Ping":    func() error { _, err := c.Ping(inTime(t)); return err },
		"Acquire": func() error { _, err := m.Acquire(inTime(t), 1); return err },
		"Call": func() error {
			_, err := ringbroker.Call[float32, float32](inTime(t), m, make([]float32, 4))
			return err
		},
		"Infer": func() error {
			_, err := m.Infer(inTime(t), ringbroker.Arrays{"x": {Data: make([]float32, 4)}})
			return err
		},
	} {
		b.Disconnect()
		err := call()
		for err != nil && err.(*ringbroker.Error).Code == ringbroker.CodeBrokerLost { // a request that was in flight
			err = call()
		}
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestWhoWaitsForRowsGetsThemFromTheNextBroker(t *testing.T) {
	b := ringbrokertest.New(t, twice())
	m := open(t, dial(t, b), "twice", ringbroker.Slots(1))
	acquire(t, m, 1) // and never released
	acquired := make(chan error)
	go func() {
		_, err := m.Acquire(inTime(t), 1)
		acquired <- err
	}()
	b.Stop()
	if err := b.Start(); err != nil {
		t.Fatal(err)
	}
	if err := <-acquired; err != nil {
		t.Error(err)
	}
}

func TestAReconnectWaitsNoLongerThanItsContext(t *testing.T) {
	b := ringbrokertest.New(t, twice())
	m := open(t, dial(t, b), "twice")
	b.Stop()
	eventually(t, "the loss is known", func() bool {
		ctx, cancel := context.WithTimeout(context.Background(), 1)
		defer cancel()
		_, err := m.Acquire(ctx, 1)
		return err != nil
	})
	ctx, cancel := context.WithTimeout(context.Background(), 3e6)
	defer cancel()
	_, err := m.Acquire(ctx, 1)
	wants(t, err, context.DeadlineExceeded)
}

func TestManyGoroutinesOutliveBrokersThatDie(t *testing.T) {
	bothWays(t, func(t *testing.T, spin ringbroker.Option) {
		b := ringbrokertest.New(t, twice())
		m := open(t, dial(t, b, spin), "twice", ringbroker.Slots(8))
		stop := make(chan bool)
		var all group
		for range 8 {
			all.Go(func() {
				for {
					select {
					case <-stop:
						return
					default:
					}
					err := inferOnce(inTime(t), m)
					if err != nil && err.(*ringbroker.Error).Code != ringbroker.CodeBrokerLost {
						t.Error(err)
						return
					}
				}
			})
		}
		for range 20 {
			before := b.Requests()
			eventually(t, "inferences are made", func() bool { return b.Requests() > before+10 })
			b.Disconnect()
		}
		close(stop)
		all.Wait()
	})
}

// A broker that ends the session says why, and every call in flight hears it.
func TestAnErrorThatEndsTheSession(t *testing.T) {
	bothWays(t, func(t *testing.T, spin ringbroker.Option) {
		b := ringbrokertest.New(t, twice())
		c := dial(t, b, spin)
		m := open(t, c, "twice")
		l := acquire(t, m, 1)
		b.Mangle(func(payload []byte) []byte {
			return encode(t, &wire.Failure{Code: uint16(ringbroker.CodeInvalidField), Path: wire.Some("inputs[0]")})
		})
		_, err := l.Infer(inTime(t))
		wants(t, err, ringbroker.CodeInvalidField)
		if path := err.(*ringbroker.Error).Path; path != "inputs[0]" {
			t.Error(path)
		}
		b.Mangle(nil)
		infer(t, acquire(t, m, 1))
	})
}

// A client that nobody uses does not look for a broker that is gone: the next call does.
func TestAnIdleClientLeavesABrokerThatIsGoneAlone(t *testing.T) {
	b := ringbrokertest.New(t, twice())
	c := dial(t, b, ringbroker.Conns(2))
	m := open(t, c, "twice", ringbroker.Slots(1))
	b.Stop()
	eventually(t, "no search is on", c.IsIdle)
	if err := b.Start(); err != nil {
		t.Fatal(err)
	}
	one := acquire(t, m, 1)
	infer(t, one)
	for b.Connections() < 2 { // the other connection is made while the first is used
		infer(t, one)
		one.Release()
		one = acquire(t, m, 1)
	}
	infer(t, acquire(t, m, 1)) // of the other ring, which is opened anew
}

// A broker that is there, and refuses for now, may still have the session; but not for ever.
func TestAnUnwaitedSearchEnds(t *testing.T) {
	defer ringbroker.SetUnwaitedSearch(0)()
	b := ringbrokertest.New(t, twice())
	c := dial(t, b)
	m := open(t, c, "twice")
	b.Refuse(ringbroker.CodeTooManyConnections)
	b.Disconnect()
	eventually(t, "no search is on", c.IsIdle)
	b.Refuse(0)
	infer(t, acquire(t, m, 1))
}
