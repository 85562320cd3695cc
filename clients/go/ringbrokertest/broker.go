package ringbrokertest

import (
	"net"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"
	"unsafe"
)

// Broker is a running broker. Its methods may be called from every goroutine.
type Broker struct {
	path      string
	models    []Model
	handshake time.Duration

	mu       sync.Mutex
	listener net.Listener // nil while stopped
	links    map[*link]struct{}
	ends     sync.WaitGroup
	count    uint64              // of sessions
	sessions map[string]*session // by token
	faults   faults
}

// New starts a broker that serves these models. It ends with the test.
func New(t testing.TB, models ...Model) *Broker {
	t.Helper()
	b, err := Serve(models...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Stop)
	return b
}

// Serve starts a broker where there is no test: in an Example, or in TestMain. End it with [Broker.Stop].
func Serve(models ...Model) (*Broker, error) {
	dir, err := os.MkdirTemp("", "ringbroker-test-") // not a test's own directory: a socket's path has room for 107 bytes
	if err != nil {
		return nil, err
	}
	b := newBroker(filepath.Join(dir, "broker.sock"), models)
	if err := b.Start(); err != nil {
		os.RemoveAll(dir)
		return nil, err
	}
	return b, nil
}

func newBroker(path string, models []Model) *Broker {
	return &Broker{path: path, models: models, handshake: 5 * time.Second, links: make(map[*link]struct{}),
		sessions: make(map[string]*session)}
}

// Path is the broker's socket.
func (b *Broker) Path() string { return b.path }

// Start listens again after Stop, at the same path.
func (b *Broker) Start() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.listener != nil {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(b.path), 0o700); err != nil {
		return err
	}
	listener, err := net.Listen("unix", b.path)
	if err != nil {
		return err
	}
	b.listener = listener
	b.ends.Add(1)
	go b.accept(listener)
	return nil
}

// Stop closes the socket and every connection, and waits until their models have run.
func (b *Broker) Stop() {
	b.mu.Lock()
	if b.listener != nil {
		b.listener.Close()
		b.listener = nil
	}
	b.mu.Unlock()
	b.Disconnect()
	b.resume()
	b.ends.Wait()
	b.Forget()
	os.RemoveAll(filepath.Dir(b.path))
}

func (b *Broker) accept(listener net.Listener) {
	defer b.ends.Done()
	for {
		connection, err := listener.Accept()
		if err != nil {
			return
		}
		b.mu.Lock()
		if b.listener != listener { // stopped meanwhile
			b.mu.Unlock()
			connection.Close()
			return
		}
		l := newLink(b, connection.(*net.UnixConn))
		b.links[l] = struct{}{}
		b.ends.Add(1)
		b.mu.Unlock()
		go l.serve()
	}
}

func (b *Broker) nextSession() uint64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.count++
	return b.count
}

// now is the broker's monotonic clock.
func (b *Broker) now() uint64 {
	const clockMonotonic = 1
	var t syscall.Timespec
	syscall.Syscall(syscall.SYS_CLOCK_GETTIME, clockMonotonic, uintptr(unsafe.Pointer(&t)), 0)
	b.mu.Lock()
	defer b.mu.Unlock()
	return uint64(t.Nano() + int64(b.faults.skew))
}
