// Embed finds the nearest sentence by meaning, with all-MiniLM-L6-v2 behind the broker, and compares with the plain
// model. The token ids come from a file; each sentence goes as a row of its own length, so nothing is padded.
//
//	python -m examples.models embed
//	broker serve embed=build/examples/models/embed/1
//	cd examples/go && go run ./embed
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"sync"
	"time"

	"examples/internal/cases"
	"ringbroker"
)

const tolerance = 1e-4

func main() {
	socket := flag.String("socket", "", "the broker's Unix socket (default: $RINGBROKER_SOCKET, or the user's own)")
	folder := flag.String("cases", cases.Folder, "the folder that python -m examples.models made")
	flag.Parse()
	log.SetFlags(0)
	var asked struct {
		Sentences  []string
		InputIDs   [][]int64 `json:"input_ids"`
		Embeddings [][]float32
	}
	cases.Load(*folder+"/embed.json", &asked)

	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	client, err := ringbroker.Dial(ctx, *socket)
	cases.Check(err)
	defer client.Close()
	model, err := client.Open(ctx, "embed", ringbroker.Slots(16))
	cases.Check(err)

	vectors := make([][]float32, len(asked.InputIDs))
	var all sync.WaitGroup
	for i, ids := range asked.InputIDs {
		all.Go(func() { // a Model may be shared; each goroutine has a lease of its own
			vector, err := embed(ctx, model, ids)
			cases.Check(err)
			vectors[i] = vector
		})
	}
	all.Wait()

	right, difference := 0, 0.0
	for i, vector := range vectors {
		difference = max(difference, cases.Difference(vector, asked.Embeddings[i]))
		pair := i ^ 1 // the sentences come in pairs
		if nearest(i, vectors) == pair {
			right++
		}
		if i < pair {
			fmt.Printf("%.2f  %s  ~  %s\n", cosine(vector, vectors[pair]), asked.Sentences[i], asked.Sentences[pair])
		}
	}
	fmt.Printf("%d of %d found their pair, difference from the plain model %.1e\n", right, len(vectors), difference)
	if right < len(vectors) || difference > tolerance {
		log.Fatal("embed: that is not what the plain model says")
	}
}

// embed is the unit vector of one tokenised text.
func embed(ctx context.Context, model *ringbroker.Model, ids []int64) ([]float32, error) {
	lease, err := model.Acquire(ctx, 1)
	if err != nil {
		return nil, err
	}
	defer lease.Release()
	for _, name := range []string{"input_ids", "attention_mask"} {
		if err := lease.SetShape(name, len(ids)); err != nil { // this row is as long as this text
			return nil, err
		}
	}
	tokens, err := ringbroker.View[int64](lease.Input("input_ids"))
	if err != nil {
		return nil, err
	}
	mask, err := ringbroker.View[int64](lease.Input("attention_mask"))
	if err != nil {
		return nil, err
	}
	copy(tokens, ids)
	for i := range mask {
		mask[i] = 1
	}
	result, err := lease.Infer(ctx)
	if err != nil {
		return nil, err
	}
	vector, err := ringbroker.View[float32](result.Output("embedding"))
	return append([]float32(nil), vector...), err // the view is another's after the release
}

func nearest(i int, vectors [][]float32) int {
	best, most := -1, float32(-1)
	for j, vector := range vectors {
		if similarity := cosine(vectors[i], vector); j != i && similarity > most {
			best, most = j, similarity
		}
	}
	return best
}

// cosine is the dot product: the vectors have length 1.
func cosine(a, b []float32) (sum float32) {
	for i := range a {
		sum += a[i] * b[i]
	}
	return sum
}
