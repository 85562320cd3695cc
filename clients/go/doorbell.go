package ringbroker

import (
	"errors"
	"os"
	"sync"
	"syscall"
	"time"
)

// doorbell wakes the connection's own goroutine when there is something to read or room to write, and only while
// somebody wants that. It is an epoll instance that watches the socket, and is itself watched by Go's netpoller. While
// a caller polls the socket, the doorbell is muted, and no answer wakes a thread of the netpoller. The end of the
// connection always rings.
type doorbell struct {
	fd     int // of the socket
	epoll  int
	file   *os.File // the epoll instance in the netpoller
	events [4]syscall.EpollEvent

	mu      sync.Mutex
	ended   bool
	wanted  uint32 // what the socket is watched for
	parked  int    // requests whose answer nobody polls for
	polling bool   // a caller polls, and will listen again when it stops
	polls   int    // how often one has begun
	seen    int    // the same, when the muted doorbell was last looked at
	writing bool   // there are bytes that the socket had no room for
}

const (
	epollET = 1 << 31 // syscall.EPOLLET is negative

	// muteTime is how long the doorbell stays muted after the last poll. Callers that poll again within it make no
	// system call to mute it; what comes unasked, such as a GOAWAY, is read after it.
	muteTime = 500 * time.Millisecond
)

func newDoorbell(fd int) (*doorbell, error) {
	epoll, err := syscall.EpollCreate1(syscall.EPOLL_CLOEXEC)
	if err != nil {
		return nil, err
	}
	if err := syscall.SetNonblock(epoll, true); err != nil { // else the netpoller does not take it
		syscall.Close(epoll)
		return nil, err
	}
	d := &doorbell{fd: fd, epoll: epoll, wanted: epollET | syscall.EPOLLIN}
	d.file = os.NewFile(uintptr(epoll), "ringbroker doorbell")
	event := syscall.EpollEvent{Events: d.wanted, Fd: int32(fd)}
	if err := syscall.EpollCtl(epoll, syscall.EPOLL_CTL_ADD, fd, &event); err != nil {
		d.file.Close()
		return nil, err
	}
	return d, nil
}

// watch calls rung after each ring, until that returns true or the doorbell ends.
func (d *doorbell) watch(rung func() bool) error {
	raw, err := d.file.SyscallConn()
	if err != nil {
		return err
	}
	for {
		err := raw.Read(func(uintptr) bool {
			// Take the ring away, so that the next event is a new one to the netpoller.
			syscall.EpollWait(d.epoll, d.events[:], 0)
			return rung()
		})
		if !errors.Is(err, os.ErrDeadlineExceeded) || !d.look() {
			return err
		}
	}
}

// look listens again if nobody has polled since the last look. It is false once the doorbell has ended.
func (d *doorbell) look() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.ended {
		return false
	}
	if d.seen == d.polls && !d.polling {
		d.want(d.wanted | syscall.EPOLLIN)
		d.file.SetReadDeadline(time.Time{})
		return true
	}
	d.seen = d.polls
	d.file.SetReadDeadline(time.Now().Add(muteTime))
	return true
}

// park says that there is a request whose answer nobody polls for. What is there already rings at once.
func (d *doorbell) park() {
	d.mu.Lock()
	d.parked++
	d.listen()
	d.mu.Unlock()
}

// unpark says that it has been answered, or that somebody else attends to it.
func (d *doorbell) unpark() {
	d.mu.Lock()
	d.parked--
	d.mu.Unlock()
}

// poll says whether a caller polls. When it stops, the doorbell listens for the parked again.
func (d *doorbell) poll(begins bool) {
	d.mu.Lock()
	d.polling = begins
	if begins {
		d.polls++
	}
	d.listen()
	d.mu.Unlock()
}

// write says whether there is something to write.
func (d *doorbell) write(wants bool) {
	d.mu.Lock()
	d.writing = wants
	d.listen()
	d.mu.Unlock()
}

// listen watches for what is wanted now. Arrivals are wanted while a request is parked and nobody polls, and not while
// one polls and none is parked. In between they stay as they were: callers that always sleep or always poll need no
// system call here.
func (d *doorbell) listen() {
	wanted := d.wanted &^ syscall.EPOLLOUT
	if d.parked > 0 && !d.polling {
		wanted |= syscall.EPOLLIN
	}
	if d.parked == 0 && d.polling {
		wanted &^= syscall.EPOLLIN
	}
	if d.writing {
		wanted |= syscall.EPOLLOUT
	}
	if d.wanted&syscall.EPOLLIN != 0 && wanted&syscall.EPOLLIN == 0 && !d.ended {
		d.file.SetReadDeadline(time.Now().Add(muteTime))
	}
	d.want(wanted)
}

func (d *doorbell) want(wanted uint32) {
	if wanted == d.wanted || d.ended {
		return
	}
	d.wanted = wanted
	event := syscall.EpollEvent{Events: wanted, Fd: int32(d.fd)}
	syscall.EpollCtl(d.epoll, syscall.EPOLL_CTL_MOD, d.fd, &event)
}

// end makes watch return. The end of the socket rings too; this does not depend on it.
func (d *doorbell) end() {
	d.mu.Lock()
	d.ended = true
	d.file.SetReadDeadline(time.Unix(1, 0))
	d.mu.Unlock()
}

// close lets the epoll instance go, after watch has returned: a file that is in use cannot be closed from inside.
func (d *doorbell) close() { d.file.Close() }
