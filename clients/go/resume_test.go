package ringbroker_test

import (
	"errors"
	"testing"

	"ringbroker"
	"ringbroker/ringbrokertest"
)

// lose makes an inference whose connection is ended while it is in flight, and returns what came of it.
func lose(t *testing.T, b *ringbrokertest.Broker, l ringbroker.Lease, end func()) error {
	t.Helper()
	release := b.Hold()
	defer release()
	done := make(chan error)
	before := b.Requests()
	go func() {
		_, err := l.Infer(inTime(t))
		done <- err
	}()
	eventually(t, "the request has come", func() bool { return b.Requests() > before })
	end()
	eventually(t, "the session has been taken up, or not", func() bool { return b.Connections() > 0 })
	release()
	return <-done
}

func TestALeaseOutlivesItsConnection(t *testing.T) {
	bothWays(t, func(t *testing.T, spin ringbroker.Option) {
		b := ringbrokertest.New(t, twice())
		m := open(t, dial(t, b, spin), "twice")
		l := acquire(t, m, 1)
		x := view[float32](t, l.Input("x"))
		for i := range 3 {
			x[0] = float32(i + 1)
			wants(t, lose(t, b, l, b.Disconnect), ringbroker.ErrBrokerLost)
			if b.Resumes() != i+1 || x[0] != float32(i+1) {
				t.Fatal(b.Resumes(), x[0])
			}
			if y := view[float32](t, infer(t, l).Output("y")); y[0] != 2*x[0] {
				t.Fatal(y)
			}
		}
	})
}

func TestALostRequestIsSentAgainWhereThatIsAllowed(t *testing.T) {
	bothWays(t, func(t *testing.T, spin ringbroker.Option) {
		b := ringbrokertest.New(t, twice())
		m := open(t, dial(t, b, spin), "twice", ringbroker.Repost())
		l := acquire(t, m, 1)
		view[float32](t, l.Input("x"))[0] = 4
		if err := lose(t, b, l, b.Disconnect); err != nil {
			t.Fatal(err)
		}
		if b.Requests() != 2 || b.Resumes() != 1 {
			t.Error(b.Requests(), b.Resumes())
		}
	})
}

func TestALostRequestIsSentAgainTwiceAndNoMore(t *testing.T) {
	b := ringbrokertest.New(t, twice())
	m := open(t, dial(t, b), "twice", ringbroker.Repost())
	l := acquire(t, m, 1)
	defer b.Hold()()
	done := make(chan error)
	go func() {
		_, err := l.Infer(inTime(t))
		done <- err
	}()
	for i := range 3 {
		eventually(t, "the request has come", func() bool { return b.Requests() == i+1 })
		b.Disconnect()
	}
	wants(t, <-done, ringbroker.ErrBrokerLost)
	if b.Requests() != 3 {
		t.Error(b.Requests())
	}
}

func TestARequestOfAStatefulModelIsNotSentAgain(t *testing.T) {
	model := twice()
	model.Stateful = true
	b := ringbrokertest.New(t, model)
	l := acquire(t, open(t, dial(t, b), "twice", ringbroker.Repost()), 1)
	wants(t, lose(t, b, l, b.Disconnect), ringbroker.ErrBrokerLost)
	if b.Requests() != 1 {
		t.Error(b.Requests())
	}
	infer(t, l)
}

func TestWhyTheWorkerWasEndedIsTold(t *testing.T) {
	for name, options := range map[string][]ringbroker.OpenOption{"": nil, "with Repost": {ringbroker.Repost()}} {
		t.Run(name, func(t *testing.T) {
			b := ringbrokertest.New(t, twice())
			l := acquire(t, open(t, dial(t, b), "twice", options...), 1)
			err := lose(t, b, l, func() { b.EndWorker(ringbroker.CodeExecutionTimeout) })
			wants(t, err, ringbroker.CodeExecutionTimeout)
			if b.Requests() != 1 {
				t.Error("it was sent again")
			}
			infer(t, l)
		})
	}
}

func TestARefusedSessionBeginsAnew(t *testing.T) {
	b := ringbrokertest.New(t, twice())
	m := open(t, dial(t, b), "twice", ringbroker.Repost())
	old := acquire(t, m, 1)
	kept := view[float32](t, old.Input("x"))
	kept[0] = 7
	b.Stop()
	if err := b.Start(); err != nil {
		t.Fatal(err)
	}
	next := acquire(t, m, 1)
	view[float32](t, next.Input("x"))[0] = 1
	_, err := old.Infer(inTime(t)) // the same number, of another ring
	wants(t, err, ringbroker.ErrBrokerLost)
	if kept[0] != 7 || view[float32](t, old.Input("x"))[0] != 7 {
		t.Error("the data went with the ring")
	}
	if y := view[float32](t, infer(t, next).Output("y")); y[0] != 2 {
		t.Error(y)
	}
	old.Release()
	if kept[0] != 0 {
		t.Error("a slice that outlived its ring reads", kept[0])
	}
}

func TestARingThatWasClosedMeanwhileIsClosed(t *testing.T) {
	b := ringbrokertest.New(t, twice())
	c := dial(t, b)
	open(t, c, "twice")
	for range 40 { // more than a session may have rings
		m := open(t, c, "twice")
		infer(t, acquire(t, m, 1)) // the broker has read ATTACHED
		b.Disconnect()
		m.Close()
	}
	open(t, c, "twice")
	if b.Resumes() == 0 {
		t.Error("no session was taken up")
	}
}

func TestAnotherSignature(t *testing.T) {
	wider := twice() // it has another output too
	wider.Outputs = append(wider.Outputs, ringbrokertest.Tensor{
		Name: "z", DType: ringbroker.F32, Shape: ringbrokertest.Shape("batch", 2),
	})
	other := twice()
	other.Inputs[0].DType = ringbroker.I32
	other.Run = func(*ringbrokertest.Batch) error { return errors.New("not this one") }
	for name, test := range map[string]struct {
		models []ringbrokertest.Model
		want   ringbroker.Code
	}{
		"more outputs":   {[]ringbrokertest.Model{wider}, 0},
		"another input":  {[]ringbrokertest.Model{other}, ringbroker.CodeSignatureChanged},
		"no more served": {nil, ringbroker.CodeUnknownModel},
	} {
		t.Run(name, func(t *testing.T) {
			b := ringbrokertest.New(t, twice())
			m := open(t, dial(t, b), "twice")
			old := acquire(t, m, 1)
			view[float32](t, old.Input("x"))[0] = 7
			b.Replace(test.models...)
			b.GoAway("a reload")
			eventually(t, "the session has moved", func() bool { return b.Resumes() == 1 })
			_, err := old.Infer(inTime(t))
			wants(t, err, ringbroker.CodeSignatureChanged)
			if view[float32](t, old.Input("x"))[0] != 7 {
				t.Error("the data went with the ring")
			}
			l, err := m.Acquire(inTime(t), 1)
			if test.want != 0 {
				wants(t, err, test.want)
				b.Replace(twice())
				b.GoAway("back again")
				eventually(t, "the session has moved", func() bool { return b.Resumes() == 2 })
				l, err = m.Acquire(inTime(t), 1)
			}
			if err != nil {
				t.Fatal(err)
			}
			infer(t, l)
		})
	}
}
