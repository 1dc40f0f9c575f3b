package volume

import (
	"sync"
	"sync/atomic"

	"noyau.dev/abi"
	"noyau.dev/guest/host"
	"noyau.dev/guest/kernel"
	"noyau.dev/guest/linux"
)

// A key names a host file within this pVM: descriptions of the same file have
// equal ones.
type key struct{ dev, ino uint64 }

// A file is an open regular file.
type file struct {
	kernel.Base
	*node
	key        *key
	boxed      any // *key's value, made once: FileWritten is called for each write
	flags      atomic.Uint32
	hostAppend bool // the host's description appends, whatever the offset

	mu    sync.Mutex // guards pos and atEnd, and makes Read and Write whole
	pos   int64
	atEnd bool // an append has moved the position to the end, wherever that is
}

const maxSize = 1<<63 - 1

func (f *file) Stat(st *linux.Stat) linux.Errno { return f.node.Stat(st) }

// size asks the monitor.
func (f *file) size() (int64, linux.Errno) {
	var st linux.Stat
	e := f.node.Stat(&st)
	return st.Size, e
}

// settle finds out the position. mu is held.
func (f *file) settle() linux.Errno {
	if !f.atEnd {
		return 0
	}
	n, e := f.size()
	if e == 0 {
		f.pos, f.atEnd = n, false
	}
	return e
}

func (f *file) Read(p []byte) (int, linux.Errno) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if e := f.settle(); e != 0 {
		return 0, e
	}
	n, e := f.Pread(p, f.pos)
	f.pos += int64(n)
	return n, e
}

func (f *file) Pread(p []byte, off int64) (int, linux.Errno) {
	if off < 0 {
		return 0, linux.EINVAL
	}
	for {
		gate.RLock()
		n, e := host.Pread(f.fd, p, off)
		gate.RUnlock()
		if e != linux.EINTR {
			return n, e
		}
	}
}

func (f *file) Write(p []byte) (int, linux.Errno) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.flags.Load()&linux.O_APPEND != 0 {
		n, e := f.append(p)
		if n > 0 {
			f.atEnd = true
		}
		return n, e
	}
	if e := f.settle(); e != 0 {
		return 0, e
	}
	n, e := f.pwrite(p, f.pos)
	f.pos += int64(n)
	return n, e
}

func (f *file) Pwrite(p []byte, off int64) (int, linux.Errno) {
	if off < 0 {
		return 0, linux.EINVAL
	}
	if f.flags.Load()&linux.O_APPEND != 0 {
		return f.append(p) // as Linux does it, and POSIX does not
	}
	return f.pwrite(p, off)
}

// append writes at the end. If the host's description was opened with O_APPEND
// that is atomic; if the flag came later by fcntl it is not.
func (f *file) append(p []byte) (int, linux.Errno) {
	off := int64(0)
	if !f.hostAppend {
		n, e := f.size()
		if e != 0 {
			return 0, e
		}
		off = n
	}
	n, e := f.write(p, off)
	if n > 0 {
		kernel.FileWritten(f.boxed, 0, -1)
	}
	return n, e
}

func (f *file) pwrite(p []byte, off int64) (int, linux.Errno) {
	if f.hostAppend {
		// O_APPEND was taken away by fcntl, which the host does not know.
		return 0, linux.EOPNOTSUPP
	}
	n, e := f.write(p, off)
	if n > 0 {
		kernel.FileWritten(f.boxed, off, int64(n))
	}
	return n, e
}

func (f *file) write(p []byte, off int64) (int, linux.Errno) {
	changes.Add(1)
	for {
		gate.RLock()
		n, e := host.Pwrite(f.fd, p, off)
		gate.RUnlock()
		if e != linux.EINTR {
			changes.Add(1)
			return n, e
		}
	}
}

func (f *file) Lseek(off int64, whence int) (int64, linux.Errno) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var base int64
	switch whence {
	case linux.SEEK_SET:
	case linux.SEEK_CUR:
		if e := f.settle(); e != 0 {
			return 0, e
		}
		base = f.pos
	case linux.SEEK_END, linux.SEEK_DATA, linux.SEEK_HOLE:
		n, e := f.size()
		if e != 0 {
			return 0, e
		}
		if whence == linux.SEEK_END {
			base = n
			break
		}
		// Holes are not told of: all is data, and the end is a hole.
		if off < 0 || off >= n {
			return 0, linux.ENXIO
		}
		if whence == linux.SEEK_HOLE {
			off = n
		}
	default:
		return 0, linux.EINVAL
	}
	if off > 0 && base > maxSize-off {
		return 0, linux.EOVERFLOW
	}
	if base+off < 0 {
		return 0, linux.EINVAL
	}
	f.pos, f.atEnd = base+off, false
	return f.pos, 0
}

func (f *file) Truncate(size int64) linux.Errno {
	changes.Add(1)
	_, e := f.ask(abi.Msg{Op: abi.OpTruncate, A: uint64(size)})
	if e == 0 {
		kernel.FileWritten(f.boxed, size, -1)
	}
	return e
}

func (f *file) Allocate(mode uint32, off, n int64) linux.Errno {
	changes.Add(1)
	_, e := f.ask(abi.Msg{Op: abi.OpFalloc, A: uint64(mode), B: uint64(off), C: uint64(n)})
	if e == 0 && mode&^linux.FALLOC_FL_KEEP_SIZE != 0 {
		kernel.FileWritten(f.boxed, off, n)
	}
	return e
}

func (f *file) SetFlags(flags uint32) { f.flags.Store(flags) }

func (f *file) MapHandle() (int32, bool) {
	gate.RLock()
	defer gate.RUnlock()
	return f.fd, f.fd >= 0
}

func (f *file) MapKey() any { return f.boxed }

func (f *file) Release() { f.drop() }
