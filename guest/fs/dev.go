package fs

import (
	"noyau.dev/guest/kernel"
	"noyau.dev/guest/linux"
	"noyau.dev/guest/rt"
)

// A devKind is a character device of /dev.
type devKind uint8

const (
	devNull devKind = iota
	devZero
	devFull
	devRandom
)

// A devFile is an open device.
type devFile struct {
	kernel.Base
	anyFile
	kind devKind
}

func (f *devFile) Stat(st *linux.Stat) linux.Errno { return f.anyFile.Stat(st) }
func (f *devFile) Sync(bool) linux.Errno           { return linux.EINVAL }

func (f *devFile) Read(p []byte) (int, linux.Errno) {
	switch f.kind {
	case devNull:
		return 0, 0
	case devRandom:
		rt.Rand(p)
	default:
		clear(p)
	}
	return len(p), 0
}

func (f *devFile) Write(p []byte) (int, linux.Errno) {
	if f.kind == devFull && len(p) > 0 {
		return 0, linux.ENOSPC
	}
	return len(p), 0
}

func (f *devFile) Pread(p []byte, _ int64) (int, linux.Errno)  { return f.Read(p) }
func (f *devFile) Pwrite(p []byte, _ int64) (int, linux.Errno) { return f.Write(p) }
func (f *devFile) Lseek(int64, int) (int64, linux.Errno)       { return 0, 0 }

func (f *devFile) Release() {
	f.t.mu.Lock()
	f.p.ino.opens--
	f.t.unref(f.p.ino)
	f.t.mu.Unlock()
}

// openDynamic opens a device or a file of /proc, without the mutex.
func (t *Tree) openDynamic(p place, flags uint32) (kernel.File, linux.Errno) {
	switch d := p.ino.dyn; {
	case d.open != nil:
		f, e := d.open(flags)
		if df, ok := f.(*devFile); ok {
			df.anyFile = anyFile{Location{p}, t}
			t.mu.Lock()
			p.ino.opens++
			t.mu.Unlock()
		}
		return f, e
	case d.gen == nil, flags&linux.O_ACCMODE != linux.O_RDONLY:
		return nil, linux.EACCES
	default:
		return &genFile{anyFile: anyFile{Location{p}, t}, b: d.gen()}, 0
	}
}

// A genFile is an open file of /proc: what was true when it was opened.
type genFile struct {
	kernel.Base
	anyFile
	b   []byte
	pos int64
}

func (f *genFile) Stat(st *linux.Stat) linux.Errno { return f.anyFile.Stat(st) }

func (f *genFile) Pread(p []byte, off int64) (int, linux.Errno) {
	if off < 0 {
		return 0, linux.EINVAL
	}
	if off >= int64(len(f.b)) {
		return 0, 0
	}
	return copy(p, f.b[off:]), 0
}

func (f *genFile) Read(p []byte) (int, linux.Errno) {
	f.t.mu.Lock()
	defer f.t.mu.Unlock()
	n, e := f.Pread(p, f.pos)
	f.pos += int64(n)
	return n, e
}

func (f *genFile) Lseek(off int64, whence int) (int64, linux.Errno) {
	f.t.mu.Lock()
	defer f.t.mu.Unlock()
	return seekFrom(&f.pos, off, whence)
}

// system makes an entry that no user made: in /dev, /proc or at boot. Space is
// not a question then.
func (t *Tree) system(dir *inode, name string, mode uint32) *inode {
	t.lastIno++
	at := now()
	n := &inode{num: t.lastIno, mode: mode, nlink: 1, atime: at, mtime: at, ctime: at, proc: dir.proc}
	switch n.kind() {
	case linux.S_IFDIR:
		n.nlink = 2
		n.dir = new(dirData)
	case linux.S_IFREG:
		if !n.proc {
			n.data = new(content)
		}
	}
	if !n.proc {
		t.quota.used += inodeCost
		t.inodes++
	}
	t.add(dir, &dirent{name: name, ino: n})
	return n
}

//go:noinline
func (t *Tree) systemLink(dir *inode, name, target string) {
	t.system(dir, name, linux.S_IFLNK|0o777).link = target
}

// mountDev makes /dev.
func (t *Tree) mountDev() {
	dev := t.system(t.root, "dev", linux.S_IFDIR|0o755)
	for _, d := range [...]struct {
		name  string
		minor uint64
		kind  devKind
	}{
		{"null", 3, devNull}, {"zero", 5, devZero}, {"full", 7, devFull},
		{"random", 8, devRandom}, {"urandom", 9, devRandom},
	} {
		n := t.system(dev, d.name, linux.S_IFCHR|0o666)
		n.rdev = 1<<8 | d.minor
		kind := d.kind
		n.dyn = &dynamic{open: func(uint32) (kernel.File, linux.Errno) { return &devFile{kind: kind}, 0 }}
	}
	tty := t.system(dev, "tty", linux.S_IFCHR|0o666)
	tty.rdev = 5 << 8
	tty.dyn = &dynamic{open: openTTY}
	t.systemLink(dev, "fd", "/proc/self/fd")
	t.systemLink(dev, "stdin", "/proc/self/fd/0")
	t.systemLink(dev, "stdout", "/proc/self/fd/1")
	t.systemLink(dev, "stderr", "/proc/self/fd/2")
	t.system(dev, "shm", linux.S_IFDIR|0o1777)
	t.system(dev, "pts", linux.S_IFDIR|0o755)
}

// openTTY opens the terminal, if a standard descriptor is one.
func openTTY(flags uint32) (kernel.File, linux.Errno) {
	for fd := uintptr(0); fd < 3; fd++ {
		d, e := kernel.Get(fd)
		if e != 0 {
			continue
		}
		var tio linux.Termios
		if _, e := d.Ioctl(linux.TCGETS, addrOf(&tio)); e == 0 {
			return &reopened{File: d.File, d: d}, 0
		}
		d.Put()
	}
	return nil, linux.ENXIO
}

// A reopened file is one that was opened again through its descriptor, of a
// kind that has no place in the tree: it shares the description.
type reopened struct {
	kernel.File
	d *kernel.Desc
}

func (f *reopened) Release() { f.d.Put() }
