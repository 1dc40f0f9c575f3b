package main

import (
	"slices"
	"strings"
)

// An index finds words of which one letter was forgotten, added, changed or swapped with
// its neighbour: two such spellings have a word in common if a letter of each is deleted.
type index struct {
	deletes map[string][]int32
	words   []string // the most frequent first
}

func newIndex(words []string) *index {
	x := &index{make(map[string][]int32), words}
	for i, w := range words {
		for _, d := range append(deletions(w), w) {
			x.deletes[d] = append(x.deletes[d], int32(i))
		}
	}
	return x
}

func (x *index) size() int { return len(x.deletes) }

// correct returns the words that are one mistake away, the word itself first.
func (x *index) correct(word string) []string {
	word = strings.ToLower(word)
	var found []int32
	for _, d := range append(deletions(word), word) {
		found = append(found, x.deletes[d]...)
	}
	slices.Sort(found)
	means := []string{}
	for _, i := range slices.Compact(found) {
		if w := x.words[i]; w == word {
			means = slices.Insert(means, 0, w)
		} else {
			means = append(means, w)
		}
	}
	return means[:min(len(means), 5)]
}

// deletions are all that is left of a word without one of its letters.
func deletions(w string) []string {
	list := make([]string, 0, len(w))
	for i := range w {
		list = append(list, w[:i]+w[i+1:])
	}
	return list
}

// vocabulary makes n words of an invented language.
func vocabulary(n int) []string {
	onsets := strings.Fields("b br d dr f fl g gr h k kl l m n p pr r s st t tr v z")
	vowels := strings.Fields("a e i o u ai ou")
	seen := make(map[string]bool)
	var words []string
	for state := uint64(1); len(words) < n; {
		var w strings.Builder
		for range 2 + state>>33%3 {
			state = state*6364136223846793005 + 1442695040888963407
			w.WriteString(onsets[state>>40%uint64(len(onsets))])
			w.WriteString(vowels[state>>50%uint64(len(vowels))])
		}
		if !seen[w.String()] {
			seen[w.String()] = true
			words = append(words, w.String())
		}
	}
	return words
}
