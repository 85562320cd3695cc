package ringbroker_test

import (
	"os"
	"runtime"
	"testing"

	"ringbroker"
	"ringbroker/ringbrokertest"
)

func TestNothingIsLeftBehind(t *testing.T) {
	b := ringbrokertest.New(t, twice())
	session := func(closing bool) {
		c, err := ringbroker.Dial(inTime(t), b.Path(), ringbroker.Segments("fd"))
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			l := acquire(t, open(t, c, "twice"), 1)
			infer(t, l)
			l.Release()
		}
		if !closing {
			b.Disconnect()
			acquire(t, open(t, c, "twice"), 1).Release()
		}
		c.Close()
		eventually(t, "the connection has ended", func() bool { return b.Connections() == 0 })
	}
	for range 5 {
		session(true)
		session(false)
	}
	files, goroutines := countFiles(t), runtime.NumGoroutine()
	for range 50 {
		session(true)
		session(false)
	}
	eventually(t, "as many files as before", func() bool { return countFiles(t) <= files })
	eventually(t, "as many goroutines as before", func() bool { return runtime.NumGoroutine() <= goroutines })
}

func countFiles(t *testing.T) int {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}
