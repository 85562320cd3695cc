package ringbroker

import (
	"math/rand/v2"
	"testing"
)

// FuzzRows: whatever is taken and given back, no row has two owners, rows are adjacent and inside, and a request is
// refused only where so many adjacent rows are not free.
func FuzzRows(f *testing.F) {
	f.Add(uint16(8), uint64(1))
	f.Add(uint16(64), uint64(2))
	f.Add(uint16(65), uint64(3))
	f.Add(uint16(1), uint64(4))
	f.Add(uint16(200), uint64(5))
	f.Fuzz(func(t *testing.T, count uint16, seed uint64) {
		n := int(count)%300 + 1
		rows, owned := newRows(n), make([]bool, n)
		var leases [][2]int
		random := rand.New(rand.NewPCG(seed, 0))
		for range 500 {
			if len(leases) > 0 && random.IntN(2) == 0 {
				i := random.IntN(len(leases))
				rows.give(leases[i][0], leases[i][1])
				mark(t, owned, leases[i], false)
				leases = append(leases[:i], leases[i+1:]...)
				continue
			}
			size := 1 + random.IntN(min(n, 9))
			first := rows.take(size)
			if first < 0 {
				if hasRun(owned, size) {
					t.Fatalf("%d adjacent rows were refused, of %v", size, owned)
				}
				continue
			}
			leases = append(leases, [2]int{first, size})
			mark(t, owned, leases[len(leases)-1], true)
		}
	})
}

func mark(t *testing.T, owned []bool, lease [2]int, taken bool) {
	for row := lease[0]; row < lease[0]+lease[1]; row++ {
		if owned[row] == taken {
			t.Fatalf("row %d has two owners", row)
		}
		owned[row] = taken
	}
}

func hasRun(owned []bool, size int) bool {
	run := 0
	for _, taken := range owned {
		run++
		if taken {
			run = 0
		}
		if run == size {
			return true
		}
	}
	return false
}

func TestConcurrentRowsAreNeighbours(t *testing.T) {
	rows := newRows(16)
	for want := range 16 {
		if got := rows.take(1); got != want {
			t.Errorf("row %d came after row %d", got, want-1)
		}
	}
	if rows.take(1) >= 0 {
		t.Error("a row of none")
	}
	rows.give(3, 1)
	rows.give(7, 2)
	for _, want := range []int{3, 7, 8} { // next-fit: from where the last one ended, and around
		if got := rows.take(1); got != want {
			t.Errorf("row %d, not %d", got, want)
		}
	}
}

func TestAnEmptyRingBeginsAtTheFront(t *testing.T) {
	rows := newRows(16)
	for range 20 {
		if first := rows.take(3); first != 0 {
			t.Error(first)
		}
		rows.give(0, 3)
	}
}

func BenchmarkTakeAndGive(b *testing.B) {
	rows := newRows(1024)
	rows.take(1)
	for range b.N {
		rows.give(rows.take(1), 1)
	}
}
