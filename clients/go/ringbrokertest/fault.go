package ringbrokertest

import (
	"encoding/binary"
	"time"

	"ringbroker"
	"ringbroker/internal/wire"
)

// faults are what a test has told the broker to do wrong.
type faults struct {
	failures []*refusal
	refusal  ringbroker.Code // of every HELLO; 0 for none
	held     bool
	resumed  chan struct{} // nil while connections are read
	mangle   func(payload []byte) []byte
	skew     time.Duration
	spin     time.Duration
	requests int
	resumes  int
}

// all is every connection.
func (b *Broker) all() (links []*link) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for l := range b.links {
		links = append(links, l)
	}
	return links
}

// Fail makes the next n inferences fail with this error instead of being run.
func (b *Broker) Fail(n int, code ringbroker.Code, text string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for range n {
		b.faults.failures = append(b.faults.failures, newRefusal(code, "", text))
	}
}

// noteRequest counts an inference, and returns the error that it is to fail with, if any.
func (b *Broker) noteRequest() *refusal {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.faults.requests++
	if len(b.faults.failures) == 0 {
		return nil
	}
	first := b.faults.failures[0]
	b.faults.failures = b.faults.failures[1:]
	return first
}

// Refuse makes the broker answer every HELLO with this error, such as TOO_MANY_CONNECTIONS, until it is told 0.
func (b *Broker) Refuse(code ringbroker.Code) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.faults.refusal = code
}

func (b *Broker) helloRefusal() ringbroker.Code {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.faults.refusal
}

// Hold makes inferences wait, not begun, until the returned function is called. Everything else is answered.
func (b *Broker) Hold() (release func()) {
	b.setHeld(true)
	return func() { b.setHeld(false) }
}

func (b *Broker) setHeld(held bool) {
	b.mu.Lock()
	b.faults.held = held
	b.mu.Unlock()
	for _, l := range b.all() {
		l.mu.Lock()
		l.held = held
		l.session.run()
		l.flush()
		l.mu.Unlock()
	}
}

// Pause makes the broker read nothing more until the returned function is called.
func (b *Broker) Pause() (resume func()) {
	b.mu.Lock()
	if b.faults.resumed == nil {
		b.faults.resumed = make(chan struct{})
	}
	b.mu.Unlock()
	for _, l := range b.all() { // who reads just now has read
		l.reading.Lock()
		l.reading.Unlock()
	}
	return b.resume
}

func (b *Broker) resume() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.faults.resumed != nil {
		close(b.faults.resumed)
		b.faults.resumed = nil
	}
}

// resumption ends the pause; it is nil where there is none.
func (b *Broker) resumption() chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.faults.resumed
}

func (b *Broker) waitToRead() {
	if resumed := b.resumption(); resumed != nil {
		<-resumed
	}
}

// Disconnect ends every connection, as a worker that dies does: its requests are lost, and its sessions may be taken
// up.
func (b *Broker) Disconnect() { b.EndWorker(0) }

// EndWorker is Disconnect for a reason, such as EXECUTION_TIMEOUT, that clients are told when they come back.
func (b *Broker) EndWorker(code ringbroker.Code) {
	for _, l := range b.all() {
		l.mu.Lock()
		l.resumable, l.lost = true, code
		l.mu.Unlock()
		l.connection.Close()
	}
}

// GoAway tells every client that its connection will be closed, and that its session may be taken up by another.
func (b *Broker) GoAway(reason string) {
	for _, l := range b.all() {
		l.mu.Lock()
		l.resumable = true
		l.reply(&wire.GoAway{Reason: reason, GraceMS: 1000})
		l.flush()
		l.mu.Unlock()
	}
}

// Mangle makes every answer go through f first: its payload, without the four length bytes. What f returns is sent, and
// nothing if that is nil. A nil f ends it.
func (b *Broker) Mangle(f func(payload []byte) []byte) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.faults.mangle = f
}

// mangled is what is sent of frames, of which the last begins at start.
func (b *Broker) mangled(frames []byte, start int) []byte {
	b.mu.Lock()
	mangle := b.faults.mangle
	b.mu.Unlock()
	if mangle == nil {
		return frames
	}
	payload := mangle(append([]byte(nil), frames[start+4:]...))
	if payload == nil {
		return frames[:start]
	}
	return append(binary.LittleEndian.AppendUint32(frames[:start], uint32(len(payload))), payload...)
}

// SkewClock makes the broker's clock differ from the machine's.
func (b *Broker) SkewClock(by time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.faults.skew = by
}

// Spin makes each connection poll for requests for so long before it sleeps. The default is 0.
func (b *Broker) Spin(d time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.faults.spin = d
}

func (b *Broker) spinTime() time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.faults.spin
}

// Requests is how many inferences have come that passed their checks.
func (b *Broker) Requests() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.faults.requests
}

// Resumes is how many sessions have been taken up.
func (b *Broker) Resumes() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.faults.resumes
}

// Connections is how many connections there are.
func (b *Broker) Connections() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.links)
}
