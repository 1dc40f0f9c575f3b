package fs

import (
	"noyau.dev/guest/kernel"
	"noyau.dev/guest/linux"
)

// A dirFile is an open directory of the in-memory tree.
type dirFile struct {
	kernel.Base
	anyFile
	pos  int64
	list []string // a directory of /proc whose entries come and go, as it was at position 0
}

func (f *dirFile) Stat(st *linux.Stat) linux.Errno { return f.anyFile.Stat(st) }

func (f *dirFile) Read([]byte) (int, linux.Errno)          { return 0, linux.EISDIR }
func (f *dirFile) Pread([]byte, int64) (int, linux.Errno)  { return 0, linux.EISDIR }
func (f *dirFile) Write([]byte) (int, linux.Errno)         { return 0, linux.EBADF }
func (f *dirFile) Pwrite([]byte, int64) (int, linux.Errno) { return 0, linux.EBADF }

func (f *dirFile) Lseek(off int64, whence int) (int64, linux.Errno) {
	f.t.mu.Lock()
	defer f.t.mu.Unlock()
	return seekFrom(&f.pos, off, whence)
}

func (f *dirFile) Getdents(p []byte) (int, linux.Errno) {
	t := f.t
	t.mu.Lock()
	defer t.mu.Unlock()
	dir := f.p.ino
	if dir.dir.gone {
		return 0, linux.ENOENT
	}
	dir.populate()
	b, fits := p[:0:len(p)], true
	put := func(ino uint64, pos int64, typ byte, name string) bool {
		if b, fits = linux.AppendDirent(b, len(p), ino, pos, typ, name); fits {
			f.pos = pos
		}
		return fits
	}
	if f.pos == 0 && !put(dir.num, 1, linux.DT_DIR, ".") {
		return 0, linux.EINVAL
	}
	if f.pos == 1 {
		up := dir.dir.up
		if up == nil {
			up = dir
		}
		put(up.num, 2, linux.DT_DIR, "..")
	}
	if fits && f.pos >= 2 {
		if dir.dyn != nil && dir.dyn.list != nil {
			f.getDynamic(put)
		} else {
			for e := dir.dir.next(dir, f.pos); e != nil; e = dir.dir.next(dir, f.pos) {
				if !put(e.ino.num, e.seq, dtype(e.ino.mode), e.name) {
					break
				}
			}
		}
	}
	if len(b) == 0 && !fits {
		return 0, linux.EINVAL
	}
	dir.accessed()
	t.eventOn(dir, f.p.ent, inAccess)
	return len(b), 0
}

// getDynamic lists a directory whose entries are made on demand. Position 3 is
// behind the first.
func (f *dirFile) getDynamic(put func(uint64, int64, byte, string) bool) {
	dyn := f.p.ino.dyn
	if f.list == nil || f.pos == 2 {
		f.list = dyn.list()
	}
	for i := int(f.pos) - 2; i < len(f.list); i++ {
		n := dyn.lookup(f.list[i])
		if n == nil {
			continue
		}
		if !put(n.num, int64(i)+3, dtype(n.mode), f.list[i]) {
			return
		}
	}
}

func (f *dirFile) Release() {
	t := f.t
	t.mu.Lock()
	t.eventOn(f.p.ino, f.p.ent, inCloseNowrite)
	if l := f.p.ino.locks; l != nil {
		l.release(f)
	}
	f.p.ino.opens--
	t.unref(f.p.ino)
	t.mu.Unlock()
}

// A pathFile is a descriptor opened with O_PATH: a place, nothing more.
type pathFile struct {
	kernel.Base
	anyFile
}

func (f *pathFile) Read([]byte) (int, linux.Errno)            { return 0, linux.EBADF }
func (f *pathFile) Write([]byte) (int, linux.Errno)           { return 0, linux.EBADF }
func (f *pathFile) Pread([]byte, int64) (int, linux.Errno)    { return 0, linux.EBADF }
func (f *pathFile) Pwrite([]byte, int64) (int, linux.Errno)   { return 0, linux.EBADF }
func (f *pathFile) Lseek(int64, int) (int64, linux.Errno)     { return 0, linux.EBADF }
func (f *pathFile) Sync(bool) linux.Errno                     { return linux.EBADF }
func (f *pathFile) Truncate(int64) linux.Errno                { return linux.EBADF }
func (f *pathFile) Chmod(uint32) linux.Errno                  { return linux.EBADF }
func (f *pathFile) Chown(uint32, uint32) linux.Errno          { return linux.EBADF }
func (f *pathFile) SetTimes(_, _ linux.Timespec) linux.Errno  { return linux.EBADF }
func (f *pathFile) Getdents([]byte) (int, linux.Errno)        { return 0, linux.EBADF }
func (f *pathFile) Flock(int) linux.Errno                     { return linux.EBADF }
func (f *pathFile) Ioctl(_, _ uintptr) (uintptr, linux.Errno) { return 0, linux.EBADF }

func (f *pathFile) Stat(st *linux.Stat) linux.Errno {
	if f.p.mnt != nil {
		return f.p.mnt.fs.Stat(f.p.rel, !f.p.nofollow, st)
	}
	return f.anyFile.Stat(st)
}

func (f *pathFile) Statfs(st *linux.Statfs) linux.Errno {
	if f.p.mnt != nil {
		return f.p.mnt.fs.Statfs(st)
	}
	return f.anyFile.Statfs(st)
}

func (f *pathFile) Release() {
	if f.p.mnt != nil {
		f.Closed()
		return
	}
	f.t.mu.Lock()
	f.p.ino.opens--
	f.t.unref(f.p.ino)
	f.t.mu.Unlock()
}

// seekFrom is lseek for files without an end: from the start or from pos, which it
// moves.
func seekFrom(pos *int64, off int64, whence int) (int64, linux.Errno) {
	switch whence {
	case linux.SEEK_SET:
	case linux.SEEK_CUR:
		off += *pos
	default:
		return 0, linux.EINVAL
	}
	if off < 0 {
		return 0, linux.EINVAL
	}
	*pos = off
	return off, 0
}
