package ringbroker

import "context"

// maxReposts is how often a request is sent again: one that ends its worker shall not end many.
const maxReposts = 2

// submit sends the request on the ring's connection. Where it cannot, the request is settled with the reason.
func (l *lease) submit(ctx context.Context) (id uint64, isSent bool) {
	c, err := l.ring.conn(ctx)
	l.conn = c
	if err != nil {
		l.settle(nil, err)
		return 0, false
	}
	deadline, ok := ctx.Deadline()
	l.request.DeadlineNS.Set = ok
	if ok {
		l.request.DeadlineNS.Value = c.clock.deadlineNS(deadline)
	}
	if id, err = c.calls.add(l); err != nil {
		l.settle(nil, err)
		return 0, false
	}
	l.request.ID = id
	if err = c.post(&l.request); err == nil {
		return id, true
	}
	if c.calls.take(id) != nil { // else the connection's end settles it
		l.settle(nil, err)
		c.endIfDrained()
	}
	return 0, false
}

// isToBeSent says whether a request that has come back is to be sent on the next connection: for the first time, or
// again. Where it is not, its failure is what the caller is told. The broker cannot have seen one whose sending failed.
func (l *lease) isToBeSent(ctx context.Context, wasSent bool, times int) bool {
	c := l.conn
	if l.failure == nil || l.failure.Code != CodeBrokerLost || c == nil || c.isUsable() {
		return false
	}
	again := !wasSent || l.ring.reposts && times <= maxReposts
	if wasSent {
		if !l.ring.link.follow(ctx, c, again) {
			return false
		}
		if c.lost != 0 {
			l.failure = errorf(c.lost, "", "the broker ended the worker that had the request")
			return false
		}
	}
	return again && l.takeUp()
}

// takeUp hands the rows to the broker once more, unless the lease was released meanwhile.
func (l *lease) takeUp() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.released {
		return false
	}
	l.inFlight, l.failure = true, nil
	return true
}
