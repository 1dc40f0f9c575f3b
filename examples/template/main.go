// Template is a server that has a lot to do before its first answer: it corrects the
// spelling of words, and makes an index of all their misspellings at start. As a pVM it
// does that once, is written to a file, and goes on from there a hundred times.
package main

import (
	"crypto/rand"
	"encoding/json"
	"flag"
	"fmt"
	"log"
	"net/http"
	"os"
	"time"
)

// reply is the answer to /?word=…
type reply struct {
	Word  string   `json:"word"`
	Means []string `json:"means"`  // what may be meant, the likeliest first
	Host  string   `json:"host"`   // who answers: another for each pVM
	Count int      `json:"count"`  // how many have asked this one, and what it was made of
	Token string   `json:"token"`  // random, never the same twice
	Since string   `json:"loaded"` // when the index was made: the same for all
}

func main() {
	listen := flag.String("listen", ":8080", "address to listen on")
	words := flag.Int("words", 20_000, "words to know")
	flag.Parse()

	begin := time.Now()
	index := newIndex(vocabulary(*words))
	loaded := time.Now()
	log.Printf("%d words, %d misspellings, loaded in %v", *words, index.size(), loaded.Sub(begin).Round(time.Millisecond))

	count := make(chan int, 1)
	count <- 0
	http.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		n := <-count + 1
		count <- n
		word := r.URL.Query().Get("word")
		host, _ := os.Hostname()
		w.Header().Set("Content-Type", "application/json")
		json.NewEncoder(w).Encode(reply{word, index.correct(word), host, n, rand.Text(), fmt.Sprint(loaded.UnixNano())})
	})
	log.Fatal(http.ListenAndServe(*listen, nil))
}
