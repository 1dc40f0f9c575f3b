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
	last := func(l Held) int64 {
		if l.Length == 0 || l.Length-1 > math.MaxInt64-l.Start {
			return math.MaxInt64
		}
		return l.Start + l.Length - 1
	}
	n := Held{typ, start, length}
	var left []Held
	for _, l := range h.locks {
		if last(l) < n.Start || last(n) < l.Start {
			left = append(left, l)
			continue
		}
		if l.Start < n.Start {
			left = append(left, Held{l.Type, l.Start, n.Start - l.Start})
		}
		if last(n) < last(l) {
			rest := Held{Type: l.Type, Start: last(n) + 1}
			if last(l) != math.MaxInt64 {
				rest.Length = last(l) - last(n)
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
