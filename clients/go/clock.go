package ringbroker

import (
	"syscall"
	"time"
	"unsafe"
)

// clock turns our times into the broker's, on which deadlines are told (spec section 4).
type clock struct {
	ours   time.Time // one moment, on our clock
	theirs int64     // the same, on the broker's monotonic clock, in ns
}

// newClock compares the clocks. Where the broker's reading lies between two of our own CLOCK_MONOTONIC, before we asked
// and after it answered, both are the same clock, and a late answer shifts no deadline. Else the broker's reading
// counts as made now.
func newClock(asked, answered int64, welcome uint64) clock {
	if theirs := int64(welcome); theirs < asked || theirs > answered {
		return clock{time.Now(), theirs}
	}
	return clock{time.Now(), monotonicNS()}
}

// deadlineNS is t on the broker's clock.
func (c clock) deadlineNS(t time.Time) uint64 {
	return uint64(min(max(c.theirs+int64(t.Sub(c.ours)), 0), maxInt))
}

// monotonicNS reads CLOCK_MONOTONIC, which Go's own times hide.
func monotonicNS() int64 {
	const clockMonotonic = 1
	var t syscall.Timespec
	syscall.RawSyscall(syscall.SYS_CLOCK_GETTIME, clockMonotonic, uintptr(unsafe.Pointer(&t)), 0)
	return t.Nano()
}
