package kernel

import (
	"math/bits"
	"sync"
	"sync/atomic"

	"noyau.dev/guest/linux"
)

// table is the pVM's table of descriptors. Look-ups take no lock: a slot is an
// atomic pointer, and a description whose references are gone refuses Hold.
var table struct {
	slots   atomic.Pointer[[]atomic.Pointer[Desc]]
	mu      sync.Mutex
	used    []uint64 // bit per slot
	cloexec []uint64
	free    int // no slot below is free
	open    int
	limit   int // RLIMIT_NOFILE, soft
}

const defaultNofile = 1 << 20

func init() {
	table.limit = defaultNofile
	s := make([]atomic.Pointer[Desc], 64)
	table.slots.Store(&s)
	table.used, table.cloexec = make([]uint64, 1), make([]uint64, 1)
}

// Get returns the description of fd with a reference, to be dropped with Put.
func Get(fd uintptr) (*Desc, linux.Errno) {
	s := *table.slots.Load()
	i := uint32(fd)
	if uint(i) >= uint(len(s)) {
		return nil, linux.EBADF
	}
	if d := s[i].Load(); d != nil && d.Hold() {
		return d, 0
	}
	return nil, linux.EBADF
}

// grow makes room for slot i. mu is held.
func grow(i int) {
	old := *table.slots.Load()
	n := len(old)
	for n <= i {
		n *= 2
	}
	if n == len(old) {
		return
	}
	s := make([]atomic.Pointer[Desc], n)
	for j := range old {
		s[j].Store(old[j].Load())
	}
	table.slots.Store(&s)
	table.used = append(table.used, make([]uint64, (n-len(old))/64)...)
	table.cloexec = append(table.cloexec, make([]uint64, (n-len(old))/64)...)
}

// lowest returns the lowest free slot that is at least min, -1 if there is none
// below the limit. mu is held.
func lowest(min int) int {
	if min < table.free {
		min = table.free
	}
	w := min / 64
	skip := uint64(1)<<(min%64) - 1
	for ; w < len(table.used); w++ {
		if free := ^(table.used[w] | skip); free != 0 {
			min = w*64 + bits.TrailingZeros64(free)
			break
		}
		skip = 0
	}
	if w == len(table.used) && min < w*64 {
		min = w * 64
	}
	if min >= table.limit {
		return -1
	}
	return min
}

// set puts d into slot i, which grow has made room for. mu is held.
func set(i int, d *Desc, cloexec bool) (old *Desc) {
	old = (*table.slots.Load())[i].Swap(d)
	bit := uint64(1) << (i % 64)
	table.cloexec[i/64] &^= bit
	if cloexec && d != nil {
		table.cloexec[i/64] |= bit
	}
	if d != nil {
		table.used[i/64] |= bit
		if old == nil {
			table.open++
		}
		if i == table.free {
			table.free++
		}
	} else if old != nil {
		table.used[i/64] &^= bit
		table.open--
		if i < table.free {
			table.free = i
		}
	}
	return old
}

// Install gives f the lowest free descriptor. flags are those of open: the
// access mode, O_NONBLOCK, O_APPEND and so on stay with the description,
// O_CLOEXEC with the descriptor. EMFILE if the table is full: f is then not
// released.
func Install(f File, flags uint32) (uintptr, linux.Errno) {
	return InstallDesc(NewDesc(f, flags), flags&linux.O_CLOEXEC != 0, 0)
}

// InstallDesc gives d the lowest free descriptor from min on. The caller's
// reference becomes the table's, unless there is an error.
func InstallDesc(d *Desc, cloexec bool, min int) (uintptr, linux.Errno) {
	table.mu.Lock()
	defer table.mu.Unlock()
	i := lowest(min)
	if i < 0 {
		return 0, linux.EMFILE
	}
	grow(i)
	set(i, d, cloexec)
	return uintptr(i), 0
}

// InstallAt puts f at exactly fd, closing what was there. It is for the
// standard descriptors.
func InstallAt(fd int, f File, flags uint32) {
	d := NewDesc(f, flags)
	table.mu.Lock()
	grow(fd)
	old := set(fd, d, flags&linux.O_CLOEXEC != 0)
	table.mu.Unlock()
	drop(old)
}

// drop ends a descriptor's reference.
func drop(d *Desc) {
	if d == nil {
		return
	}
	if l, ok := d.File.(RecordLocker); ok {
		l.PosixClose()
	}
	d.Put()
}

// Close closes fd. Calls under way on it go on, and the last of them releases
// the file.
func Close(fd uintptr) linux.Errno {
	i := int(uint32(fd))
	table.mu.Lock()
	var d *Desc
	if i < len(*table.slots.Load()) {
		d = set(i, nil, false)
	}
	table.mu.Unlock()
	if d == nil {
		return linux.EBADF
	}
	drop(d)
	return 0
}

// Dup is fcntl F_DUPFD: a new descriptor, min or above, for the same
// description.
func Dup(fd uintptr, min int, cloexec bool) (uintptr, linux.Errno) {
	d, e := Get(fd)
	if e != 0 {
		return 0, e
	}
	n, e := InstallDesc(d, cloexec, min)
	if e != 0 {
		d.Put()
	}
	return n, e
}

// Dup2 makes newfd refer to what fd does, closing what newfd was.
func Dup2(fd, newfd uintptr, cloexec bool) linux.Errno {
	d, e := Get(fd)
	if e != 0 {
		return e
	}
	i := int(uint32(newfd))
	table.mu.Lock()
	if i >= table.limit {
		table.mu.Unlock()
		d.Put()
		return linux.EBADF
	}
	grow(i)
	old := set(i, d, cloexec)
	table.mu.Unlock()
	drop(old)
	return 0
}

// Cloexec and SetCloexec are fcntl F_GETFD and F_SETFD.
func Cloexec(fd uintptr) (bool, linux.Errno) {
	i := int(uint32(fd))
	table.mu.Lock()
	defer table.mu.Unlock()
	if i >= len(table.used)*64 || table.used[i/64]>>(i%64)&1 == 0 {
		return false, linux.EBADF
	}
	return table.cloexec[i/64]>>(i%64)&1 != 0, 0
}

func SetCloexec(fd uintptr, on bool) linux.Errno {
	if _, e := Cloexec(fd); e != 0 {
		return e
	}
	i := int(uint32(fd))
	table.mu.Lock()
	table.cloexec[i/64] &^= 1 << (i % 64)
	if on {
		table.cloexec[i/64] |= 1 << (i % 64)
	}
	table.mu.Unlock()
	return 0
}

// SetNofile changes RLIMIT_NOFILE; open descriptors above it stay.
func SetNofile(n uint64) {
	table.mu.Lock()
	table.limit = int(min(n, defaultNofile))
	table.mu.Unlock()
}

// Open returns the descriptors that are open at this moment, in order:
// /proc/self/fd.
func Open() []int {
	table.mu.Lock()
	defer table.mu.Unlock()
	fds := make([]int, 0, table.open)
	for w, u := range table.used {
		for ; u != 0; u &= u - 1 {
			fds = append(fds, w*64+bits.TrailingZeros64(u))
		}
	}
	return fds
}
