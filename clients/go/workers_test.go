package ringbroker_test

import (
	"context"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"net"
	"os"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"ringbroker"
)

// realWorkers is the socket of a real broker whose workers may be killed: two, of the model affine; one more in the pool
// other, of slow; and hangs, which runs for longer than it may if its input is over 0. tests/interop/test_go_workers.py starts it.
func realWorkers(t testing.TB) string {
	t.Helper()
	socket := os.Getenv("RINGBROKER_TEST_WORKERS")
	if socket == "" {
		t.Skip("no real broker: tests/interop/test_go_workers.py starts one, and sets RINGBROKER_TEST_WORKERS")
	}
	return socket
}

// status is what a broker tells of itself.
type status struct {
	PID          int
	Generation   int
	OpenSessions int `json:"open_sessions"`
	OpenRings    int `json:"open_rings"`
	SegmentBytes int `json:"segment_bytes"`
	Pools        map[string]struct {
		Workers []struct {
			PID       int
			Sessions  int
			IsServing bool `json:"is_serving"`
		}
	}
}

func statusOf(t testing.TB, socket string) (s status) {
	t.Helper()
	connection, err := net.Dial("unix", socket+".admin")
	if err != nil {
		t.Fatal(err)
	}
	defer connection.Close()
	if _, err := connection.Write([]byte("status\n")); err != nil {
		t.Fatal(err)
	}
	if err := json.NewDecoder(connection).Decode(&s); err != nil {
		t.Fatal(err)
	}
	return s
}

// killWorker kills a worker that has a session, and returns its process id.
func killWorker(t testing.TB, socket string) (pid int) {
	t.Helper()
	eventually(t, "a worker was killed", func() bool {
		for _, w := range statusOf(t, socket).Pools["default"].Workers {
			if w.Sessions > 0 {
				pid = w.PID
				return syscall.Kill(w.PID, syscall.SIGKILL) == nil
			}
		}
		return false
	})
	return pid
}

// loseWorker kills a worker that has a session, and waits until nobody can send to it any more.
func loseWorker(t testing.TB, socket string) {
	t.Helper()
	pid := killWorker(t, socket)
	eventually(t, "the worker is gone", func() bool {
		for _, w := range statusOf(t, socket).Pools["default"].Workers {
			if w.PID == pid {
				return false
			}
		}
		return true
	})
}

func reload(t testing.TB, socket string) {
	t.Helper()
	before := statusOf(t, socket)
	if err := syscall.Kill(before.PID, syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	eventually(t, "another generation serves", func() bool { return statusOf(t, socket).Generation > before.Generation })
}

func dialWorkers(t testing.TB, options ...ringbroker.Option) (string, *ringbroker.Client) {
	t.Helper()
	socket := realWorkers(t)
	c, err := ringbroker.Dial(inTime(t), socket, options...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return socket, c
}

// bothSegments runs a test with segments by name, and by descriptor.
func bothSegments(t *testing.T, test func(t *testing.T, segments ringbroker.Option)) {
	t.Run("path", func(t *testing.T) { test(t, ringbroker.Segments("path")) })
	t.Run("fd", func(t *testing.T) { test(t, ringbroker.Segments("fd")) })
}

// waitUntilFree waits until the broker has no session and no memory. What it keeps for a resume, it keeps for an hour.
func waitUntilFree(t testing.TB, socket string) {
	t.Helper()
	eventually(t, "the broker has no memory of anybody", func() bool {
		s := statusOf(t, socket)
		return s.OpenSessions == 0 && s.OpenRings == 0 && s.SegmentBytes == 0
	})
}

// inferAll runs inferences in several goroutines until stopped, and counts them; each answer must be that of its question.
func inferAll(t *testing.T, m *ringbroker.Model) (made func() int64, stop func()) {
	ended, count := make(chan bool), new(atomic.Int64)
	var all group
	for number := range 4 {
		all.Go(func() {
			for round := 0; ; round++ {
				select {
				case <-ended:
					return
				default:
				}
				if err := askAffine(inTime(t), m, float32(1000*number+round%1000)); err != nil {
					t.Error(err)
					return
				}
				count.Add(1)
			}
		})
	}
	return count.Load, func() { close(ended); all.Wait() }
}

func TestRealWorkersAreKilledAndNoAnswerIsLost(t *testing.T) {
	bothSegments(t, func(t *testing.T, segments ringbroker.Option) {
		socket, c := dialWorkers(t, segments, ringbroker.Conns(2))
		m := open(t, c, "affine", ringbroker.Slots(4), ringbroker.Repost())
		held := []ringbroker.Lease{acquire(t, m, 1), acquire(t, m, 1)} // one on each connection
		made, stop := inferAll(t, m)
		defer stop()
		for range 5 {
			before := made()
			eventually(t, "inferences are made", func() bool { return made() > before+50 })
			for _, l := range held { // both sessions are served, and the broker has read their ATTACHED
				infer(t, l)
			}
			killWorker(t, socket)
		}
		for _, l := range held {
			infer(t, l)
		}
	})
}

func TestRealWorkersAreKilledAndALeaseIsAskedAgain(t *testing.T) {
	bothSegments(t, func(t *testing.T, segments ringbroker.Option) {
		socket, c := dialWorkers(t, segments)
		l := acquire(t, open(t, c, "affine"), 1)
		x := view[float32](t, l.Input("x"))
		infer(t, l) // so that the broker has read ATTACHED
		lost := 0
		for round := range 5 {
			x[0] = float32(round)
			killWorker(t, socket)
			r, err := l.Infer(inTime(t))
			for err != nil {
				wants(t, err, ringbroker.ErrBrokerLost)
				lost++
				r, err = l.Infer(inTime(t))
			}
			if y := view[float32](t, r.Output("y")); y[0] != float32(3*round+1) {
				t.Error(round, y)
			}
		}
		t.Logf("%d of 5 kills lost a request", lost)
	})
}

func TestRealWorkersAreReplacedAndNobodyNotices(t *testing.T) {
	bothSegments(t, func(t *testing.T, segments ringbroker.Option) {
		socket, c := dialWorkers(t, segments, ringbroker.Conns(2))
		m := open(t, c, "affine", ringbroker.Slots(4))
		held := acquire(t, m, 1)
		view[float32](t, held.Input("x"))[0] = 9
		made, stop := inferAll(t, m)
		for range 2 {
			before := made()
			reload(t, socket)
			eventually(t, "inferences are made", func() bool { return made() > before+50 })
		}
		stop()
		if y := view[float32](t, infer(t, held).Output("y")); y[0] != 28 {
			t.Error(y)
		}
	})
}

func TestRealWorkersOfAnotherPool(t *testing.T) {
	socket, c := dialWorkers(t)
	fast, slow := open(t, c, "affine"), open(t, c, "slow")
	reload(t, socket)
	for _, m := range []*ringbroker.Model{fast, slow} {
		if err := askAffine(inTime(t), m, 3); err != nil {
			t.Error(err)
		}
	}
}

func TestRealWorkersThatHangAreEndedAndTheirClientsTold(t *testing.T) {
	_, c := dialWorkers(t)
	l := acquire(t, open(t, c, "hangs", ringbroker.Repost()), 1)
	x := view[float32](t, l.Input("x"))
	clear(x)
	infer(t, l)
	x[0] = 1
	_, err := l.Infer(inTime(t))
	wants(t, err, ringbroker.CodeExecutionTimeout)
	x[0] = 0
	infer(t, l)
}

func TestRealWorkersServeWhoWaitsInOrder(t *testing.T) {
	_, c := dialWorkers(t, ringbroker.Conns(2))
	firstFree(t, open(t, c, "affine", ringbroker.Slots(1)))
}

func TestRealWorkersGiveAVersion(t *testing.T) {
	_, c := dialWorkers(t)
	m := open(t, c, "affine", ringbroker.Version("1"))
	l := acquire(t, m, 1)
	if r := infer(t, l); r.Version != "1" || m.Version() != "1" {
		t.Error(r.Version, m.Version())
	}
	l.SetVersion("2")
	_, err := l.Infer(context.Background())
	wants(t, err, ringbroker.CodeUnknownVersion)
}

// inferUntilClosed runs inferences until the client is closed; some may be lost with their worker.
func inferUntilClosed(t *testing.T, m *ringbroker.Model) (wait func()) {
	var all group
	all.Go(func() {
		for {
			err := askAffine(inTime(t), m, 1)
			if errors.Is(err, ringbroker.CodeClientClosed) {
				return
			}
			if err != nil {
				wants(t, err, ringbroker.ErrBrokerLost)
			}
		}
	})
	return all.Wait
}

func TestRealWorkersFreeWhatAClosedClientHad(t *testing.T) {
	for name, happen := range map[string]func(testing.TB, string){"reload": reload, "loss": loseWorker} {
		t.Run(name, func(t *testing.T) {
			bothSegments(t, func(t *testing.T, segments ringbroker.Option) {
				for round := range 4 { // at any time of the resume
					socket, c := dialWorkers(t, segments, ringbroker.Conns(2))
					m := open(t, c, "affine", ringbroker.Slots(4))
					for range 2 { // one on each connection, so that the broker has read both ATTACHED
						infer(t, acquire(t, m, 1))
					}
					wait := inferUntilClosed(t, m)
					happen(t, socket)
					time.Sleep(rand.N(20 * time.Millisecond))
					if round%2 == 0 {
						m.Close()
					}
					c.Close()
					wait()
					waitUntilFree(t, socket)
				}
			})
		})
	}
}
