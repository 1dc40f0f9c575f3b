// Command cpu measures work that makes no system calls, in nanoseconds.
package main

import (
	"crypto/sha256"
	"encoding/json"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"time"
)

func main() {
	each := flag.Duration("t", 500*time.Millisecond, "`time` for each measurement")
	flag.Parse()
	rnd := rand.New(rand.NewPCG(1, 2))

	numbers := make([]int, 1<<18)
	for i := range numbers {
		numbers[i] = rnd.Int()
	}
	work := make([]int, len(numbers))
	measure("sort 262,144 integers", *each, func() error {
		copy(work, numbers)
		slices.Sort(work)
		return nil
	})

	type item struct {
		ID    int               `json:"id"`
		Name  string            `json:"name"`
		Price float64           `json:"price"`
		Tags  []string          `json:"tags"`
		Attr  map[string]string `json:"attr"`
	}
	items := make([]item, 1000)
	for i := range items {
		items[i] = item{i, fmt.Sprint("item ", rnd.Uint64()), rnd.Float64(), []string{"a", "b", "c"}, map[string]string{"k": fmt.Sprint(rnd.Int())}}
	}
	measure("JSON there and back, 1,000 objects", *each, func() error {
		b, err := json.Marshal(items)
		if err != nil {
			return err
		}
		var back []item
		return json.Unmarshal(b, &back)
	})

	block := make([]byte, 1<<20)
	var sum [32]byte
	measure("SHA-256 of 1 MiB", *each, func() error {
		sum = sha256.Sum256(block)
		copy(block, sum[:])
		return nil
	})
}

// measure repeats f for the time given.
func measure(name string, each time.Duration, f func() error) {
	n, start := 0, time.Now()
	for n == 0 || time.Since(start) < each {
		if err := f(); err != nil {
			fmt.Fprintln(os.Stderr, "cpu:", err)
			os.Exit(1)
		}
		n++
	}
	fmt.Printf("%s: %.1f\n", name, float64(time.Since(start))/float64(n))
}
