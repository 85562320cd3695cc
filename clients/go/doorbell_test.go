package ringbroker

import (
	"syscall"
	"testing"
)

// pairedDoorbell is a doorbell of one end of a socket pair, a channel that gets a value for each ring, and the other
// end.
func pairedDoorbell(t *testing.T) (bell *doorbell, rings chan bool, other int) {
	pair, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	bell, err = newDoorbell(pair[0])
	if err != nil {
		t.Fatal(err)
	}
	rings, ended := make(chan bool, 100), make(chan bool)
	go func() {
		bell.watch(func() bool {
			rings <- true
			return false
		})
		close(ended)
	}()
	t.Cleanup(func() {
		bell.end()
		<-ended
		bell.close()
		syscall.Close(pair[0])
		syscall.Close(pair[1])
	})
	<-rings // the first look, before anything has come
	return bell, rings, pair[1]
}

func (d *doorbell) isListening() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.wanted&syscall.EPOLLIN != 0
}

func TestTheDoorbellRingsForTheParked(t *testing.T) {
	bell, rings, other := pairedDoorbell(t)
	for range 100 {
		bell.park()
		syscall.Write(other, []byte("x"))
		<-rings
		bell.unpark()
	}
}

func TestTheDoorbellIsMutedWhileSomebodyPolls(t *testing.T) {
	bell, rings, other := pairedDoorbell(t)
	bell.poll(true)
	syscall.Write(other, []byte("x"))
	bell.poll(false)
	if bell.isListening() || len(rings) > 0 {
		t.Error("it listens although nobody is parked")
	}
	bell.park() // what came meanwhile rings now
	<-rings
}

func TestThePollerListensForTheParkedWhenItStops(t *testing.T) {
	bell, rings, other := pairedDoorbell(t)
	bell.poll(true)
	bell.park()
	if bell.isListening() {
		t.Error("it listens although the poller reads for all")
	}
	syscall.Write(other, []byte("x"))
	bell.poll(false)
	<-rings
	bell.poll(true)
	if !bell.isListening() {
		t.Error("it was muted with a request parked")
	}
}

func TestAMutedDoorbellListensAgainWhenNobodyPolls(t *testing.T) {
	bell, rings, other := pairedDoorbell(t)
	for range 3 {
		bell.poll(true)
		bell.poll(false)
		syscall.Write(other, []byte("x"))
		<-rings
	}
}

func TestTheEndOfTheConnectionRingsAlways(t *testing.T) {
	bell, rings, other := pairedDoorbell(t)
	bell.poll(true)
	syscall.Shutdown(other, syscall.SHUT_RDWR)
	<-rings
}

func TestAWriterWaitsForRoom(t *testing.T) {
	bell, rings, other := pairedDoorbell(t)
	full := make([]byte, 1<<16)
	for {
		if _, err := syscall.Write(bell.fd, full); err != nil {
			break
		}
	}
	bell.write(true)
	buffer := make([]byte, 1<<20)
	for {
		if _, err := syscall.Read(other, buffer); err != nil {
			break
		}
	}
	<-rings
	bell.write(false)
}

func TestADoorbellThatEndsIsLeft(t *testing.T) {
	bell, _, _ := pairedDoorbell(t)
	bell.poll(true) // muted: its own deadline is set too
	bell.end()
	bell.poll(false)
}
