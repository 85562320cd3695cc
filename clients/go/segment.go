package ringbroker

import (
	"encoding/binary"
	"errors"
	"fmt"
	"syscall"
	"unsafe"

	"ringbroker/internal/wire"
)

// mapSegment maps a ring's memory (spec section 6). The name or descriptor may be gone afterwards; the mapping stays.
func mapSegment(w ringAnswer) ([]byte, error) {
	switch s := w.Segment; {
	case s.Kind == "fd" && w.descriptor < 0:
		return nil, errors.New("no descriptor came with it")
	case s.Kind == "fd":
		return mapDescriptor(w.descriptor, s)
	case s.Kind != "path" || !s.Path.Set:
		return nil, fmt.Errorf("a segment of the kind %q", s.Kind)
	}
	fd, err := syscall.Open(w.Segment.Path.Value, syscall.O_RDWR|syscall.O_CLOEXEC|syscall.O_NOFOLLOW, 0)
	if err != nil {
		return nil, err
	}
	defer syscall.Close(fd)
	return mapDescriptor(fd, w.Segment)
}

func mapDescriptor(fd int, s wire.Segment) ([]byte, error) {
	var stat syscall.Stat_t
	if err := syscall.Fstat(fd, &stat); err != nil {
		return nil, err
	}
	if stat.Mode&syscall.S_IFMT != syscall.S_IFREG || uint64(stat.Size) < s.Bytes {
		return nil, errors.New("the segment is no file, or a shorter one than the broker says")
	}
	const access = syscall.PROT_READ | syscall.PROT_WRITE
	memory, err := syscall.Mmap(fd, 0, int(s.Bytes), access, syscall.MAP_SHARED|syscall.MAP_POPULATE)
	if err != nil {
		return nil, err
	}
	if string(memory[:8]) != "RINGBRKR" || binary.LittleEndian.Uint32(memory[8:]) != 1 {
		hideSegment(memory)
		return nil, errors.New("the segment has no header of this version")
	}
	return memory, nil
}

// hideSegment gives the memory back, and keeps its addresses: a slice that somebody still holds reads zeros, or what
// was written to it since, and never another mapping's bytes. Nothing is ever unmapped. It costs some address space for
// each ring that was opened, of which there are 128 TiB.
func hideSegment(memory []byte) {
	const flags = syscall.MAP_FIXED | syscall.MAP_PRIVATE | syscall.MAP_ANONYMOUS | syscall.MAP_NORESERVE
	syscall.Syscall6(syscall.SYS_MMAP, uintptr(unsafe.Pointer(unsafe.SliceData(memory))), uintptr(len(memory)),
		syscall.PROT_READ|syscall.PROT_WRITE, flags, ^uintptr(0), 0)
}
