package ringbroker

import (
	"time"

	"ringbroker/internal/wire"
)

// begin begins a search for a connection. The caller has mu.
func (l *link) begin() {
	l.search = &search{began: time.Now(), answered: make(chan struct{}), done: make(chan struct{})}
	go l.run(l.search, l.current.Load())
}

// join waits for the search that is on, or for a new one: leave it.
func (l *link) join() (*search, *Error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed != nil {
		return nil, l.closed
	}
	if isClosed(l.search.done) && !l.isUp() {
		l.begin()
	}
	l.waiting++
	return l.search, nil
}

// seek sees to it that a search is on where there is no connection.
func (l *link) seek() {
	if _, err := l.join(); err == nil {
		l.leave()
	}
}

func (l *link) leave() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.waiting--
}

func isClosed(c chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// down says that a connection takes no more requests: it has ended, or the broker sends it away.
func (l *link) down(c *conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed == nil && l.current.Load() == c && isClosed(l.search.done) {
		l.begin()
	}
}

// run finds a connection, after the end of the former one: a GOAWAY leaves it the answers that are due.
func (l *link) run(s *search, former *conn) {
	if former != nil {
		<-former.over
	}
	if err := l.connect(s, former); err != nil {
		l.finish(s, err)
	}
}

// finish ends a search that has found nothing.
func (l *link) finish(s *search, err *Error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed != nil {
		err = l.closed
	}
	s.err = err
	s.end()
}

func (s *search) end() {
	if !isClosed(s.answered) {
		close(s.answered)
	}
	close(s.done)
}

// connect tries to connect until it has succeeded, or waiting cannot help. Where the client is closed meanwhile, there is
// one more attempt if a session is left: its HELLO takes that up, and the end of the connection is then the session's.
func (l *link) connect(s *search, former *conn) *Error {
	var waits backoff
	if former != nil && time.Since(former.born) < maxBackoff { // a broker that ends every connection is not to be asked all the time
		waits.pause(l.client.life)
	}
	for l.client.life.Err() == nil || l.resumable() {
		c, err := l.attempt(former)
		if err == nil {
			fault := l.adopt(s, c)
			if fault == nil {
				return nil
			}
			c.end(fault)
			err = fault
		}
		code, resumed := asError(err, "").Code, l.resumable()
		switch {
		case l.client.life.Err() != nil:
			return errClientClosed()
		case resumed && code == CodeResumeRefused:
			l.forget(lost("the broker no longer has the ring; acquire a new lease", nil))
			continue
		case !isAway(err) && !(resumed && code.Retryable()):
			return asError(err, "no connection to "+l.client.path)
		}
		if !l.note(s, err) {
			return nil
		}
		waits.pause(l.client.life)
	}
	return errClientClosed()
}

// note keeps what an attempt failed with, for those who give up waiting; and ends the search where nobody waits, and no
// broker is there or it has been on for long. It says whether the search goes on.
func (l *link) note(s *search, err error) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.problem = err
	if !isBusy(err) && !isClosed(s.answered) {
		close(s.answered)
	}
	if l.waiting == 0 && (isAbsent(err) || time.Since(s.began) > unwaitedSearch) {
		s.err = asError(err, "no connection to "+l.client.path)
		s.end()
		return false
	}
	return true
}

func (l *link) resumable() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.token.Set
}

// attempt connects once, and takes the session up where there is one.
func (l *link) attempt(former *conn) (*conn, error) {
	fd, err := connectSocket(l.client.path)
	if err != nil {
		return nil, err
	}
	c, err := newConn(l, fd)
	if err != nil {
		return nil, err
	}
	welcome, fault := c.greet(l.client.life, l.hello())
	if fault != nil {
		c.end(fault)
		return nil, fault
	}
	if former != nil && welcome.Options.Lost.Set {
		former.lost = Code(welcome.Options.Lost.Value)
	}
	l.welcome(c, welcome)
	return c, nil
}

// hello is the next HELLO: for the session that there is, or for a new one.
func (l *link) hello() *wire.Hello {
	l.mu.Lock()
	defer l.mu.Unlock()
	hello := l.client.settings.hello
	if l.token.Set {
		hello.Options.Resume = l.token
	} else {
		hello.Options.Pool = l.asked
	}
	return &hello
}

// welcome goes on as WELCOME tells: rings that are not as they were have ended afterwards, and those that were closed
// meanwhile are closed again.
func (l *link) welcome(c *conn, w *wire.Welcome) {
	told := make(map[uint64]Code)
	for _, state := range w.Options.Rings.Value {
		told[state.Ring] = Code(state.Code)
	}
	ended := make(map[*ring]*Error)
	l.mu.Lock()
	l.token = w.ResumeToken
	if w.Options.Pool.Set {
		l.pool = w.Options.Pool.Value
	}
	for number, r := range l.rings {
		if code, ok := told[number]; !ok || code != 0 {
			delete(l.rings, number)
			ended[r] = goneBy(code)
		}
		delete(told, number)
	}
	l.mu.Unlock()
	for r, err := range ended {
		r.retire(err)
	}
	for number, code := range told {
		if code == 0 {
			c.closeRing(number)
		}
	}
}

// goneBy is the error of the leases of a ring that a resumed session does not have, for that code or none.
func goneBy(code Code) *Error {
	if code == 0 {
		code = CodeBrokerLost
	}
	return errorf(code, "", "the lease's ring is gone; acquire a new lease")
}

// adopt makes a connection the link's, and ends the search.
func (l *link) adopt(s *search, c *conn) *Error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := c.calls.ended(); err != nil {
		return err
	}
	if l.closed != nil {
		return l.closed
	}
	l.current.Store(c)
	l.problem = nil
	s.end()
	return nil
}
