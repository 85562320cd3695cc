package ringbrokertest

import (
	"errors"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"ringbroker"
	"ringbroker/internal/wire"
)

// link is a session's connection and its goroutine.
type link struct {
	*session
	connection *net.UnixConn
	stream     *wire.Stream
	decoder    *wire.Decoder
	reading    sync.Mutex
}

func newLink(b *Broker, connection *net.UnixConn) *link {
	s := &session{broker: b, models: b.models, rings: make(map[uint64]*ring), held: b.faults.held, over: make(chan struct{})}
	return &link{session: s, connection: connection, stream: wire.NewStream(), decoder: wire.NewClientDecoder()}
}

// serve takes all that has come, and then runs what is to be run: so requests that arrive together are run together.
func (l *link) serve() {
	defer l.broker.ends.Done()
	defer l.forget()
	l.connection.SetReadDeadline(time.Now().Add(l.broker.handshake))
	for welcomed := false; ; {
		l.broker.waitToRead()
		n, err := l.read(l.stream.Space())
		if err == syscall.EAGAIN {
			continue // paused
		}
		l.mu.Lock()
		if errors.Is(err, os.ErrDeadlineExceeded) && !l.welcomed {
			l.end(ringbroker.CodeHandshakeTimeout, "", "no HELLO came in time")
		} else if err != nil || n == 0 {
			l.mu.Unlock()
			return
		}
		l.stream.Received(n)
		l.take()
		l.run()
		if l.welcomed && !welcomed {
			welcomed = true
			l.connection.SetReadDeadline(time.Time{})
		}
		ended := !l.flush() || l.ended
		l.mu.Unlock()
		if ended {
			return
		}
	}
}

// read reads what is there, polling for it for a while first.
func (l *link) read(space []byte) (n int, err error) {
	raw, err := l.connection.SyscallConn()
	if err != nil {
		return 0, err
	}
	end := time.Now().Add(l.broker.spinTime())
	waited := raw.Read(func(fd uintptr) bool {
		for {
			var paused bool
			if n, paused, err = l.readOnce(int(fd), space); paused || err != syscall.EAGAIN {
				return true
			}
			if time.Now().After(end) {
				return false
			}
		}
	})
	if waited != nil {
		return 0, waited
	}
	return max(n, 0), err
}

// readOnce reads nothing once the broker has been paused.
func (l *link) readOnce(fd int, space []byte) (n int, paused bool, err error) {
	l.reading.Lock()
	defer l.reading.Unlock()
	if l.broker.resumption() != nil {
		return 0, true, syscall.EAGAIN
	}
	n, err = syscall.Read(fd, space)
	return n, false, err
}

// take handles every whole frame that is there.
func (l *link) take() {
	for !l.ended {
		payload, ok, err := l.stream.Next()
		if err == nil && !ok {
			return
		}
		var m wire.Message
		if err == nil {
			m, err = l.decoder.Decode(payload)
		}
		if err != nil {
			l.end(ringbroker.Code(err.Code), err.Path, err.Text)
			return
		}
		l.handle(m)
	}
}

// flush sends what is to be sent. It is false once the connection takes no more. The caller has mu.
func (l *link) flush() bool {
	if len(l.out) == 0 {
		return true
	}
	l.connection.SetWriteDeadline(time.Now().Add(10 * time.Second))
	out, rights := l.out, syscall.UnixRights(l.descriptors...)
	for len(out) > 0 {
		n, _, err := l.connection.WriteMsgUnix(out, rights, nil)
		if err != nil {
			break
		}
		out, rights = out[n:], nil
	}
	l.out, l.descriptors = l.out[:0], nil
	return len(out) == 0
}

func (l *link) forget() {
	l.connection.Close()
	l.leave()
	l.broker.mu.Lock()
	delete(l.broker.links, l)
	l.broker.mu.Unlock()
}
