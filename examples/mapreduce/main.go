// Mapreduce counts the words of a text on several processors. As a pVM it forks: each
// worker has the text already, takes pieces of it by a number in shared memory, and sends
// what it counted as messages. As an ordinary process its workers are goroutines.
package main

import (
	"cmp"
	"flag"
	"fmt"
	"log"
	"maps"
	"os"
	"slices"
	"sync/atomic"
	"time"
)

func main() {
	workers := flag.Int("workers", 4, "`number` of workers")
	mb := flag.Int("mb", 16, "size in `MB` of the text that is made if no file is given")
	top := flag.Int("top", 10, "`number` of words to print")
	measure := flag.Bool("time", false, "print how long the job took, in ns, and nothing else")
	flag.Parse()
	log.SetFlags(0)
	if *workers < 1 || *mb < 1 || flag.NArg() > 1 {
		log.Fatal("usage: mapreduce [-workers N] [-mb N] [-top N] [file]")
	}
	text := []byte(nil)
	if flag.NArg() == 1 {
		var err error
		if text, err = os.ReadFile(flag.Arg(0)); err != nil {
			log.Fatal(err)
		}
	} else {
		text = invent(*mb << 20)
	}
	pieces := split(text, 256<<10)
	t := time.Now()
	total, how, err := count(text, pieces, *workers)
	if err != nil {
		log.Fatal(err)
	}
	took := time.Since(t)
	if *measure {
		fmt.Printf("%d MB of text, %d workers: %d\n", len(text)>>20, *workers, took.Nanoseconds())
		return
	}
	log.Printf("%d %s: %v", *workers, how, took.Round(time.Millisecond))
	all := 0
	for _, n := range total {
		all += n
	}
	fmt.Println(all, "words,", len(total), "different")
	words := slices.SortedFunc(maps.Keys(total), func(a, b string) int {
		return cmp.Or(total[b]-total[a], cmp.Compare(a, b))
	})
	for _, w := range words[:min(*top, len(words))] {
		fmt.Println(total[w], w)
	}
}

// count is the job: map in workers, reduce here.
func count(text []byte, pieces []piece, workers int) (total counts, how string, err error) {
	total = counts{}
	switch ok, err := family(text, pieces, workers, total); {
	case err != nil:
		return nil, "", err
	case ok:
		return total, "forks", nil
	}
	var next atomic.Uint64
	results := make(chan counts)
	for range workers {
		go func() { results <- mapPieces(text, pieces, &next) }()
	}
	for range workers {
		total.add(<-results)
	}
	return total, "goroutines", nil
}
