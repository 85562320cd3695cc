package ringbroker_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"ringbroker"
	"ringbroker/ringbrokertest"
)

func TestAResultTellsOfItsRun(t *testing.T) {
	l := acquire(t, open(t, dial(t, ringbrokertest.New(t, twice())), "twice"), 3)
	r := infer(t, l)
	if r.Version != "1" || r.BatchRows != 3 || r.Queue < 0 || r.Compute <= 0 {
		t.Errorf("%+v", r)
	}
}

func TestAModelThatFailsFailsItsRequest(t *testing.T) {
	failing := ringbrokertest.Func("failing", 1, 1, func(x, y []float32) error {
		if x[0] < 0 {
			return errors.New("no")
		}
		return nil
	})
	l := acquire(t, open(t, dial(t, ringbrokertest.New(t, failing)), "failing"), 1)
	x := view[float32](t, l.Input("x"))
	x[0] = -1
	_, err := l.Infer(inTime(t))
	wants(t, err, ringbroker.CodeModelFailed)
	if !strings.Contains(err.Error(), "MODEL_FAILED") || !strings.Contains(err.Error(), "errors.errorString") {
		t.Error(err)
	}
	x[0] = 1
	infer(t, l) // the lease is as good as before
}

func TestAnErrorCarriesItsFields(t *testing.T) {
	b := ringbrokertest.New(t, twice())
	l := acquire(t, open(t, dial(t, b), "twice"), 1)
	b.Fail(1, ringbroker.Code(4711), "a code of the future")
	_, err := l.Infer(inTime(t))
	var e *ringbroker.Error
	if !errors.As(err, &e) || e.Code != 4711 || e.Text != "a code of the future" || e.Retryable() ||
		!strings.Contains(e.Error(), "CAPACITY_4711") {
		t.Errorf("%#v", e)
	}
	infer(t, l)
}

func TestInferReturnsWhenItsContextEnds(t *testing.T) {
	bothWays(t, func(t *testing.T, spin ringbroker.Option) {
		b := ringbrokertest.New(t, twice())
		m := open(t, dial(t, b, spin), "twice", ringbroker.Slots(1))
		l := acquire(t, m, 1)
		release := b.Hold()
		ctx, cancel := context.WithCancel(context.Background())
		go func() {
			eventually(t, "the request has come", func() bool { return b.Requests() == 1 })
			cancel()
		}()
		_, err := l.Infer(ctx)
		wants(t, err, ringbroker.CodeCancelled, context.Canceled)
		// The CANCEL is answered although nothing runs, and with that the rows are the lease's again.
		eventually(t, "the rows are back", func() bool {
			_, err := ringbroker.View[float32](l.Input("x"))
			return err == nil
		})
		release()
		infer(t, l)
		if b.Requests() != 2 {
			t.Error(b.Requests(), "requests")
		}
		_, err = l.Infer(ctx)
		wants(t, err, ringbroker.CodeCancelled, context.Canceled)
		if b.Requests() != 2 {
			t.Error("a request was sent whose context had ended")
		}
	})
}

func TestRowsStayTakenUntilTheBrokerAnswers(t *testing.T) {
	bothWays(t, func(t *testing.T, spin ringbroker.Option) {
		begun, goOn := make(chan bool, 1), make(chan bool)
		slow := ringbrokertest.Func("slow", 1, 1, func(x, y []float32) error {
			begun <- true
			<-goOn
			return nil
		})
		m := open(t, dial(t, ringbrokertest.New(t, slow), spin), "slow", ringbroker.Slots(1))
		l := acquire(t, m, 1)
		ctx, cancel := context.WithCancel(context.Background())
		go func() {
			<-begun // too late for a CANCEL
			cancel()
		}()
		_, err := l.Infer(ctx)
		wants(t, err, context.Canceled)
		_, err = l.Infer(inTime(t))
		wants(t, err, ringbroker.CodeLeaseBusy)
		if err := l.Release(); err != nil { // is fine, and gives nothing back yet
			t.Fatal(err)
		}
		wants(t, l.Release(), ringbroker.CodeLeaseReleased)
		brief, stop := context.WithTimeout(context.Background(), time.Millisecond)
		defer stop()
		_, err = m.Acquire(brief, 1)
		wants(t, err, ringbroker.CodeAcquireTimeout)
		goOn <- true
		next := acquire(t, m, 1)
		go func() {
			<-begun
			goOn <- true
		}()
		infer(t, next)
	})
}

func TestADeadlineIsTheRequestsToo(t *testing.T) {
	b := ringbrokertest.New(t, twice())
	l := acquire(t, open(t, dial(t, b), "twice"), 1)
	b.SkewClock(2 * patience) // from here on the broker thinks that every deadline has passed
	_, err := l.Infer(inTime(t))
	wants(t, err, ringbroker.CodeDeadlineExceeded, context.DeadlineExceeded)
	if _, err := l.Infer(context.Background()); err != nil {
		t.Error("with no deadline:", err)
	}
}

func TestDeadlinesAreToldOnTheBrokersClock(t *testing.T) {
	for _, skew := range []time.Duration{-time.Hour, 0, time.Hour} {
		b := ringbrokertest.New(t, twice())
		b.SkewClock(skew)
		infer(t, acquire(t, open(t, dial(t, b), "twice"), 1))
		release := b.Hold()
		l := acquire(t, open(t, dial(t, b), "twice"), 1)
		ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
		defer cancel()
		_, err := l.Infer(ctx)
		wants(t, err, ringbroker.CodeTimeout, context.DeadlineExceeded)
		release()
	}
}

func TestATraceTravels(t *testing.T) {
	l := acquire(t, open(t, dial(t, ringbrokertest.New(t, twice())), "twice"), 1)
	if err := l.SetTrace("request 17"); err != nil {
		t.Fatal(err)
	}
	infer(t, l)
	l.SetTrace(strings.Repeat("x", 129))
	_, err := l.Infer(inTime(t))
	wants(t, err, ringbroker.CodeInvalidField)
	l.SetTrace("")
	infer(t, l)
}

// The answer to an inference that was given up comes when nobody waits for one. Its rows come back all the same.
func TestALateAnswerIsReadAlthoughNobodyWaits(t *testing.T) {
	bothWays(t, func(t *testing.T, spin ringbroker.Option) {
		begun, goOn := make(chan bool, 1), make(chan bool)
		slow := ringbrokertest.Func("slow", 1, 1, func(x, y []float32) error {
			if x[0] > 0 {
				begun <- true
				<-goOn
			}
			return nil
		})
		m := open(t, dial(t, ringbrokertest.New(t, slow), spin), "slow", ringbroker.Slots(2))
		late, other := acquire(t, m, 1), acquire(t, m, 1)
		view[float32](t, late.Input("x"))[0] = 1
		infer(t, other)
		ctx, cancel := context.WithCancel(context.Background())
		go func() {
			<-begun
			cancel()
		}()
		_, err := late.Infer(ctx)
		wants(t, err, context.Canceled)
		late.Release()
		waiting := make(chan bool)
		go func() {
			acquire(t, m, 1)
			close(waiting)
		}()
		eventually(t, "a caller waits for the rows", func() bool { return m.Waiting() == 1 })
		goOn <- true
		<-waiting
	})
}
