package ringbroker_test

import (
	"testing"

	"ringbroker"
	"ringbroker/ringbrokertest"
)

func TestAClosedClientAnswersNothing(t *testing.T) {
	b := ringbrokertest.New(t, twice())
	c := dial(t, b)
	m := open(t, c, "twice", ringbroker.Slots(1))
	l := acquire(t, m, 1)
	x := view[float32](t, l.Input("x"))
	release := b.Hold()
	defer release()
	waiting := make(chan error, 2)
	go func() {
		_, err := l.Infer(inTime(t))
		waiting <- err
	}()
	go func() {
		_, err := m.Acquire(inTime(t), 1)
		waiting <- err
	}()
	eventually(t, "the request has come", func() bool { return b.Requests() == 1 })
	for range 2 {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}
	wants(t, <-waiting, ringbroker.CodeClientClosed)
	wants(t, <-waiting, ringbroker.CodeClientClosed)
	_, err := c.Models(inTime(t))
	wants(t, err, ringbroker.CodeClientClosed)
	_, err = c.Open(inTime(t), "twice")
	wants(t, err, ringbroker.CodeClientClosed)
	_, err = m.Acquire(inTime(t), 1)
	wants(t, err, ringbroker.CodeClientClosed)
	_, err = l.Infer(inTime(t))
	wants(t, err, ringbroker.CodeClientClosed)
	x[0] = 3
	if view[float32](t, l.Input("x"))[0] != 3 {
		t.Error("a lease that is not released lost its memory")
	}
	if err := l.Release(); err != nil || x[0] != 0 {
		t.Error(err, x)
	}
	eventually(t, "the connection has ended", func() bool { return b.Connections() == 0 })
}

func TestACloseEndsADial(t *testing.T) {
	b := ringbrokertest.New(t, twice())
	c := dial(t, b)
	m := open(t, c, "twice")
	b.Stop()
	waiting := make(chan error)
	go func() {
		_, err := m.Acquire(inTime(t), 1)
		for err == nil { // the loss was not known yet
			_, err = m.Acquire(inTime(t), 1)
		}
		waiting <- err
	}()
	c.Close()
	wants(t, <-waiting, ringbroker.CodeClientClosed)
}

func TestAClosedModelGivesItsRingBack(t *testing.T) {
	b := ringbrokertest.New(t, twice())
	c := dial(t, b)
	for range 100 { // more than a session may have
		m := open(t, c, "twice", ringbroker.Slots(2))
		l := acquire(t, m, 1)
		x := view[float32](t, l.Input("x"))
		infer(t, l)
		if err := m.Close(); err != nil {
			t.Fatal(err)
		}
		_, err := l.Infer(inTime(t))
		wants(t, err, ringbroker.CodeClientClosed)
		_, err = m.Acquire(inTime(t), 1)
		wants(t, err, ringbroker.CodeClientClosed)
		x[0] = 5
		l.Release()
		if x[0] != 0 {
			t.Fatal("a slice that outlived its ring reads", x[0])
		}
		m.Close()
	}
	if b.Connections() != 1 {
		t.Error("the connection did not outlive the rings")
	}
}

func TestAModelThatIsClosedCancelsWhatHasNotBegun(t *testing.T) {
	b := ringbrokertest.New(t, twice())
	m := open(t, dial(t, b), "twice", ringbroker.Slots(1))
	l := acquire(t, m, 1)
	defer b.Hold()()
	waiting := make(chan error, 2)
	go func() {
		_, err := l.Infer(inTime(t))
		waiting <- err
	}()
	eventually(t, "the request has come", func() bool { return b.Requests() == 1 })
	m.Close()
	wants(t, <-waiting, ringbroker.CodeCancelled)
}
