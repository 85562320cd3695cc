// Loadgen does round trips, and says in JSON how long they took. With -n it does so many and ends; else it does as many as
// each line "run N" on its input asks for, so that a benchmark can let it take turns with other contenders while its
// connection and its leases stay open.
//
//	loadgen -socket PATH -model tiny                         round trips of one held lease
//	loadgen -socket PATH -model tiny -n 100000 -concurrency 8   of eight leases at the same time
//	loadgen -socket PATH -model digits -images F -labels F   classifying images
//	loadgen -socket PATH -mode echo                          raw 64-byte echoes
package main

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"log"
	"os"
	"time"
)

// options are the command line.
type options struct {
	socket, mode, model, input, output, images, labels, spin, raw string
	n, warmup, concurrency                                        int
	progress                                                      bool
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
	flag.StringVar(&o.raw, "raw-latencies", "", "a file for each round trip of the last turn, in ns, one a line")
	flag.IntVar(&o.n, "n", 0, "do so many round trips and end; 0 serves turns")
	flag.IntVar(&o.warmup, "warmup", 0, "round trips before the first turn, not counted")
	flag.IntVar(&o.concurrency, "concurrency", 1, "round trips at a time, each on a lease of its own")
	flag.BoolVar(&o.progress, "progress", false, "print lines \"progress DONE TOTAL\" on stderr")
	flag.Parse()
	if err := start(o); err != nil {
		log.Fatal(err)
	}
}

// start opens everything, and then does one turn or serves many.
func start(o options) error {
	steppers, err := open(o)
	if err != nil {
		return err
	}
	if o.warmup > 0 {
		if _, err := run(steppers, o.warmup, nil); err != nil {
			return err
		}
	}
	if o.n > 0 {
		return turn(o, steppers, o.n)
	}
	fmt.Println("{}") // ready
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		var n int
		if _, err := fmt.Sscanf(lines.Text(), "run %d", &n); err != nil || n < 1 {
			return fmt.Errorf("%q is not \"run N\"", lines.Text())
		}
		if err := turn(o, steppers, n); err != nil {
			return err
		}
	}
	return lines.Err()
}

func open(o options) ([]stepper, error) {
	if o.mode == "infer" {
		return openLeases(o)
	}
	if o.mode != "echo" {
		return nil, fmt.Errorf("there is no mode %q", o.mode)
	}
	var steppers []stepper
	for range o.concurrency {
		e, err := openEcho(o)
		if err != nil {
			return nil, err
		}
		steppers = append(steppers, e)
	}
	return steppers, nil
}

// turn does n round trips and prints what they took.
func turn(o options, steppers []stepper, n int) error {
	var progress func(done int)
	if o.progress {
		last := time.Now()
		progress = func(done int) {
			if now := time.Now(); done == n || now.Sub(last) > 200*time.Millisecond {
				last = now
				fmt.Fprintln(os.Stderr, "progress", done, n)
			}
		}
	}
	took, err := run(steppers, n, progress)
	if err != nil {
		return err
	}
	if o.raw != "" {
		if err := took.write(o.raw); err != nil {
			return err
		}
	}
	return json.NewEncoder(os.Stdout).Encode(took.summarise())
}
