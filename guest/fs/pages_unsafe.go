package fs

import (
	"math/bits"
	"sort"
	"unsafe"

	"noyau.dev/guest/host"
	"noyau.dev/guest/rt"
)

// Whole chunks lie outside the Go heap: the collector then neither waits until
// the heap has doubled nor keeps what a removed file held, and the pages go back
// to the host as soon as the file does.

// slabChunks is how many chunks are asked of the runtime at once: the bits of
// slab.used.
const slabChunks = 32

// A slab is a run of chunks.
type slab struct {
	base  uintptr
	used  uint32 // bit per chunk
	dirty uint32 // chunks that may hold something else than zeros
}

func (s *slab) chunk(i int) []byte {
	addr := s.base + uintptr(i)*chunkSize
	return unsafe.Slice((*byte)(*(*unsafe.Pointer)(unsafe.Pointer(&addr))), chunkSize)
}

// A pool gives out chunks. The tree's mutex guards it.
type pool struct {
	slabs []*slab // by address
	spare int     // chunks that are free
	first int     // no slab before this one has a free chunk
	warm  *slab   // the one slab without a used chunk that keeps its pages
}

// get returns a chunk of zeros, or nil if the runtime has no memory left.
func (p *pool) get() []byte {
	if p.spare == 0 {
		base := rt.Pages(slabChunks * chunkSize)
		if base == 0 {
			return nil
		}
		at := sort.Search(len(p.slabs), func(i int) bool { return p.slabs[i].base > base })
		p.slabs = append(p.slabs, nil)
		copy(p.slabs[at+1:], p.slabs[at:])
		p.slabs[at] = &slab{base: base}
		p.spare += slabChunks
		p.first = min(p.first, at)
	}
	for p.slabs[p.first].used == ^uint32(0) {
		p.first++
	}
	s := p.slabs[p.first]
	if s == p.warm {
		p.warm = nil
	}
	i := bits.TrailingZeros32(^s.used)
	s.used |= 1 << i
	p.spare--
	b := s.chunk(i)
	if s.dirty>>i&1 != 0 {
		clear(b)
	}
	s.dirty |= 1 << i
	return b
}

// put takes back what get returned.
func (p *pool) put(b []byte) {
	addr := uintptr(unsafe.Pointer(unsafe.SliceData(b)))
	at := sort.Search(len(p.slabs), func(i int) bool { return p.slabs[i].base > addr }) - 1
	s := p.slabs[at]
	s.used &^= 1 << ((addr - s.base) / chunkSize)
	p.spare++
	p.first = min(p.first, at)
	if s.used != 0 || s == p.warm {
		return
	}
	if p.warm == nil {
		p.warm = s // the next file may want it
		return
	}
	if host.Unmap(s.base, slabChunks*chunkSize) == 0 {
		s.dirty = 0
	}
}
