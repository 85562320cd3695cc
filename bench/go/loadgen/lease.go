package main

import (
	"context"
	"encoding/binary"
	"errors"
	"os"
	"time"

	"ringbroker"
)

// lease is one held lease of a model, and the images to classify with it, if any.
type lease struct {
	lease      ringbroker.Lease
	input      []float32
	outputName string
	images     [][]float32
	labels     []byte
	next       int
}

// openLeases takes adjacent rows of one ring, on one connection.
func openLeases(o options) ([]stepper, error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	var dialled []ringbroker.Option
	if spin, isSet, err := parseSpin(o.spin); err != nil {
		return nil, err
	} else if isSet {
		dialled = append(dialled, ringbroker.Spin(spin))
	}
	client, err := ringbroker.Dial(ctx, o.socket, dialled...)
	if err != nil {
		return nil, err
	}
	model, err := client.Open(ctx, o.model, ringbroker.Slots(max(8, o.concurrency)))
	if err != nil {
		return nil, err
	}
	var steppers []stepper
	for range o.concurrency {
		l, err := openLease(ctx, model, o)
		if err != nil {
			return nil, err
		}
		steppers = append(steppers, l)
	}
	return steppers, nil
}

func openLease(ctx context.Context, model *ringbroker.Model, o options) (*lease, error) {
	l := &lease{outputName: o.output}
	var err error
	if l.lease, err = model.Acquire(ctx, 1); err != nil {
		return nil, err
	}
	if l.input, err = ringbroker.View[float32](l.lease.Input(o.input)); err != nil {
		return nil, err
	}
	for i := range l.input {
		l.input[i] = 1
	}
	if o.images != "" {
		err = l.readImages(o.images, o.labels)
	}
	return l, err
}

// step classifies the next image, or runs the model on the input as it is.
func (l *lease) step() (time.Duration, bool, error) {
	if l.images != nil {
		copy(l.input, l.images[l.next])
	}
	result, err := l.lease.Infer(context.Background())
	if err != nil {
		return 0, false, err
	}
	output, err := ringbroker.View[float32](result.Output(l.outputName))
	if err != nil {
		return 0, false, err
	}
	if l.images == nil {
		return result.Compute, true, nil
	}
	right := argmax(output) == int(l.labels[l.next])
	l.next = (l.next + 1) % len(l.images)
	return result.Compute, right, nil
}

// readImages reads IDX files of 8x8 images, pixels 0 to 16, and of their labels.
func (l *lease) readImages(images, labels string) error {
	pixels, err := os.ReadFile(images)
	if err != nil {
		return err
	}
	if l.labels, err = os.ReadFile(labels); err != nil {
		return err
	}
	const imageBytes = 64
	if len(pixels) < 16 || len(l.labels) < 8 || binary.BigEndian.Uint32(pixels) != 0x803 {
		return errors.New("not the IDX files of images and labels")
	}
	pixels, l.labels = pixels[16:], l.labels[8:]
	for len(pixels) >= imageBytes {
		image := make([]float32, imageBytes)
		for i, pixel := range pixels[:imageBytes] {
			image[i] = float32(pixel) / 16
		}
		l.images, pixels = append(l.images, image), pixels[imageBytes:]
	}
	if len(l.images) != len(l.labels) {
		return errors.New("there are not as many labels as images")
	}
	return nil
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

// parseSpin reads "auto" (not set), "off" or a duration.
func parseSpin(text string) (spin time.Duration, isSet bool, err error) {
	switch text {
	case "auto":
		return 0, false, nil
	case "off":
		return 0, true, nil
	}
	spin, err = time.ParseDuration(text)
	return spin, true, err
}
