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

func (h handles) remove(n uint64) { h[n/64] &^= 1 << (n % 64) }
