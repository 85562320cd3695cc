// Digits classifies handwritten digits with the model that `broker serve --demo` serves, through shared memory.
//
//	go run ./digits -images ../../broker/demo/test-images-idx3-ubyte -labels ../../broker/demo/test-labels-idx1-ubyte
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"os"
	"time"

	"ringbroker"
)

func main() {
	socket := flag.String("socket", "", "the broker's Unix socket (default: $RINGBROKER_SOCKET, or the user's own)")
	imagesPath := flag.String("images", "../../broker/demo/test-images-idx3-ubyte", "8x8 images, pixels 0 to 16, in an IDX file")
	labelsPath := flag.String("labels", "../../broker/demo/test-labels-idx1-ubyte", "their labels, in an IDX file")
	flag.Parse()
	log.SetFlags(0)
	images, labels := read(*imagesPath)[16:], read(*labelsPath)[8:] // behind the files' headers

	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	client, err := ringbroker.Dial(ctx, *socket)
	check(err)
	defer client.Close()
	model, err := client.Open(ctx, "digits")
	check(err)
	lease, err := model.Acquire(ctx, 1)
	check(err)
	defer lease.Release()
	image, err := ringbroker.View[float32](lease.Input("image")) // 64 floats in shared memory
	check(err)

	right := 0
	for i, label := range labels {
		for j := range image {
			image[j] = float32(images[i*len(image)+j]) / 16
		}
		result, err := lease.Infer(ctx)
		check(err)
		logits, err := ringbroker.View[float32](result.Output("logits"))
		check(err)
		if argmax(logits) == int(label) {
			right++
		}
	}
	fmt.Printf("%d of %d right, accuracy %.4f\n", right, len(labels), float64(right)/float64(len(labels)))
}

func argmax(values []float32) int {
	best := 0
	for i, value := range values {
		if value > values[best] {
			best = i
		}
	}
	return best
}

func read(path string) []byte {
	data, err := os.ReadFile(path)
	check(err)
	return data
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
