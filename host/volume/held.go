package volume

import (
	"math"
	"sync"

	"golang.org/x/sys/unix"
)

// Held is a record lock; Length 0 is to the end.
type Held struct {
	Type          int16
	Start, Length int64
}

// maxHeld is the most record locks of one file that are known. What holds more cannot be
// put down in a Record.
const maxHeld = 1024

// held are the locks that a file has, as far as its own calls go. The kernel knows them
// too, but tells nobody.
type held struct {
	mu    sync.Mutex
	flock int
	locks []Held
	many  bool
}

func (h *held) list() (int, []Held, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.many {
		return 0, nil, unix.EFBIG
	}
	return h.flock, append([]Held(nil), h.locks...), nil
}

func (h *held) setFlock(op int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.flock = op; op == unix.LOCK_UN {
		h.flock = 0
	}
}

// set notes that a range has a lock of a kind now, or none (F_UNLCK).
func (h *held) set(typ int16, start, length int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	end := func(l Held) int64 { // the first byte behind it
		if l.Length == 0 || l.Length > math.MaxInt64-l.Start {
			return math.MaxInt64
		}
		return l.Start + l.Length
	}
	n := Held{typ, start, length}
	var left []Held
	for _, l := range h.locks {
		if end(l) <= n.Start || end(n) <= l.Start {
			left = append(left, l)
			continue
		}
		if l.Start < n.Start {
			left = append(left, Held{l.Type, l.Start, n.Start - l.Start})
		}
		if end(n) < end(l) {
			rest := Held{l.Type, end(n), 0}
			if l.Length != 0 {
				rest.Length = end(l) - end(n)
			}
			left = append(left, rest)
		}
	}
	if typ != unix.F_UNLCK {
		left = append(left, n)
	}
	if h.locks = left; len(left) > maxHeld {
		h.locks, h.many = nil, true
	}
}
