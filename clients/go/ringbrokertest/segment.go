package ringbrokertest

import (
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"os"
	"syscall"
)

// segmentPrefix begins the name of every segment of this process.
var segmentPrefix = fmt.Sprintf("/dev/shm/ringbroker-test-%d-", os.Getpid())

// segment is a ring's memory, and its name or its descriptor until the client has mapped it.
type segment struct {
	path       string // "" where it goes by its descriptor
	descriptor int
	memory     []byte
}

// newSegment makes a segment and reserves its space, so that a full /dev/shm is an error here and no signal later.
func newSegment(bytes uint64, kind string) (*segment, error) {
	var random [16]byte
	rand.Read(random[:])
	path := segmentPrefix + hex.EncodeToString(random[:])
	fd, err := syscall.Open(path, syscall.O_RDWR|syscall.O_CREAT|syscall.O_EXCL|syscall.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, err
	}
	s := &segment{path: path, descriptor: fd}
	if err = syscall.Fallocate(fd, 0, 0, int64(bytes)); err == nil {
		s.memory, err = syscall.Mmap(fd, 0, int(bytes), syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_SHARED)
	}
	if err != nil {
		s.release()
		return nil, err
	}
	if kind == "fd" {
		syscall.Unlink(path)
		s.path = ""
	}
	copy(s.memory, "RINGBRKR")
	binary.LittleEndian.PutUint32(s.memory[8:], 1)
	binary.LittleEndian.PutUint32(s.memory[12:], uint32(os.Getpid()))
	return s, nil
}

// release lets the name and the descriptor go.
func (s *segment) release() {
	if s.path != "" {
		syscall.Unlink(s.path)
		s.path = ""
	}
	if s.descriptor >= 0 {
		syscall.Close(s.descriptor)
		s.descriptor = -1
	}
}

func (s *segment) free() {
	s.release()
	syscall.Munmap(s.memory)
	s.memory = nil
}
