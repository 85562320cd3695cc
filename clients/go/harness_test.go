package ringbroker_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"ringbroker"
	"ringbroker/ringbrokertest"
)

// patience is how long a test waits for what must come: a limit for broken code, not an expectation.
const patience = 30 * time.Second

// group runs functions at once and waits for them; since Go 1.25 a WaitGroup does that by itself.
type group struct{ sync.WaitGroup }

func (g *group) Go(run func()) {
	g.Add(1)
	go func() {
		defer g.Done()
		run()
	}()
}

// twice is y = 2x, of four floats.
func twice() ringbrokertest.Model {
	return ringbrokertest.Func("twice", 4, 4, func(x, y []float32) error {
		for i := range x {
			y[i] = 2 * x[i]
		}
		return nil
	})
}

// sum is y = a + b, of sequences of up to 16.
func sum() ringbrokertest.Model {
	tensor := func(name string) ringbrokertest.Tensor {
		return ringbrokertest.Tensor{Name: name, DType: ringbroker.I64, Shape: ringbrokertest.Shape("batch", "seq")}
	}
	return ringbrokertest.Model{
		Name: "sum", Dims: map[string]int{"seq": 16},
		Inputs: []ringbrokertest.Tensor{tensor("a"), tensor("b")}, Outputs: []ringbrokertest.Tensor{tensor("y")},
		Run: func(b *ringbrokertest.Batch) error {
			for row := range b.Rows() {
				a1, a2 := ringbrokertest.Input[int64](b, "a", row), ringbrokertest.Input[int64](b, "b", row)
				y := ringbrokertest.Output[int64](b, "y", row)
				for i := range y {
					y[i] = a1[i] + a2[i]
				}
			}
			return nil
		},
	}
}

func inTime(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

// bothWays runs a test with a client that polls, and with one that sleeps.
func bothWays(t *testing.T, test func(t *testing.T, spin ringbroker.Option)) {
	t.Run("polling", func(t *testing.T) { test(t, ringbroker.Spin(100*time.Microsecond)) })
	t.Run("sleeping", func(t *testing.T) { test(t, ringbroker.Spin(0)) })
}

// dial connects to a broker.
func dial(t testing.TB, b *ringbrokertest.Broker, options ...ringbroker.Option) *ringbroker.Client {
	t.Helper()
	c, err := ringbroker.Dial(inTime(t), b.Path(), options...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func open(t testing.TB, c *ringbroker.Client, model string, options ...ringbroker.OpenOption) *ringbroker.Model {
	t.Helper()
	m, err := c.Open(inTime(t), model, options...)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func acquire(t testing.TB, m *ringbroker.Model, rows int) ringbroker.Lease {
	t.Helper()
	l, err := m.Acquire(inTime(t), rows)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func view[T ringbroker.Element](t testing.TB, tensor ringbroker.Tensor) []T {
	t.Helper()
	v, err := ringbroker.View[T](tensor)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func infer(t testing.TB, l ringbroker.Lease) ringbroker.Result {
	t.Helper()
	r, err := l.Infer(inTime(t))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// wants fails the test unless err is all of these.
func wants(t testing.TB, err error, all ...error) {
	t.Helper()
	for _, want := range all {
		if !errors.Is(err, want) {
			t.Fatalf("the error is %v, not %v", err, want)
		}
	}
}

// eventually waits until something holds.
func eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !holds(); time.Sleep(100 * time.Microsecond) {
		if time.Now().After(end) {
			t.Fatalf("it never came to this: %s", what)
		}
	}
}

// zeros is a file of so many zeros.
func zeros(t testing.TB, size int) string {
	path := filepath.Join(t.TempDir(), "zeros")
	if err := os.WriteFile(path, make([]byte, size), 0o600); err != nil {
		t.Error(err)
	}
	return path
}

// inAnotherProcess starts a broker in a process of its own, whose allocations are not ours, and returns its socket.
func inAnotherProcess(t testing.TB, spin time.Duration) string {
	t.Helper()
	child := exec.Command(os.Args[0], "-test.run=^TestAnotherProcess$")
	child.Env = append(os.Environ(), "RINGBROKERTEST_SPIN="+spin.String())
	child.Stderr = os.Stderr
	stdin, err := child.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		stdin.Close()
		child.Wait()
	})
	path, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(path)
}

// TestAnotherProcess is that process.
func TestAnotherProcess(t *testing.T) {
	spin, err := time.ParseDuration(os.Getenv("RINGBROKERTEST_SPIN"))
	if err != nil {
		return // this is the parent
	}
	b := ringbrokertest.New(t, twice())
	b.Spin(spin)
	fmt.Println(b.Path())
	io.Copy(io.Discard, os.Stdin)
}
