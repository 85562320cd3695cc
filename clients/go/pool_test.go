package ringbroker_test

import (
	"testing"

	"ringbroker"
	"ringbroker/ringbrokertest"
)

// inPool is twice under another name, in a pool.
func inPool(name, pool string) ringbrokertest.Model {
	m := twice()
	m.Name, m.Pool = name, pool
	return m
}

func TestAModelInAnotherPoolIsOpenedThere(t *testing.T) {
	b := ringbrokertest.New(t, twice(), inPool("slow", "batch"))
	c := dial(t, b)
	infer(t, acquire(t, open(t, c, "twice"), 1))
	if b.Connections() != 1 {
		t.Error(b.Connections())
	}
	slow := open(t, c, "slow")
	infer(t, acquire(t, slow, 1))
	open(t, c, "slow")
	if b.Connections() != 2 {
		t.Error(b.Connections())
	}
	models, err := c.Models(inTime(t))
	if err != nil || len(models) != 2 || models[1].Pool != "batch" {
		t.Error(models, err)
	}
	_, err = c.Open(inTime(t), "nothing")
	wants(t, err, ringbroker.CodeUnknownModel)
}

func TestAModelThatMovesToAnotherPool(t *testing.T) {
	b := ringbrokertest.New(t, twice(), inPool("slow", "batch"))
	m := open(t, dial(t, b, ringbroker.Conns(2)), "slow")
	l := acquire(t, m, 1)
	b.Replace(twice(), inPool("slow", "other")) // and the pool batch is gone
	b.GoAway("a reload")
	eventually(t, "the sessions have ended", func() bool { return b.Connections() == 1 }) // that of Dial is left
	_, err := l.Infer(inTime(t))
	wants(t, err, ringbroker.ErrBrokerLost)
	for range 4 {
		infer(t, acquire(t, m, 1))
	}
}

func TestSeveralConnections(t *testing.T) {
	b := ringbrokertest.New(t, twice())
	c := dial(t, b, ringbroker.Conns(3))
	m := open(t, c, "twice", ringbroker.Slots(2))
	if b.Connections() != 3 {
		t.Fatal(b.Connections())
	}
	open(t, c, "twice")
	if b.Connections() != 3 {
		t.Error("the second model has connections of its own")
	}
	// Six leases fill three rings of two rows, whatever the order; each has its own memory.
	var leases []ringbroker.Lease
	for i := range 6 {
		l := acquire(t, m, 1)
		view[float32](t, l.Input("x"))[0] = float32(i)
		leases = append(leases, l)
	}
	b.Disconnect()
	for i, l := range leases {
		r, err := l.Infer(inTime(t))
		for err != nil { // it was sent before the loss was known
			wants(t, err, ringbroker.ErrBrokerLost)
			r, err = l.Infer(inTime(t))
		}
		if y := view[float32](t, r.Output("y")); y[0] != float32(2*i) {
			t.Error(i, y)
		}
	}
	if b.Resumes() != 3 {
		t.Error(b.Resumes(), "sessions were taken up")
	}
	for _, l := range leases {
		l.Release()
	}
	if rows := acquire(t, m, 2); rows.Rows() != 2 {
		t.Error(rows.Rows())
	}
	c.Close()
	eventually(t, "no connection is left", func() bool { return b.Connections() == 0 })
}

// firstFree holds the only row of both rings of a model, lets two wait, and gives the rows back, in both orders: each
// time the first row is for who came first.
func firstFree(t *testing.T, m *ringbroker.Model) {
	t.Helper()
	for freed := range 2 {
		held := []ringbroker.Lease{acquire(t, m, 1), acquire(t, m, 1)}
		view[float32](t, held[0].Input("x"))[0] = 0
		view[float32](t, held[1].Input("x"))[0] = 1
		waiting := []chan ringbroker.Lease{make(chan ringbroker.Lease), make(chan ringbroker.Lease)}
		for i, got := range waiting {
			go func() { got <- acquire(t, m, 1) }()
			eventually(t, "it waits", func() bool { return m.Waiting() == i+1 })
		}
		for i, got := range waiting {
			row := (freed + i) % 2
			held[row].Release()
			l := <-got
			if x := view[float32](t, l.Input("x")); x[0] != float32(row) {
				t.Error("row", row, "was given back, and", x[0], "was got")
			}
			infer(t, l)
			held[row] = l
		}
		for _, l := range held {
			l.Release()
		}
	}
}

func TestWhoWaitsGetsTheFirstRowThatIsFreeOfAnyConnection(t *testing.T) {
	b := ringbrokertest.New(t, twice())
	firstFree(t, open(t, dial(t, b, ringbroker.Conns(2)), "twice", ringbroker.Slots(1)))
}

func TestARequestForAVersion(t *testing.T) {
	b := ringbrokertest.New(t, twice())
	l := acquire(t, open(t, dial(t, b), "twice"), 1)
	if err := l.SetVersion("1"); err != nil {
		t.Fatal(err)
	}
	if r := infer(t, l); r.Version != "1" {
		t.Error(r.Version)
	}
	if err := l.SetVersion("2"); err != nil {
		t.Fatal(err)
	}
	_, err := l.Infer(inTime(t))
	wants(t, err, ringbroker.CodeUnknownVersion)
	if err := l.SetVersion(""); err != nil {
		t.Fatal(err)
	}
	infer(t, l)
	l.Release()
	wants(t, l.SetVersion("1"), ringbroker.CodeLeaseReleased)
}
