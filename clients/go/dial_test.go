package ringbroker_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"ringbroker"
	"ringbroker/internal/wire"
	"ringbroker/ringbrokertest"
)

func TestDialWaitsForAStartingBroker(t *testing.T) {
	b := ringbrokertest.New(t, twice())
	b.Stop()
	dialled := make(chan error)
	go func() {
		c, err := ringbroker.Dial(inTime(t), b.Path())
		if err == nil {
			defer c.Close()
			_, err = c.Models(inTime(t))
		}
		dialled <- err
	}()
	if err := b.Start(); err != nil {
		t.Fatal(err)
	}
	if err := <-dialled; err != nil {
		t.Fatal(err)
	}
}

func TestDialWaitsNoLongerThanItsContext(t *testing.T) {
	path := filepath.Join(t.TempDir(), "nobody")
	ctx, cancel := context.WithTimeout(context.Background(), 1)
	defer cancel()
	_, err := ringbroker.Dial(ctx, path)
	wants(t, err, ringbroker.ErrBrokerLost, context.DeadlineExceeded)
	cancelled, cancel := context.WithCancel(context.Background())
	cancel()
	_, err = ringbroker.Dial(cancelled, path)
	wants(t, err, ringbroker.ErrBrokerLost, context.Canceled)
}

func TestDialDoesNotWaitWhereThatCannotHelp(t *testing.T) {
	_, err := ringbroker.Dial(inTime(t), "/"+strings.Repeat("x", 200))
	wants(t, err, ringbroker.ErrBrokerLost)
	b := ringbrokertest.New(t)
	_, err = ringbroker.Dial(inTime(t), b.Path(), ringbroker.Pool("elsewhere"))
	wants(t, err, ringbroker.CodeUnknownPool)
	_, err = ringbroker.Dial(inTime(t), b.Path(), ringbroker.Name(strings.Repeat("x", 129), ""))
	wants(t, err, ringbroker.CodeInvalidField)
}

func TestDialRefusesAnotherVersion(t *testing.T) {
	b := ringbrokertest.New(t)
	b.Mangle(func([]byte) []byte { return encode(t, &wire.Welcome{Major: 2}) })
	_, err := ringbroker.Dial(inTime(t), b.Path())
	wants(t, err, ringbroker.CodeBadAnswer)
	b.Mangle(func([]byte) []byte { return encode(t, &wire.Failure{Code: 1005}) })
	_, err = ringbroker.Dial(inTime(t), b.Path())
	wants(t, err, ringbroker.CodeVersionUnsupported)
	eventually(t, "no connection is left", func() bool { return b.Connections() == 0 })
}

func TestDialAtTheDefaultPath(t *testing.T) {
	b := ringbrokertest.New(t)
	t.Setenv("RINGBROKER_SOCKET", b.Path())
	c, err := ringbroker.Dial(inTime(t), "")
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
	t.Setenv("RINGBROKER_SOCKET", "")
	t.Setenv("XDG_RUNTIME_DIR", "/run/user/7")
	if path := ringbroker.DefaultPath(); path != "/run/user/7/ringbroker/broker.sock" {
		t.Error(path)
	}
	os.Unsetenv("XDG_RUNTIME_DIR")
	if path := ringbroker.DefaultPath(); !strings.HasPrefix(path, "/tmp/ringbroker-") {
		t.Error(path)
	}
}

func TestModelsAreListedPageByPage(t *testing.T) {
	models := []ringbrokertest.Model{sum()}
	for range 40 {
		models = append(models, twice())
	}
	listed, err := dial(t, ringbrokertest.New(t, models...)).Models(inTime(t))
	if err != nil || len(listed) != len(models) {
		t.Fatal(len(listed), err)
	}
	m := listed[0]
	if m.Name != "sum" || m.Versions[0] != "1" || m.Pool != "default" || m.Dims["seq"] != 16 || len(m.Inputs) != 2 {
		t.Errorf("%+v", m)
	}
	a := m.Inputs[0]
	if a.Name != "a" || a.DType != ringbroker.I64 || a.BatchAxis != 0 || a.Shape[1] != (ringbroker.Dim{Name: "seq"}) {
		t.Errorf("%+v", a)
	}
}

func TestAListingThatGoesInCirclesEnds(t *testing.T) {
	b := ringbrokertest.New(t)
	c := dial(t, b)
	b.Mangle(func(payload []byte) []byte {
		m := decode(t, payload).(*wire.Models)
		m.NextPage = wire.Some[uint64](0)
		return encode(t, m)
	})
	_, err := c.Models(inTime(t))
	wants(t, err, ringbroker.CodeBadAnswer)
}

func TestPing(t *testing.T) {
	c := dial(t, ringbrokertest.New(t))
	if took, err := c.Ping(inTime(t)); err != nil || took <= 0 {
		t.Error(took, err)
	}
}

// encode is a message's payload.
func encode(t testing.TB, m wire.Message) []byte {
	b, err := new(wire.Encoder).Append(nil, m)
	if err != nil {
		t.Error(err)
		return nil
	}
	return b[4:]
}

// decode is the message of a broker's payload.
func decode(t testing.TB, payload []byte) wire.Message {
	m, err := wire.NewBrokerDecoder().Decode(payload)
	if err != nil {
		t.Error(err)
	}
	return m
}
