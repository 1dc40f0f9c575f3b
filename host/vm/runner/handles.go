package runner

// maxHandles bounds the number of a handle. The limit of descriptors of the
// process is what usually ends the supply.
const maxHandles = 1 << 20

// handles is the set of descriptors that the guest may name: those that it was
// given at start, has accepted, or was sent by the monitor. All others of this
// process, the VM's own among them, do not exist for it.
type handles []uint64

func newHandles(n int) handles {
	h := make(handles, maxHandles/64)
	for i := range uint64(n) {
		h.add(i)
	}
	return h
}

func (h handles) has(n uint64) bool { return n < maxHandles && h[n/64]>>(n%64)&1 != 0 }

func (h handles) add(n uint64) bool {
	if n >= maxHandles {
		return false
	}
	h[n/64] |= 1 << (n % 64)
	return true
}

// each calls f for those below top.
func (h handles) each(top uint64, f func(n uint64)) {
	for w, bits := range h[:(min(top, maxHandles)+63)/64] {
		for n := uint64(w) * 64; bits != 0; n, bits = n+1, bits>>1 {
			if bits&1 != 0 {
				f(n)
			}
		}
	}
}

// clear removes those below top. It writes only where there are any.
func (h handles) clear(top uint64) {
	for w := range h[:(min(top, maxHandles)+63)/64] {
		if h[w] != 0 {
			h[w] = 0
		}
	}
}

func (h handles) remove(n uint64) { h[n/64] &^= 1 << (n % 64) }
