package ringbroker

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"syscall"
	"testing"
	"time"

	"ringbroker/internal/wire"
)

// FuzzAnswers: whatever a broker sends, as frames, is dispatched or ends the connection with a BAD_ANSWER or an error
// of the broker's own; every call gets an answer or that error, and nothing panics.
func FuzzAnswers(f *testing.F) {
	var vectors struct {
		Valid []struct{ From, Hex string }
	}
	readSpec(f, &vectors, "vectors", "frames.json")
	for i, v := range vectors.Valid {
		if payload, err := hex.DecodeString(v.Hex); err == nil && v.From == "broker" && i%7 == 0 {
			f.Add(payload, payload)
		}
	}
	f.Fuzz(func(t *testing.T, first, second []byte) {
		c, other := pairedConn(t)
		defer syscall.Close(other)
		lease := c.leaseToFuzz(t)
		hello := &call{conn: c, done: make(chan struct{}, 1)}
		id, _ := c.calls.add(hello)
		c.helloID.Store(id)
		for _, payload := range [][]byte{first, second} {
			frame := binary.LittleEndian.AppendUint32(nil, uint32(len(payload)))
			syscall.Write(other, append(frame, payload...))
		}
		syscall.Shutdown(other, syscall.SHUT_WR)
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		if !c.wait(ctx, hello.done) || !c.wait(ctx, lease.done) {
			t.Fatal("a call was never settled")
		}
		if end := c.calls.ended(); hello.answer == nil && end == nil {
			t.Fatal("the connection has not ended")
		}
	})
}

func pairedConn(t *testing.T) (*conn, int) {
	pair, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_NONBLOCK|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	client := &Client{settings: settings{spin: 10 * time.Microsecond}}
	c, err := newConn(&link{client: client, closed: errClientClosed()}, pair[0]) // it is not made again
	if err != nil {
		t.Fatal(err)
	}
	return c, pair[1]
}

// leaseToFuzz is a lease that waits for the answer with the id 1<<24.
func (c *conn) leaseToFuzz(t *testing.T) *lease {
	planes := []plane{{name: "y", dtype: F32, sample: []uint64{4}, elements: 4, offset: 4096, stride: 16, sizes: []sizeOf{{kind: open}}}}
	r := newRing(c.link, new(queue), &wire.Ring{Ring: 1, Slots: 8, MaxRows: 8}, make([]byte, 8192), nil, planes)
	l := r.lend(1)
	l.conn, l.inFlight, l.waiting = c, true, true
	if _, err := c.calls.add(l); err != nil {
		t.Fatal(err)
	}
	return l
}
