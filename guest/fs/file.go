package fs

import (
	"sync/atomic"

	"noyau.dev/guest/kernel"
	"noyau.dev/guest/linux"
)

// A memFile is an open regular file of the in-memory tree.
type memFile struct {
	kernel.Base
	anyFile
	n     *inode
	pos   int64
	flags atomic.Uint32
}

// newMemFile makes the description of an inode that stays alive until Release.
func (t *Tree) newMemFile(p place, flags uint32) *memFile {
	f := &memFile{n: p.ino, anyFile: anyFile{Location{p}, t}}
	f.flags.Store(flags)
	p.ino.opens++
	t.eventOn(p.ino, p.ent, inOpen)
	return f
}

func (f *memFile) Read(p []byte) (int, linux.Errno) {
	t := f.t
	t.mu.Lock()
	n, e := f.read(p, f.pos)
	f.pos += int64(n)
	t.mu.Unlock()
	return n, e
}

func (f *memFile) Pread(p []byte, off int64) (int, linux.Errno) {
	if off < 0 {
		return 0, linux.EINVAL
	}
	t := f.t
	t.mu.Lock()
	n, e := f.read(p, off)
	t.mu.Unlock()
	return n, e
}

func (f *memFile) read(p []byte, off int64) (int, linux.Errno) {
	n := f.n
	var got int
	if n.host != nil {
		var e linux.Errno
		if got, e = n.host.readAt(p, off); e != 0 {
			return 0, e
		}
	} else {
		got = n.data.readAt(p, off)
	}
	if f.flags.Load()&linux.O_NOATIME == 0 {
		n.accessed()
	}
	if f.t.watched > 0 && got > 0 {
		f.t.eventOn(n, f.p.ent, inAccess)
	}
	return got, 0
}

func (f *memFile) Write(p []byte) (int, linux.Errno) {
	t := f.t
	t.mu.Lock()
	off := f.pos
	if f.flags.Load()&linux.O_APPEND != 0 {
		off = f.n.size()
	}
	n, e := f.write(p, off)
	if n > 0 {
		f.pos = off + int64(n)
	}
	t.mu.Unlock()
	if n > 0 {
		kernel.FileWritten(f.n, off, int64(n))
	}
	return n, e
}

func (f *memFile) Pwrite(p []byte, off int64) (int, linux.Errno) {
	if off < 0 {
		return 0, linux.EINVAL
	}
	t := f.t
	t.mu.Lock()
	if f.flags.Load()&linux.O_APPEND != 0 {
		off = f.n.size()
	}
	n, e := f.write(p, off)
	t.mu.Unlock()
	if n > 0 {
		kernel.FileWritten(f.n, off, int64(n))
	}
	return n, e
}

func (f *memFile) write(p []byte, off int64) (int, linux.Errno) {
	if len(p) == 0 {
		return 0, 0
	}
	n := f.n
	if off >= maxSize {
		return 0, linux.EFBIG
	}
	if int64(len(p)) > maxSize-off {
		p = p[:maxSize-off]
	}
	if e := f.t.own(n); e != 0 {
		return 0, e
	}
	if n.seals != 0 {
		if n.seals&linux.F_SEAL_WRITE != 0 {
			return 0, linux.EPERM
		}
		if n.seals&linux.F_SEAL_GROW != 0 && off+int64(len(p)) > n.data.size {
			return 0, linux.EPERM
		}
	}
	k, e := n.data.writeAt(p, off, &f.t.quota)
	if k > 0 {
		n.modified()
		f.t.dropSuid(n)
		if f.t.watched > 0 {
			f.t.eventOn(n, f.p.ent, inModify)
		}
	}
	return k, e
}

// dropSuid takes set-id bits away from what somebody but the superuser changed.
func (t *Tree) dropSuid(n *inode) {
	if t.cred.uid != 0 && n.mode&(linux.S_ISUID|linux.S_ISGID) != 0 {
		n.mode &^= linux.S_ISUID
		if n.mode&0o010 != 0 {
			n.mode &^= linux.S_ISGID
		}
	}
}

func (f *memFile) Lseek(off int64, whence int) (int64, linux.Errno) {
	f.t.mu.Lock()
	defer f.t.mu.Unlock()
	var base int64
	switch whence {
	case linux.SEEK_SET:
	case linux.SEEK_CUR:
		base = f.pos
	case linux.SEEK_END:
		base = f.n.size()
	case linux.SEEK_DATA, linux.SEEK_HOLE:
		if f.n.data == nil {
			c := content{size: f.n.size()} // data all through: the only hole is at the end
			at, e := c.seek(off, true)
			if whence == linux.SEEK_HOLE {
				at = c.size
			}
			if e == 0 {
				f.pos = at
			}
			return at, e
		}
		at, e := f.n.data.seek(off, whence == linux.SEEK_HOLE)
		if e == 0 {
			f.pos = at
		}
		return at, e
	default:
		return 0, linux.EINVAL
	}
	if off > 0 && base > maxSize-off {
		return 0, linux.EOVERFLOW
	}
	if base+off < 0 {
		return 0, linux.EINVAL
	}
	f.pos = base + off
	return f.pos, 0
}

func (f *memFile) SetFlags(flags uint32) { f.flags.Store(flags) }

func (f *memFile) Truncate(size int64) linux.Errno {
	if f.flags.Load()&linux.O_ACCMODE == linux.O_RDONLY {
		return linux.EINVAL
	}
	f.t.mu.Lock()
	e := f.t.truncate(f.n, f.p.ent, size)
	f.t.mu.Unlock()
	if e == 0 {
		kernel.FileWritten(f.n, size, -1)
	}
	return e
}

// truncate sets the size of a regular file.
func (t *Tree) truncate(n *inode, ent *dirent, size int64) linux.Errno {
	if size < 0 {
		return linux.EINVAL
	}
	if e := t.own(n); e != 0 {
		return e
	}
	if size < n.data.size && n.seals&linux.F_SEAL_SHRINK != 0 || size > n.data.size && n.seals&linux.F_SEAL_GROW != 0 {
		return linux.EPERM
	}
	n.data.truncate(size, &t.quota)
	n.modified()
	t.dropSuid(n)
	t.eventOn(n, ent, inModify)
	return 0
}

func (f *memFile) Allocate(mode uint32, off, n int64) linux.Errno {
	if off < 0 || n <= 0 {
		return linux.EINVAL
	}
	if off > maxSize-n {
		return linux.EFBIG
	}
	t, keep := f.t, mode&linux.FALLOC_FL_KEEP_SIZE != 0
	t.mu.Lock()
	e := t.own(f.n)
	if e == 0 {
		e = f.allocate(mode&^linux.FALLOC_FL_KEEP_SIZE, keep, off, n)
	}
	t.mu.Unlock()
	if e == 0 && mode&^linux.FALLOC_FL_KEEP_SIZE != 0 {
		kernel.FileWritten(f.n, off, n)
	}
	return e
}

func (f *memFile) allocate(mode uint32, keep bool, off, n int64) linux.Errno {
	c, q := f.n.data, &f.t.quota
	if !keep && off+n > c.size && f.n.seals&linux.F_SEAL_GROW != 0 {
		return linux.EPERM
	}
	switch mode {
	case 0:
		if e := c.reserve(off, n, q); e != 0 {
			return e
		}
	case linux.FALLOC_FL_PUNCH_HOLE:
		if !keep {
			return linux.EOPNOTSUPP
		}
		if f.n.seals&linux.F_SEAL_WRITE != 0 {
			return linux.EPERM
		}
		c.punch(off, n, q)
	default:
		return linux.EOPNOTSUPP
	}
	if !keep && off+n > c.size {
		c.size = off + n
	}
	f.n.modified()
	return 0
}

// Stat is in both embedded types, so it is said which is meant.
func (f *memFile) Stat(st *linux.Stat) linux.Errno { return f.anyFile.Stat(st) }

func (f *memFile) MapHandle() (int32, bool) { return -1, false }
func (f *memFile) MapKey() any              { return f.n }

func (f *memFile) Release() {
	t, n := f.t, f.n
	t.mu.Lock()
	mask := uint32(inCloseNowrite)
	if f.flags.Load()&linux.O_ACCMODE != linux.O_RDONLY {
		mask = inCloseWrite
	}
	t.eventOn(n, f.p.ent, mask)
	if n.locks != nil {
		n.locks.release(f)
	}
	n.opens--
	t.unref(n)
	t.mu.Unlock()
}
