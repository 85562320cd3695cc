package ringbroker

import "math/bits"

// rows says which rows of a ring are taken. It gives them out next-fit, in ring order, so that concurrent leases are
// neighbours and the broker runs them as one batch.
type rows struct {
	taken []uint64 // a bit for each row; those past the end are set
	count int
	free  int
	next  int // where the search begins
}

func newRows(n int) rows {
	r := rows{taken: make([]uint64, (n+63)/64), count: n, free: n}
	if n%64 != 0 {
		r.taken[len(r.taken)-1] = ^uint64(0) << (n % 64)
	}
	return r
}

// take takes n adjacent rows and returns the first, or -1 if there are none. In a ring that is empty it begins at the
// front again: a lone caller stays in warm cache lines.
func (r *rows) take(n int) int {
	if n > r.free {
		return -1
	}
	if r.free == r.count {
		r.next = 0
	}
	row := r.find(n, r.next, r.count)
	if row < 0 {
		row = r.find(n, 0, min(r.next+n-1, r.count))
	}
	if row < 0 {
		return -1
	}
	r.set(row, n, true)
	r.next = row + n
	return row
}

func (r *rows) give(row, n int) { r.set(row, n, false) }

// find returns the first of n adjacent free rows in [from, to), or -1.
func (r *rows) find(n, from, to int) int {
	for {
		row := r.search(from, 0)
		end := min(r.search(row, ^uint64(0)), to)
		if row+n > to {
			return -1
		}
		if end-row >= n {
			return row
		}
		from = end
	}
}

// search returns the first row at or after from that is free (flip 0) or taken (flip ^0); the count if there is none.
func (r *rows) search(from int, flip uint64) int {
	for word := from / 64; word < len(r.taken); word++ {
		free := ^r.taken[word] ^ flip
		if word == from/64 {
			free &= ^uint64(0) << (from % 64)
		}
		if free != 0 {
			return min(word*64+bits.TrailingZeros64(free), r.count)
		}
	}
	return r.count
}

func (r *rows) set(row, n int, taken bool) {
	for i := row; i < row+n; i++ {
		if taken {
			r.taken[i/64] |= 1 << (i % 64)
		} else {
			r.taken[i/64] &^= 1 << (i % 64)
		}
	}
	if taken {
		r.free -= n
	} else {
		r.free += n
	}
}
