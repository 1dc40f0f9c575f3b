//go:build noyau

package rt

import (
	"math/bits"
	"sync"
)

// Pages come from the runtime's region in blocks of a power of two, and a block
// that was freed is used again for the next of its size. What is freed goes back
// to the host at once; only addresses are kept here. So a pVM that makes and
// removes files for ever uses no more addresses than it did at its peak.
var pool struct {
	mu   sync.Mutex
	free [64][]uintptr      // by the logarithm of the size
	live map[uintptr]*block // by address
}

type block struct {
	size  uintptr // what was asked for
	freed uintptr // how much of it has been given back
	class int
}

// Pages returns n bytes of zeroed memory at a page boundary, 0 if there is no more.
func Pages(n uintptr) uintptr {
	n = (n + 4095) &^ 4095
	if n == 0 {
		return 0
	}
	class := bits.Len64(uint64(n - 1))
	pool.mu.Lock()
	defer pool.mu.Unlock()
	var p uintptr
	if l := pool.free[class]; len(l) > 0 {
		p = l[len(l)-1]
		pool.free[class] = l[:len(l)-1]
	} else if p = pages(1 << class); p == 0 {
		return 0
	}
	if pool.live == nil {
		pool.live = make(map[uintptr]*block)
	}
	pool.live[p] = &block{size: n, class: class}
	return p
}

// FreePages gives back [p, p+n), all or a part of what one call of Pages returned.
func FreePages(p, n uintptr) {
	n = (n + 4095) &^ 4095
	release(p, n)
	pool.mu.Lock()
	defer pool.mu.Unlock()
	start, b := p, pool.live[p]
	if b == nil {
		// The middle or the end of a block: rare, so a search will do.
		for q, c := range pool.live {
			if p > q && p < q+c.size {
				start, b = q, c
				break
			}
		}
	}
	if b == nil {
		return
	}
	if b.freed += n; b.freed >= b.size {
		delete(pool.live, start)
		pool.free[b.class] = append(pool.free[b.class], start)
	}
}
