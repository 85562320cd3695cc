package main

import (
	"bufio"
	"fmt"
	"os"
	"runtime"
	"slices"
	"sync"
	"time"
)

// stepper does one round trip. It returns the model's own compute time, and whether the answer was right.
type stepper interface {
	step() (compute time.Duration, right bool, err error)
}

// measured is what a turn took.
type measured struct {
	took, beyond []int64 // of each round trip, in ns; beyond is without the model's own compute time
	right        int
	elapsed      time.Duration
	allocations  uint64
}

// sample is what is told of a turn.
type sample struct {
	Count       int     `json:"count"`
	P50         int64   `json:"p50_ns"`
	P90         int64   `json:"p90_ns"`
	P99         int64   `json:"p99_ns"`
	Mean        int64   `json:"mean_ns"`
	PerSecond   float64 `json:"per_s"`
	BeyondP50   int64   `json:"beyond_p50_ns"`
	Accuracy    float64 `json:"accuracy"`
	Allocations float64 `json:"allocations"` // per round trip
}

// run does n round trips, a share of them on each stepper at the same time. progress may be nil.
func run(steppers []stepper, n int, progress func(done int)) (measured, error) {
	all := measured{took: make([]int64, n), beyond: make([]int64, n)}
	parts, failures := make([]measured, len(steppers)), make([]error, len(steppers))
	var group sync.WaitGroup
	before, begin := allocations(), time.Now()
	for i, s := range steppers {
		from, to := i*n/len(steppers), (i+1)*n/len(steppers)
		parts[i] = measured{took: all.took[from:to], beyond: all.beyond[from:to]}
		if i == len(steppers)-1 { // on this goroutine: one stepper needs no other
			failures[i] = parts[i].run(s, func(done int) {
				if progress != nil {
					progress(n - (to - from) + done)
				}
			})
			continue
		}
		group.Go(func() { failures[i] = parts[i].run(s, func(int) {}) })
	}
	group.Wait()
	all.elapsed, all.allocations = time.Since(begin), allocations()-before
	for i := range parts {
		all.right += parts[i].right
		if failures[i] != nil {
			return all, failures[i]
		}
	}
	return all, nil
}

func (m *measured) run(s stepper, progress func(done int)) error {
	for i := range m.took {
		start := time.Now()
		compute, isRight, err := s.step()
		if err != nil {
			return err
		}
		m.took[i] = int64(time.Since(start))
		m.beyond[i] = m.took[i] - int64(compute)
		if isRight {
			m.right++
		}
		if i%64 == 63 || i == len(m.took)-1 {
			progress(i + 1)
		}
	}
	return nil
}

func (m *measured) summarise() sample {
	n, sum := len(m.took), int64(0)
	for _, took := range m.took {
		sum += took
	}
	took, beyond := slices.Sorted(slices.Values(m.took)), slices.Sorted(slices.Values(m.beyond))
	return sample{
		Count: n, P50: took[n/2], P90: took[n*90/100], P99: took[n*99/100], Mean: sum / int64(n), BeyondP50: beyond[n/2],
		PerSecond: float64(n) / m.elapsed.Seconds(), Accuracy: float64(m.right) / float64(n),
		Allocations: float64(m.allocations) / float64(n),
	}
}

// write writes each round trip, in the order in which they were made.
func (m *measured) write(path string) error {
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	w := bufio.NewWriter(file)
	for _, took := range m.took {
		fmt.Fprintln(w, took)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	return file.Close()
}

// allocations counts the heap objects that this process has allocated.
func allocations() uint64 {
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return stats.Mallocs
}
