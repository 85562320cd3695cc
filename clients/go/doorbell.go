package ringbroker

import (
	"os"
	"sync"
	"syscall"
	"time"
)

// doorbell wakes the connection's own goroutine when there is something to read or room to write, and only while somebody
// wants that. It is an epoll instance that watches the socket, and is itself watched by Go's netpoller. While a caller polls
// the socket, the doorbell is muted, and no answer wakes a thread of the netpoller. The end of the connection always rings.
type doorbell struct {
	fd     int // of the socket
	epoll  int
	file   *os.File // the epoll instance in the netpoller
	events [4]syscall.EpollEvent

	mu      sync.Mutex
	closed  bool
	wanted  uint32 // what the socket is watched for
	parked  int    // calls that sleep until they are answered
	polling bool   // a caller polls, and will listen again when it stops
	writing bool   // there are bytes that the socket had no room for
}

const epollET = 1 << 31 // syscall.EPOLLET is negative

func newDoorbell(fd int) (*doorbell, error) {
	epoll, err := syscall.EpollCreate1(syscall.EPOLL_CLOEXEC)
	if err != nil {
		return nil, err
	}
	if err := syscall.SetNonblock(epoll, true); err != nil { // else the netpoller does not take it
		syscall.Close(epoll)
		return nil, err
	}
	d := &doorbell{fd: fd, epoll: epoll, wanted: epollET, file: os.NewFile(uintptr(epoll), "ringbroker doorbell")}
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
	return raw.Read(func(uintptr) bool {
		// Take the ring away, so that the next event is a new one to the netpoller.
		syscall.EpollWait(d.epoll, d.events[:], 0)
		return rung()
	})
}

// park says that a call sleeps. What is there already rings at once.
func (d *doorbell) park() {
	d.mu.Lock()
	d.parked++
	d.listen()
	d.mu.Unlock()
}

func (d *doorbell) unpark() {
	d.mu.Lock()
	d.parked--
	d.mu.Unlock()
}

// poll says whether a caller polls. When it stops, the sleeping are listened for again.
func (d *doorbell) poll(begins bool) {
	d.mu.Lock()
	d.polling = begins
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

// listen watches for what is wanted now. Arrivals are wanted while a call sleeps and none polls. They stay wanted when the last call
// wakes, until one polls: callers that always sleep or always poll need no system call here.
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
	if wanted == d.wanted || d.closed {
		return
	}
	d.wanted = wanted
	event := syscall.EpollEvent{Events: wanted, Fd: int32(d.fd)}
	syscall.EpollCtl(d.epoll, syscall.EPOLL_CTL_MOD, d.fd, &event)
}

// end makes watch return. The end of the socket rings too; this does not depend on it.
func (d *doorbell) end() { d.file.SetReadDeadline(time.Unix(1, 0)) }

// close lets the epoll instance go, after watch has returned: a file that is in use cannot be closed from inside.
func (d *doorbell) close() {
	d.mu.Lock()
	d.closed = true
	d.mu.Unlock()
	d.file.Close()
}
