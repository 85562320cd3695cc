// Classify classifies images at 3x224x224, four to a request, and compares with the plain network. The images are the
// demo's handwritten digits, enlarged; they are written into shared memory as the network wants them, and exist nowhere
// else at that size.
//
//	python -m examples.models classify
//	broker serve classify=build/examples/models/classify/1
//	cd examples/go && go run ./classify
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"os"
	"time"

	"examples/internal/cases"
	"ringbroker"
)

const (
	digitSide, pixel = 8, 28 // 8 x 28 = 224
	side             = digitSide * pixel
	rows             = 4
	classes          = 10
	tolerance        = 1e-3 // logits are around 1; a batch's sums are in another order than one row's
)

func main() {
	socket := flag.String("socket", "", "the broker's Unix socket (default: $RINGBROKER_SOCKET, or the user's own)")
	folder := flag.String("cases", cases.Folder, "the folder that python -m examples.models made")
	name := flag.String("model", "classify", "classify, or classify-onnx")
	imagesPath := flag.String("images", "../../broker/demo/test-images-idx3-ubyte", "8x8 images, pixels 0 to 16, in an IDX file")
	labelsPath := flag.String("labels", "../../broker/demo/test-labels-idx1-ubyte", "their labels, in an IDX file")
	flag.Parse()
	log.SetFlags(0)
	var plain struct{ Logits [][]float32 }
	cases.Load(*folder+"/classify.json", &plain)
	images, labels := read(*imagesPath)[16:], read(*labelsPath)[8:] // behind the files' headers

	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	client, err := ringbroker.Dial(ctx, *socket)
	cases.Check(err)
	defer client.Close()
	model, err := client.Open(ctx, *name, ringbroker.Slots(rows))
	cases.Check(err)
	lease, err := model.Acquire(ctx, rows) // rows side by side are one batch
	cases.Check(err)
	defer lease.Release()
	batch, err := ringbroker.View[float32](lease.Input("image")) // 4 x 3 x 224 x 224 floats in shared memory
	cases.Check(err)

	right, agreed, difference := 0, 0, 0.0
	for first := 0; first+rows <= len(plain.Logits); first += rows {
		for row := range rows {
			enlarge(batch[row*3*side*side:], images[(first+row)*digitSide*digitSide:])
		}
		result, err := lease.Infer(ctx)
		cases.Check(err)
		logits, err := ringbroker.View[float32](result.Output("logits"))
		cases.Check(err)
		for row := range rows {
			own, expected := logits[row*classes:(row+1)*classes], plain.Logits[first+row]
			difference = max(difference, cases.Difference(own, expected))
			if argmax(own) == argmax(expected) {
				agreed++
			}
			if argmax(own) == int(labels[first+row]) {
				right++
			}
		}
	}
	count := len(plain.Logits)
	fmt.Printf("%d of %d right; %d as the plain network, difference %.1e\n", right, count, agreed, difference)
	if agreed < count || difference > tolerance || right*10 < count*8 {
		log.Fatal("classify: that is not what the plain network says")
	}
}

// enlarge writes an 8x8 digit as three equal channels of 224x224, -1 to 1.
func enlarge(image []float32, digit []byte) {
	for y := range side {
		for x := range side {
			image[y*side+x] = float32(digit[y/pixel*digitSide+x/pixel])/8 - 1
		}
	}
	channel := image[:side*side]
	copy(image[side*side:], channel)
	copy(image[2*side*side:], channel)
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
	cases.Check(err)
	return data
}
