// Listen hears where somebody speaks, with silero-vad: four streams as they come, then the same four as whole clips. A
// stream's state is the client's: it comes back with every answer, and goes in again with the next window.
//
//	python -m examples.models listen
//	broker serve listen=build/examples/models/listen/1 listen-clip=build/examples/models/listen-clip/1
//	cd examples/go && go run ./listen
package main

import (
	"context"
	"encoding/binary"
	"flag"
	"fmt"
	"log"
	"os"
	"time"

	"examples/internal/cases"
	"ringbroker"
)

const (
	rate, window, carried = 16_000, 512, 64 // carried: the end of the window before
	tolerance             = 1e-4
)

var names = []string{"voice", "tone", "noise", "silence"}

type sound struct {
	Voiced       [2]int    // the windows with a voice
	Stream, Clip []float32 // what the plain models say
}

func main() {
	socket := flag.String("socket", "", "the broker's Unix socket (default: $RINGBROKER_SOCKET, or the user's own)")
	folder := flag.String("cases", cases.Folder, "the folder that python -m examples.models made")
	flag.Parse()
	log.SetFlags(0)
	var expected map[string]sound
	cases.Load(*folder+"/listen.json", &expected)
	var sounds [][]float32
	for _, name := range names {
		sounds = append(sounds, readWave(*folder+"/listen-"+name+".wav"))
	}

	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	client, err := ringbroker.Dial(ctx, *socket)
	cases.Check(err)
	defer client.Close()
	streams := listenToStreams(ctx, client, sounds)
	for i, name := range names {
		verify("stream "+name, streams[i], expected[name].Stream, expected[name].Voiced)
		clip := listenToClip(ctx, client, sounds[i])
		verify("clip "+name, clip, expected[name].Clip, expected[name].Voiced)
	}
}

// listenToStreams goes window by window through all streams at once, a row each.
func listenToStreams(ctx context.Context, client *ringbroker.Client, sounds [][]float32) [][]float32 {
	model, err := client.Open(ctx, "listen", ringbroker.Slots(len(sounds)))
	cases.Check(err)
	defer model.Close()
	lease, err := model.Acquire(ctx, len(sounds)) // one lease for as long as the streams last
	cases.Check(err)
	defer lease.Release()
	audio := view[float32](lease.Input("input")) // [rows, 64+512]
	state := view[float32](lease.Input("state")) // [rows, 2, 128]
	for i := range view[int64](lease.Input("sr")) {
		view[int64](lease.Input("sr"))[i] = rate
	}
	clear(audio)
	clear(state)
	probabilities := make([][]float32, len(sounds))
	for at := 0; at < len(sounds[0]); at += window {
		for row, samples := range sounds {
			own := audio[row*(carried+window) : (row+1)*(carried+window)]
			copy(own[:carried], own[window:])
			copy(own[carried:], samples[at:at+window])
		}
		result, err := lease.Infer(ctx)
		cases.Check(err)
		for row, probability := range view[float32](result.Output("output")) {
			probabilities[row] = append(probabilities[row], probability)
		}
		copy(state, view[float32](result.Output("stateN")))
	}
	return probabilities
}

// listenToClip has all windows in one request.
func listenToClip(ctx context.Context, client *ringbroker.Client, samples []float32) []float32 {
	model, err := client.Open(ctx, "listen-clip", ringbroker.Slots(1))
	cases.Check(err)
	defer model.Close()
	lease, err := model.Acquire(ctx, 1)
	cases.Check(err)
	defer lease.Release()
	cases.Check(lease.SetShape("audio", len(samples)/window, window))
	copy(view[float32](lease.Input("audio")), samples)
	result, err := lease.Infer(ctx)
	cases.Check(err)
	return append([]float32(nil), view[float32](result.Output("speech"))...)
}

// verify compares with the plain model and with where the voice is, prints, and ends the program where it differs.
func verify(name string, own, plain []float32, voiced [2]int) {
	hits, alarms := 0, 0
	for i, probability := range own {
		isVoiced := voiced[0] <= i && i < voiced[1]
		isLate := voiced[1] <= i && i < voiced[1]+4 && voiced[1] > 0 // to notice that a voice has ended
		if probability > 0.5 && isVoiced {
			hits++
		} else if probability > 0.5 && !isLate {
			alarms++
		}
	}
	spoken, difference := voiced[1]-voiced[0], cases.Difference(own, plain)
	fmt.Printf("%s: heard %d of %d windows of speech, %d elsewhere, difference %.1e\n", name, hits, spoken, alarms, difference)
	if difference > tolerance || hits*10 < spoken*9 || alarms > 0 {
		log.Fatal("listen: that is not what the plain model says")
	}
}

func view[T ringbroker.Element](tensor ringbroker.Tensor) []T {
	elements, err := ringbroker.View[T](tensor)
	cases.Check(err)
	return elements
}

// readWave reads a mono .wav file of 16 bits, behind its plain header of 44 bytes: samples from -1 to 1.
func readWave(path string) []float32 {
	data, err := os.ReadFile(path)
	cases.Check(err)
	samples := make([]float32, (len(data)-44)/2)
	for i := range samples {
		samples[i] = float32(int16(binary.LittleEndian.Uint16(data[44+2*i:]))) / 32768
	}
	return samples
}
