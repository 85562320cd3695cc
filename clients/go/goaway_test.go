package ringbroker_test

import (
	"testing"

	"ringbroker"
	"ringbroker/ringbrokertest"
)

func TestGoAwayIsInvisible(t *testing.T) {
	bothWays(t, func(t *testing.T, spin ringbroker.Option) {
		b := ringbrokertest.New(t, twice())
		m := open(t, dial(t, b, spin), "twice", ringbroker.Slots(2))
		l, other := acquire(t, m, 1), acquire(t, m, 1)
		release := b.Hold()
		results := make(chan error, 2)
		ask := func(l ringbroker.Lease) {
			_, err := l.Infer(inTime(t))
			results <- err
		}
		go ask(l)
		eventually(t, "the request has come", func() bool { return b.Requests() == 1 })
		b.GoAway("a new version")
		if _, err := l.Infer(inTime(t)); err == nil {
			t.Error("a lease that is in flight was used")
		}
		go ask(other) // either before the GOAWAY is read, or on the next connection
		release()
		for range 2 {
			if err := <-results; err != nil {
				t.Error(err)
			}
		}
		eventually(t, "the session has moved", func() bool { return b.Resumes() == 1 && b.Connections() == 1 })
		infer(t, l)
		if b.Requests() != 3 {
			t.Error("a request was sent twice")
		}
	})
}

// A GOAWAY comes unasked: it is read although nobody waits for anything.
func TestGoAwayIsReadByAnIdleClient(t *testing.T) {
	bothWays(t, func(t *testing.T, spin ringbroker.Option) {
		b := ringbrokertest.New(t, twice())
		l := acquire(t, open(t, dial(t, b, spin), "twice"), 1)
		infer(t, l)
		b.GoAway("a new version")
		eventually(t, "the session has moved", func() bool { return b.Resumes() == 1 })
		infer(t, l)
	})
}

func TestManyGoroutinesNoticeNoGoAway(t *testing.T) {
	bothWays(t, func(t *testing.T, spin ringbroker.Option) {
		b := ringbrokertest.New(t, twice())
		m := open(t, dial(t, b, spin, ringbroker.Conns(2)), "twice", ringbroker.Slots(4))
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
					if err := inferOnce(inTime(t), m); err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
		for range 20 {
			requests, resumes := b.Requests(), b.Resumes()
			eventually(t, "inferences are made", func() bool { return b.Requests() > requests+10 })
			b.GoAway("a new version")
			eventually(t, "the sessions have moved", func() bool { return b.Resumes() == resumes+2 })
		}
		close(stop)
		all.Wait()
	})
}
