package ringbroker

import (
	"sync"
	"sync/atomic"
	"syscall"

	"ringbroker/internal/wire"
)

// waiter is what waits for the answer to an id: a lease or a call. settle is called once, with the answer or with an
// error; it returns an error where the answer is one that the protocol does not allow. The answer is the decoder's.
type waiter interface {
	settle(answer wire.Message, err *Error) *Error
}

// calls are the requests in flight on a connection, by id. An id is a place in the table and, above it, a count, so
// that an id is not used again soon and the table needs no map.
type calls struct {
	mu    sync.Mutex
	table []pending
	free  []uint64 // places
	count uint64
	away  *Error // why no more are taken, and those in flight are still answered; nil while they are
	end   *Error // why the connection ended; nil while it is alive

	taking atomic.Bool // none of the two is set
}

type pending struct {
	id    uint64
	owner waiter // nil: the place is free
}

const placeBits = 24

// add makes an id for a request. It fails once the connection takes no more, which is BROKER_LOST, or has ended.
func (c *calls) add(owner waiter) (uint64, *Error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.end != nil {
		return 0, c.end
	}
	if c.away != nil {
		return 0, c.away
	}
	if len(c.free) == 0 {
		c.free = append(c.free, uint64(len(c.table)))
		c.table = append(c.table, pending{})
	}
	place := c.free[len(c.free)-1]
	c.free = c.free[:len(c.free)-1]
	c.count++
	id := (c.count<<placeBits | place) & maxInt
	c.table[place] = pending{id, owner}
	return id, nil
}

// take removes a request and returns who waits for it: nil if the id is not in flight.
func (c *calls) take(id uint64) waiter {
	c.mu.Lock()
	defer c.mu.Unlock()
	place := id & (1<<placeBits - 1)
	if place >= uint64(len(c.table)) || c.table[place].owner == nil || c.table[place].id != id {
		return nil
	}
	owner := c.table[place].owner
	c.table[place] = pending{}
	c.free = append(c.free, place)
	return owner
}

// leave takes no more requests.
func (c *calls) leave(why *Error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.away = why
	c.taking.Store(false)
}

// drained is why no more are taken, once all have been answered; else nil.
func (c *calls) drained() *Error {
	if c.taking.Load() { // the hot path
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.free) < len(c.table) {
		return nil
	}
	return c.away
}

// close shuts the socket down and returns who still waits. Only the first close does, and says so.
func (c *calls) close(socket int, end *Error) (owners []waiter, first bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.end != nil {
		return nil, false
	}
	c.end = end
	c.taking.Store(false)
	syscall.Shutdown(socket, syscall.SHUT_RDWR)
	for _, p := range c.table {
		if p.owner != nil {
			owners = append(owners, p.owner)
		}
	}
	c.table, c.free = nil, nil
	return owners, true
}

// ended is why the connection ended, or nil.
func (c *calls) ended() *Error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.end
}
