// Score scores rows at a high rate with a small perceptron, and compares with the plain one. Many goroutines share a
// client: each has a lease of one row that it uses again and again, and what arrives together runs as one batch.
//
//	python -m examples.models score
//	broker serve score=build/examples/models/score/1
//	cd examples/go && go run ./score
package main

import (
	"cmp"
	"context"
	"flag"
	"fmt"
	"log"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"examples/internal/cases"
	"ringbroker"
)

const tolerance = 1e-5

func main() {
	socket := flag.String("socket", "", "the broker's Unix socket (default: $RINGBROKER_SOCKET, or the user's own)")
	folder := flag.String("cases", cases.Folder, "the folder that python -m examples.models made")
	requests := flag.Int("requests", 200_000, "how many to send, at least 1000")
	goroutines := flag.Int("goroutines", 64, "how many are in flight")
	flag.Parse()
	log.SetFlags(0)
	var asked struct {
		Rows   [][]float32
		Labels []int
		Scores []float32
	}
	cases.Load(*folder+"/score.json", &asked)

	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	client, err := ringbroker.Dial(ctx, *socket)
	cases.Check(err)
	defer client.Close()
	model, err := client.Open(ctx, "score", ringbroker.Slots(*goroutines))
	cases.Check(err)

	scores := make([]atomic.Value, len(asked.Rows))
	var next, batchRows atomic.Int64
	var all sync.WaitGroup
	start := time.Now()
	for range *goroutines {
		all.Go(func() {
			lease, err := model.Acquire(ctx, 1)
			cases.Check(err)
			defer lease.Release()
			features, err := ringbroker.View[float32](lease.Input("features")) // 64 floats in shared memory
			cases.Check(err)
			for {
				request := int(next.Add(1)) - 1
				if request >= *requests {
					return
				}
				row := request % len(asked.Rows)
				copy(features, asked.Rows[row])
				result, err := lease.Infer(ctx)
				cases.Check(err)
				score, err := ringbroker.View[float32](result.Output("score"))
				cases.Check(err)
				scores[row].Store(score[0])
				batchRows.Add(int64(result.BatchRows))
			}
		})
	}
	all.Wait()
	rate := float64(*requests) / time.Since(start).Seconds()

	own := make([]float32, len(scores))
	for row := range scores {
		own[row] = scores[row].Load().(float32)
	}
	difference, area := cases.Difference(own, asked.Scores), areaUnderCurve(asked.Labels, own)
	fmt.Printf("%.0f requests a second, a request's batch has %.1f rows on average, AUC %.4f, difference %.1e\n",
		rate, float64(batchRows.Load())/float64(*requests), area, difference)
	if difference > tolerance || area < 0.9 {
		log.Fatal("score: that is not what the plain perceptron says")
	}
}

// areaUnderCurve is how often a row of the rare class scores higher than one of the other; no two scores are equal here.
func areaUnderCurve(labels []int, scores []float32) float64 {
	order := make([]int, len(scores))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int { return cmp.Compare(scores[a], scores[b]) })
	below, pairs, positives := 0, 0, 0
	for _, row := range order {
		if labels[row] == 1 {
			positives++
			pairs += below
		} else {
			below++
		}
	}
	return float64(pairs) / float64(positives*below)
}
