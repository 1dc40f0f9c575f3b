package volume

import (
	"sync"

	"noyau.dev/abi"
	"noyau.dev/guest/fs"
	"noyau.dev/guest/kernel"
	"noyau.dev/guest/linux"
)

// Record locks. At the host all are locks of open file descriptions. For OFD
// locks of the app that is just right. POSIX locks belong to the process: two
// descriptors of one file do not lock each other out, and closing any of them
// ends all. So the pVM holds its POSIX locks on a file through one description,
// the first that asked (or a second, if that one's access mode is wrong for the
// kind of lock).
var posix struct {
	mu      sync.Mutex
	holders map[key][]*file
}

func init() {
	// A child does not inherit POSIX locks. A restored pVM has those that it had.
	kernel.OnFork(func() {
		if kernel.Restored() {
			return
		}
		posix.mu.Lock()
		posix.holders = nil
		posix.mu.Unlock()
	})
}

// RecordLock is fcntl(2) with F_GETLK … F_OFD_SETLKW.
func (f *file) RecordLock(cmd int, l *linux.Flock) linux.Errno {
	f.mu.Lock()
	e := f.settle()
	pos := f.pos
	f.mu.Unlock()
	var size int64
	if e == 0 && l.Whence == linux.SEEK_END {
		size, e = f.size()
	}
	if e != 0 {
		return e
	}
	start, end, e := fs.Range(l, pos, size)
	if e != 0 {
		return e
	}
	if l.Type < linux.F_RDLCK || l.Type > linux.F_UNLCK {
		return linux.EINVAL
	}
	m := abi.Msg{Op: abi.OpLock, A: uint64(l.Type), B: uint64(start)}
	if end < maxSize {
		m.C = uint64(end - start + 1)
	}
	ofd := cmd >= linux.F_OFD_GETLK
	if ofd && l.PID != 0 {
		return linux.EINVAL
	}
	via := f
	switch cmd {
	case linux.F_GETLK, linux.F_OFD_GETLK:
		m.D = 2
		if !ofd {
			via = f.holder(l.Type, false)
		}
		r, e := via.ask(m)
		if e == 0 {
			l.Type = int16(r.A)
			if l.Type != linux.F_UNLCK {
				l.Whence, l.Start, l.Len, l.PID = linux.SEEK_SET, int64(r.B), int64(r.C), -1
			}
		}
		return e
	case linux.F_SETLKW, linux.F_OFD_SETLKW:
		m.D = 1
	}
	if ofd {
		_, e := f.ask(m)
		return e
	}
	if l.Type != linux.F_UNLCK {
		via = f.holder(l.Type, true)
	}
	for _, h := range f.others(via, l.Type) {
		u := m
		u.A, u.D = linux.F_UNLCK, 0
		if _, e := h.ask(u); e != 0 {
			return e
		}
	}
	if l.Type == linux.F_UNLCK {
		return 0
	}
	_, e = via.ask(m)
	return e
}

// fits reports whether f may hold a lock of that type.
func (f *file) fits(typ int16) bool {
	acc := f.flags.Load() & linux.O_ACCMODE
	return typ == linux.F_RDLCK && acc != linux.O_WRONLY || typ == linux.F_WRLCK && acc != linux.O_RDONLY
}

// holder returns the description that holds POSIX locks of that type on f's
// file; f becomes one if there is none and add is set.
func (f *file) holder(typ int16, add bool) *file {
	posix.mu.Lock()
	defer posix.mu.Unlock()
	for _, h := range posix.holders[*f.key] {
		if h.fits(typ) {
			return h
		}
	}
	if add {
		if posix.holders == nil {
			posix.holders = make(map[key][]*file)
		}
		posix.holders[*f.key] = append(posix.holders[*f.key], f)
	}
	return f
}

// others returns the holders that must give up a range before via locks it: all
// of them for an unlock.
func (f *file) others(via *file, typ int16) []*file {
	posix.mu.Lock()
	defer posix.mu.Unlock()
	var list []*file
	for _, h := range posix.holders[*f.key] {
		if h != via || typ == linux.F_UNLCK {
			list = append(list, h)
		}
	}
	return list
}

// PosixClose ends the process's record locks on the file.
func (f *file) PosixClose() {
	posix.mu.Lock()
	list := posix.holders[*f.key]
	delete(posix.holders, *f.key)
	posix.mu.Unlock()
	for _, h := range list {
		h.ask(abi.Msg{Op: abi.OpLock, A: linux.F_UNLCK})
	}
}
