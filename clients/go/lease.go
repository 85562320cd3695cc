package ringbroker

import (
	"slices"
	"sync"

	"ringbroker/internal/wire"
)

// Lease is a hold on one or more adjacent rows of a model's ring, from [Model.Acquire] to [Lease.Release]. It is a
// small value; its copies are the same lease. It is used by one goroutine at a time; where two use it, one of them gets
// LEASE_BUSY. After its release every use is LEASE_RELEASED, also when another lease has the rows.
type Lease struct {
	state      *lease
	generation uint64
}

// lease is the state behind a Lease. The ring uses it again for the next one, with another generation.
type lease struct {
	ring *ring
	conn *conn         // of its last request
	done chan struct{} // has room for one: the answer is there
	row  int
	rows int

	mu         sync.Mutex
	generation uint64
	inFlight   bool // the rows are the broker's
	waiting    bool // an Infer has not returned
	released   bool // it was released while one of these two held
	request    wire.Infer
	runs       uint64 // how many inferences it has begun
	result     wire.Result
	failure    *Error
}

func newLease(r *ring) *lease {
	l := &lease{ring: r, done: make(chan struct{}, 1)}
	l.request.Inputs = make([]wire.Descriptor, len(r.inputs))
	for i, p := range r.inputs {
		l.request.Inputs[i] = wire.Descriptor{Shape: make([]uint64, 1+len(p.sample)), DType: p.dtype.String()}
	}
	return l
}

// prepare makes the lease one of these rows, with every input at its largest shape. Nobody else sees it yet.
func (l *lease) prepare(row, n int) {
	l.row, l.rows = row, n
	l.request.Ring, l.request.Slot, l.request.Rows = l.ring.number, uint64(row), uint64(n)
	l.request.Version.Set, l.request.Extra.Trace.Set = false, false
	for i, p := range l.ring.inputs {
		d := &l.request.Inputs[i]
		d.Offset = p.offset + uint64(row)*p.stride
		d.Shape[0] = uint64(n)
		copy(d.Shape[1:], p.sample)
	}
}

// hold locks the state if the lease is this generation's and the broker does not have the rows.
func (l Lease) hold() (*lease, *Error) {
	s := l.state
	if s == nil {
		return nil, errReleased()
	}
	s.mu.Lock()
	err := s.check(l.generation)
	if err != nil {
		s.mu.Unlock()
		return nil, err
	}
	return s, nil
}

func (l *lease) check(generation uint64) *Error {
	if l.generation != generation {
		return errReleased()
	}
	if l.inFlight || l.waiting {
		return errorf(CodeLeaseBusy, "", "the lease's last request is still in flight")
	}
	return nil
}

func errReleased() *Error { return errorf(CodeLeaseReleased, "", "the lease has been released") }

// Rows is how many rows the lease holds.
func (l Lease) Rows() int {
	s, err := l.hold()
	if err != nil {
		return 0
	}
	defer s.mu.Unlock()
	return s.rows
}

// SetShape makes the lease's input of that name smaller than the ring's largest: for dynamic dims, such as a sequence
// of 12 tokens in a ring of 128. The dims are one row's, without the rows. Each row's elements stand packed at the
// front of the row (spec section 6), so fill the rows after this, row by row: see [Tensor.Row]. Dims of one name must
// be equal in all inputs. Errors: WRONG_RANK, WRONG_DIM; INVALID_FIELD where there is no such input; LEASE_BUSY,
// LEASE_RELEASED.
func (l Lease) SetShape(name string, dims ...int) error {
	s, err := l.hold()
	if err != nil {
		return err
	}
	defer s.mu.Unlock()
	i := indexOfPlane(s.ring.inputs, name)
	if i < 0 {
		return errNoTensor(name, s.ring.inputs)
	}
	sample := s.ring.inputs[i].sample
	if len(dims) != len(sample) {
		return errShape(CodeWrongRank, name, sample, dims)
	}
	for at, dim := range dims {
		if dim < 0 || uint64(dim) > sample[at] {
			return errShape(CodeWrongDim, name, sample, dims)
		}
	}
	for at, dim := range dims {
		s.request.Inputs[i].Shape[1+at] = uint64(dim)
	}
	return nil
}

func errShape(code Code, name string, most []uint64, dims []int) *Error {
	given := slices.Clone(dims) // formatting would else put every call's dims on the heap
	return errorf(code, name, "a row is at most %v, not %v", most, given)
}

// SetVersion sets which version of the model must answer the lease's requests; "" leaves that to the broker.
// [Result.Version] tells which did. A model that was opened with a [Version] is answered by that one alone. Errors:
// LEASE_BUSY, LEASE_RELEASED; Infer gives UNKNOWN_VERSION.
func (l Lease) SetVersion(version string) error {
	s, err := l.hold()
	if err != nil {
		return err
	}
	defer s.mu.Unlock()
	s.request.Version = wire.Opt[string]{Value: version, Set: version != ""}
	return nil
}

// SetTrace sets a text, at most 128 characters, that the broker writes into its log lines about this lease's requests.
// Errors: LEASE_BUSY, LEASE_RELEASED.
func (l Lease) SetTrace(text string) error {
	s, err := l.hold()
	if err != nil {
		return err
	}
	defer s.mu.Unlock()
	s.request.Extra.Trace = wire.Some(text)
	return nil
}

// Release gives the rows back. Every view of the lease's tensors is another lease's from now on. Where an Infer was
// given up and the broker still has the rows, they come back with its answer. A second Release is LEASE_RELEASED and
// does nothing.
func (l Lease) Release() error {
	s := l.state
	if s == nil {
		return errReleased()
	}
	s.mu.Lock()
	if s.generation != l.generation {
		s.mu.Unlock()
		return errReleased()
	}
	s.generation++
	s.released = s.inFlight || s.waiting
	later := s.released
	s.mu.Unlock()
	if !later {
		s.ring.put(s)
	}
	return nil
}
