package ringbroker_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"ringbroker"
	"ringbroker/ringbrokertest"
)

// A broker that reads nothing fills the socket with some 280 small frames. No call hangs in a write for it.
func TestABrokerThatDoesNotReadBlocksNobody(t *testing.T) {
	bothWays(t, func(t *testing.T, spin ringbroker.Option) {
		const rows = 3000
		b := ringbrokertest.New(t, twice())
		m := open(t, dial(t, b, spin), "twice", ringbroker.Slots(rows))
		infer(t, acquire(t, m, 1))
		resume := b.Pause()
		var all group
		for range rows - 1 {
			l := acquire(t, m, 1)
			all.Go(func() { infer(t, l) })
		}
		// One of them gives up, wherever its frame is.
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
		defer cancel()
		brief, err := m.Acquire(ctx, 1)
		if err == nil {
			_, err = brief.Infer(ctx)
		}
		wants(t, err, context.DeadlineExceeded)
		resume()
		all.Wait()
	})
}

// A client that stops reading while it sends does not block itself: whoever sends leaves what does not fit to be sent
// later.
func TestTheWaitingAreAnsweredWhenABrokerDiesThatDidNotRead(t *testing.T) {
	b := ringbrokertest.New(t, twice())
	m := open(t, dial(t, b), "twice", ringbroker.Slots(1000))
	infer(t, acquire(t, m, 1))
	b.Pause()
	var all group
	for range 999 {
		l := acquire(t, m, 1)
		all.Go(func() {
			_, err := l.Infer(inTime(t))
			wants(t, err, ringbroker.ErrBrokerLost)
		})
		eventually(t, "it is in flight", func() bool { return errors.Is(l.SetTrace(""), ringbroker.CodeLeaseBusy) })
	}
	b.Stop()
	all.Wait()
}

// Who needs all rows is served before those who came later and need one.
func TestALargeLeaseIsNotStarved(t *testing.T) {
	m := open(t, dial(t, ringbrokertest.New(t, twice())), "twice", ringbroker.Slots(4))
	held := acquire(t, m, 1)
	order := make(chan int, 2)
	var all group
	for _, rows := range []int{4, 1} {
		queued := make(chan bool)
		all.Go(func() {
			close(queued)
			l := acquire(t, m, rows)
			order <- rows
			l.Release()
		})
		<-queued
		eventually(t, "it waits", func() bool { return m.Waiting() == len(order)+1 || rows == 1 && m.Waiting() == 2 })
	}
	held.Release()
	all.Wait()
	if first := <-order; first != 4 {
		t.Error("first came the lease of", first)
	}
}
