package ringbroker

import (
	"syscall"

	"ringbroker/internal/wire"
)

// A ring's memory may come as a file descriptor, with the first byte of its RING or sooner (spec section 6). So an OPEN
// says first that one is expected; while none is, the socket is read without room for any.

// ringAnswer is a RING, and the descriptor that came with it; -1 where none did.
type ringAnswer struct {
	*wire.Ring
	descriptor int
}

// expectDescriptors says that so many more OPENs will be sent. It takes the role, so that no read that began before it
// takes the answer.
func (c *conn) expectDescriptors(more int) {
	c.receiver.role.Lock()
	c.receiver.opens += more
	c.receiver.role.Unlock()
	c.drain()
}

// receiveDescriptors reads as readSocket does, with room for as many descriptors as are expected. The caller has the
// role.
func (c *conn) receiveDescriptors(space []byte) (int, syscall.Errno) {
	r := &c.receiver
	control := make([]byte, syscall.CmsgLen(4*(r.opens-len(r.descriptors)))) // CmsgSpace has room for one more
	n, length, _, _, err := syscall.Recvmsg(c.fd, space, control, syscall.MSG_DONTWAIT|syscall.MSG_CMSG_CLOEXEC)
	if errno, ok := err.(syscall.Errno); ok {
		return 0, errno
	}
	messages, _ := syscall.ParseSocketControlMessage(control[:length])
	for i := range messages {
		received, _ := syscall.ParseUnixRights(&messages[i])
		r.descriptors = append(r.descriptors, received...)
	}
	return n, 0
}

// takeDescriptor is the next descriptor for a RING, or -1.
func (r *receiver) takeDescriptor() int {
	if len(r.descriptors) == 0 {
		return -1
	}
	descriptor := r.descriptors[0]
	r.descriptors = r.descriptors[1:]
	return descriptor
}

// opened says that an OPEN has its answer. Descriptors that nothing more can be for are closed.
func (r *receiver) opened() {
	r.opens--
	if r.opens == 0 {
		r.dropDescriptors()
	}
}

func (r *receiver) dropDescriptors() {
	for _, descriptor := range r.descriptors {
		syscall.Close(descriptor)
	}
	r.descriptors = nil
}
