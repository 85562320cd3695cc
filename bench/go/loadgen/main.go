// Loadgen does round trips when it is asked to: a line "run N" on its input is answered by one line of JSON. So a benchmark
// can let it take turns with other contenders, while its connection and its lease stay open.
//
//	loadgen -socket PATH -model tiny                      round trips of one held lease
//	loadgen -socket PATH -model digits -images F -labels F   the same, classifying images
//	loadgen -socket PATH -mode echo                       raw 64-byte echoes
package main

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"log"
	"os"
	"slices"
	"time"
)

// stepper does one round trip. It returns the model's own compute time, and whether the answer was right.
type stepper interface {
	step() (compute time.Duration, right bool, err error)
}

// sample is what one turn measured.
type sample struct {
	P50         int64   `json:"p50_ns"`
	P99         int64   `json:"p99_ns"`
	PerSecond   float64 `json:"per_s"`
	BeyondP50   int64   `json:"beyond_p50_ns"` // of the round trip, without the model's own compute time
	Accuracy    float64 `json:"accuracy"`
	Allocations float64 `json:"allocations"` // per round trip
}

func main() {
	log.SetFlags(0)
	var o options
	flag.StringVar(&o.socket, "socket", "", "the Unix socket")
	flag.StringVar(&o.mode, "mode", "infer", "infer or echo")
	flag.StringVar(&o.model, "model", "", "the model")
	flag.StringVar(&o.input, "input", "x", "its input, F32")
	flag.StringVar(&o.output, "output", "y", "its output, F32")
	flag.StringVar(&o.images, "images", "", "an IDX file of images to classify")
	flag.StringVar(&o.labels, "labels", "", "an IDX file of their labels")
	flag.StringVar(&o.spin, "spin", "auto", "auto, off or a duration")
	flag.Parse()
	if err := serve(o); err != nil {
		log.Fatal(err)
	}
}

// options are the command line.
type options struct {
	socket, mode, model, input, output, images, labels, spin string
}

func serve(o options) error {
	s, err := open(o)
	if err != nil {
		return err
	}
	fmt.Println("{}") // ready
	lines := bufio.NewScanner(os.Stdin)
	answers := json.NewEncoder(os.Stdout)
	for lines.Scan() {
		var n int
		if _, err := fmt.Sscanf(lines.Text(), "run %d", &n); err != nil || n < 1 {
			return fmt.Errorf("%q is not \"run N\"", lines.Text())
		}
		turn, err := run(s, n)
		if err != nil {
			return err
		}
		if err := answers.Encode(turn); err != nil {
			return err
		}
	}
	return lines.Err()
}

func open(o options) (stepper, error) {
	if o.mode == "echo" {
		return openEcho(o)
	}
	return openLease(o)
}

// run does n round trips.
func run(s stepper, n int) (sample, error) {
	took, beyond := make([]int64, n), make([]int64, n)
	right := 0
	before := allocations()
	begin := time.Now()
	for i := range n {
		start := time.Now()
		compute, isRight, err := s.step()
		if err != nil {
			return sample{}, err
		}
		took[i] = int64(time.Since(start))
		beyond[i] = took[i] - int64(compute)
		if isRight {
			right++
		}
	}
	elapsed := time.Since(begin)
	allocated := float64(allocations()-before) / float64(n)
	slices.Sort(took)
	slices.Sort(beyond)
	return sample{
		P50: took[n/2], P99: took[n*99/100], BeyondP50: beyond[n/2],
		PerSecond: float64(n) / elapsed.Seconds(), Accuracy: float64(right) / float64(n), Allocations: allocated,
	}, nil
}
