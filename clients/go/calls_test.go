package ringbroker

import (
	"syscall"
	"testing"
	"time"

	"ringbroker/internal/wire"
)

// counting is a waiter that counts how often it is settled.
type counting struct{ settled int }

func (c *counting) settle(wire.Message, *Error) *Error {
	c.settled++
	return nil
}

func TestIDsAreNotUsedAgainSoon(t *testing.T) {
	var c calls
	seen := make(map[uint64]bool)
	for range 1000 {
		owner := new(counting)
		id, err := c.add(owner)
		if err != nil || seen[id] || id > maxInt {
			t.Fatal(id, err)
		}
		seen[id] = true
		if c.take(id+1) != nil || c.take(id^1<<placeBits) != nil {
			t.Fatal("an id that is not in flight has an owner")
		}
		if c.take(id) != owner || c.take(id) != nil {
			t.Fatal("an id does not have its owner once")
		}
	}
}

func TestCallsEndOnce(t *testing.T) {
	pair, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(pair[0])
	defer syscall.Close(pair[1])
	var c calls
	for range 3 {
		c.add(new(counting))
	}
	owners, first := c.close(pair[0], lost("", nil))
	if len(owners) != 3 || !first {
		t.Error(owners, first)
	}
	if owners, first := c.close(pair[0], badAnswer("")); len(owners) != 0 || first {
		t.Error(owners, first)
	}
	if _, err := c.add(new(counting)); err == nil || err.Code != CodeBrokerLost {
		t.Error(err)
	}
}

func TestABacklogThatIsFullIsWaitedFor(t *testing.T) {
	path := t.TempDir() + "/s"
	listener, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(listener)
	if err := syscall.Bind(listener, &syscall.SockaddrUnix{Name: path}); err != nil {
		t.Fatal(err)
	}
	syscall.Listen(listener, 0)
	for range 10 {
		fd, err := connectSocket(path)
		if err == nil {
			defer syscall.Close(fd)
			continue
		}
		if err != syscall.EAGAIN || !isAway(err) {
			t.Error(err)
		}
		return
	}
	t.Error("the backlog has no end")
}

func TestBackoffGrowsToItsLimit(t *testing.T) {
	var b backoff
	for range 100 {
		if wait := b.next(); wait < firstBackoff/2 || wait > maxBackoff {
			t.Error(wait)
		}
	}
	if b.wait != maxBackoff {
		t.Error(b.wait)
	}
}

func TestAClockThatIsOursIsExact(t *testing.T) {
	asked := monotonicNS()
	reading := monotonicNS()
	time.Sleep(3 * time.Millisecond) // an answer that is late
	ours := newClock(asked, monotonicNS(), uint64(reading))
	if off := int64(ours.deadlineNS(time.Now())) - monotonicNS(); off > int64(time.Millisecond) || off < -int64(time.Millisecond) {
		t.Errorf("off by %d ns", off)
	}
	theirs := newClock(asked, monotonicNS(), 5)
	if at := theirs.deadlineNS(theirs.ours.Add(time.Second)); at != 5+uint64(time.Second) {
		t.Error(at)
	}
	if theirs.deadlineNS(time.Now().Add(-time.Hour)) != 0 || theirs.deadlineNS(time.Now().Add(1<<62)) != maxInt {
		t.Error("a deadline outside the protocol's integers")
	}
}
