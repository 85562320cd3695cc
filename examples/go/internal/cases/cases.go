// Package cases reads what `python -m examples.models` wrote for the example programs: what they ask, and what the
// plain model answers.
package cases

import (
	"encoding/json"
	"log"
	"math"
	"os"
)

// Folder is where `python -m examples.models` puts them, seen from examples/go.
const Folder = "../../build/examples"

// Load reads a JSON file; it ends the program where it cannot.
func Load(path string, into any) {
	data, err := os.ReadFile(path)
	Check(err)
	Check(json.Unmarshal(data, into))
}

// Difference is the largest absolute difference of two equally long slices.
func Difference(a, b []float32) float64 {
	largest := 0.0
	for i := range a {
		largest = max(largest, math.Abs(float64(a[i])-float64(b[i])))
	}
	return largest
}

// Check ends the program with a message where there is an error.
func Check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
