package main

import (
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"sync/atomic"
)

// counts says how often there is a word.
type counts map[string]int

func (c counts) add(d counts) {
	for w, n := range d {
		c[w] += n
	}
}

// A piece is a part of the text, which begins and ends between words.
type piece struct{ from, to int }

func split(text []byte, size int) (list []piece) {
	for from := 0; from < len(text); {
		to := min(from+size, len(text))
		for to < len(text) && letter(text[to]) {
			to++
		}
		list = append(list, piece{from, to})
		from = to
	}
	return list
}

func letter(b byte) bool { return b|0x20 >= 'a' && b|0x20 <= 'z' || b >= 0x80 }

// mapPieces counts the words of the pieces that next gives it, until there are no more.
func mapPieces(text []byte, pieces []piece, next *atomic.Uint64) counts {
	c := counts{}
	for {
		i := next.Add(1) - 1
		if i >= uint64(len(pieces)) {
			return c
		}
		b := text[pieces[i].from:pieces[i].to]
		for len(b) > 0 {
			n := 0
			for n < len(b) && letter(b[n]) {
				n++
			}
			if n > 0 {
				c[string(b[:n])]++
			}
			b = b[min(n+1, len(b)):]
		}
	}
}

// encode writes counts as messages of at most size bytes.
func (c counts) encode(size int, send func([]byte) error) error {
	var m []byte
	for w, n := range c {
		if len(w) > size-2*binary.MaxVarintLen64 {
			return errors.New("a word is too long for a message")
		}
		if len(m)+len(w)+2*binary.MaxVarintLen64 > size {
			if err := send(m); err != nil {
				return err
			}
			m = m[:0]
		}
		m = binary.AppendUvarint(m, uint64(n))
		m = binary.AppendUvarint(m, uint64(len(w)))
		m = append(m, w...)
	}
	if len(m) == 0 {
		return nil
	}
	return send(m)
}

// decode adds a message of encode's.
func (c counts) decode(m []byte) error {
	for len(m) > 0 {
		n, k := binary.Uvarint(m)
		l, k2 := binary.Uvarint(m[max(k, 0):])
		if k <= 0 || k2 <= 0 || l > uint64(len(m)-k-k2) {
			return errors.New("a worker sent a message that makes no sense")
		}
		m = m[k+k2:]
		c[string(m[:l])] += int(n)
		m = m[l:]
	}
	return nil
}

// invent makes a text, always the same.
func invent(size int) []byte {
	r := rand.New(rand.NewPCG(1, 2))
	words := make([][]byte, 20000)
	for i := range words {
		w := make([]byte, 2+r.IntN(9))
		for j := range w {
			w[j] = byte('a' + r.IntN(26))
		}
		words[i] = w
	}
	text := make([]byte, 0, size+16)
	for len(text) < size {
		x := r.Float64()
		text = append(text, words[int(x*x*x*float64(len(words)))]...) // some are much more frequent
		text = append(text, ' ')
	}
	return text[:size]
}
