package fs

import (
	"noyau.dev/guest/kernel"
	"noyau.dev/guest/linux"
)

// The system calls. Each decodes its arguments, finds where a relative path
// begins, and calls the Tree.

// flag is an argument of 32 bits; the upper half of the register means nothing.
func flag(a uintptr) uint32 { return uint32(a) }

// atFDCWD reports whether a descriptor argument is AT_FDCWD.
func atFDCWD(fd uintptr) bool { return int32(fd) == linux.AT_FDCWD }

// base returns the place where path begins: the root, the working directory, or
// what is behind fd.
func (t *Tree) base(fd uintptr, path string) place {
	switch {
	case path != "" && path[0] == '/':
		return place{ino: t.root}
	case atFDCWD(fd):
		t.mu.Lock()
		p := t.cwd
		t.mu.Unlock()
		return p
	}
	d, e := kernel.Get(fd)
	if e != 0 {
		return place{bad: e}
	}
	defer d.Put()
	l, ok := d.File.(located)
	if !ok {
		return place{bad: linux.ENOTDIR}
	}
	t.mu.Lock()
	p := l.location().p
	t.mu.Unlock()
	return p
}

// at decodes a path argument and where it begins.
func at(fd, addr uintptr) (place, string, linux.Errno) {
	path, e := kernel.String(addr)
	if e != 0 {
		return place{}, "", e
	}
	if path == "" {
		return place{}, "", linux.ENOENT
	}
	return Root.base(fd, path), path, 0
}

// second is at for the second of two paths, the first of which is looked at
// before anything is said about this one.
func second(fd, addr uintptr) (place, string, linux.Errno) {
	path, e := kernel.String(addr)
	return Root.base(fd, path), path, e
}

// atEmpty is at for calls that take AT_EMPTY_PATH. A nil path counts as empty
// with it.
func atEmpty(fd, addr uintptr, flags uint32) (place, string, linux.Errno) {
	if flags&linux.AT_EMPTY_PATH == 0 {
		return at(fd, addr)
	}
	var path string
	if addr != 0 {
		var e linux.Errno
		if path, e = kernel.String(addr); e != 0 {
			return place{}, "", e
		}
	}
	return Root.base(fd, path), path, 0
}

// cwd is the descriptor argument of calls that have none.
const cwd = ^uintptr(99) // AT_FDCWD

// followUnless returns how to walk, given flags that may have
// AT_SYMLINK_NOFOLLOW.
func followUnless(flags uint32) how {
	if flags&linux.AT_SYMLINK_NOFOLLOW != 0 {
		return 0
	}
	return follow
}

// call makes a kernel.Call of something that returns only an error.
func call(f func(a kernel.Args) linux.Errno) kernel.Call {
	return func(a kernel.Args) (uintptr, linux.Errno) { return 0, f(a) }
}

func sysOpenat(fd, addr uintptr, flags, mode uint32, extra how) (uintptr, linux.Errno) {
	if !validOpen(flags) {
		return 0, linux.EINVAL
	}
	p, path, e := at(fd, addr)
	if e != 0 {
		return 0, e
	}
	f, e := Root.Open(p, path, flags, mode, extra)
	if e != 0 {
		return 0, e
	}
	n, e := kernel.Install(f, flags&^uint32(linux.O_CREAT|linux.O_EXCL|linux.O_TRUNC|linux.O_NOCTTY))
	if e != 0 {
		f.Release()
	}
	return n, e
}

// Bits of struct open_how's resolve.
const (
	resolveNoXdev       = 0x01
	resolveNoMagiclinks = 0x02
	resolveNoSymlinks   = 0x04
	resolveBeneath      = 0x08
	resolveInRoot       = 0x10
	resolveCached       = 0x20
)

func sysOpenat2(a kernel.Args) (uintptr, linux.Errno) {
	if a.A4 < 24 {
		return 0, linux.EINVAL
	}
	if a.A4 > 4096 {
		return 0, linux.E2BIG
	}
	hp, e := kernel.Ptr[[3]uint64](a.A3)
	if e != 0 {
		return 0, e
	}
	h := *hp
	extra, e := kernel.Bytes(a.A3+24, a.A4-24)
	if e != 0 {
		return 0, e
	}
	for _, c := range extra {
		if c != 0 {
			return 0, linux.E2BIG
		}
	}
	const all = linux.O_ACCMODE | linux.O_CREAT | linux.O_EXCL | linux.O_NOCTTY | linux.O_TRUNC | linux.O_APPEND | linux.O_NONBLOCK |
		linux.O_SYNC | linux.O_ASYNC | linux.O_DIRECT | linux.O_LARGEFILE | linux.O_TMPFILE | linux.O_NOFOLLOW | linux.O_NOATIME |
		linux.O_CLOEXEC | linux.O_PATH
	creates := h[0]&linux.O_CREAT != 0 || h[0]&tmpfileBit != 0
	switch {
	case h[0]&^all != 0, h[2]&^0x3f != 0, h[1]&^0o7777 != 0, !creates && h[1] != 0,
		h[2]&(resolveBeneath|resolveInRoot) == resolveBeneath|resolveInRoot,
		h[0]&linux.O_PATH != 0 && h[0]&^(linux.O_PATH|linux.O_DIRECTORY|linux.O_NOFOLLOW|linux.O_CLOEXEC) != 0:
		return 0, linux.EINVAL
	case h[2]&resolveCached != 0:
		return 0, linux.EAGAIN
	}
	var w how
	for _, r := range [...]struct {
		bit uint64
		w   how
	}{{resolveNoXdev, noCross}, {resolveNoMagiclinks, noMagic}, {resolveNoSymlinks, noLinks | noMagic}, {resolveBeneath, beneath}, {resolveInRoot, inRoot}} {
		if h[2]&r.bit != 0 {
			w |= r.w
		}
	}
	if w&(beneath|inRoot) == 0 {
		return sysOpenat(a.A1, a.A2, uint32(h[0]), uint32(h[1]), w)
	}
	if !validOpen(uint32(h[0])) {
		return 0, linux.EINVAL
	}
	path, e := kernel.String(a.A2)
	if e != 0 {
		return 0, e
	}
	p := Root.base(a.A1, "") // an absolute path too is resolved from there, or refused
	f, e := Root.Open(p, path, uint32(h[0]), uint32(h[1]), w)
	if e != 0 {
		return 0, e
	}
	n, e := kernel.Install(f, uint32(h[0])&^uint32(linux.O_CREAT|linux.O_EXCL|linux.O_TRUNC|linux.O_NOCTTY))
	if e != 0 {
		f.Release()
	}
	return n, e
}

func sysMemfd(a kernel.Args) (uintptr, linux.Errno) {
	name, e := kernel.String(a.A1)
	if e != 0 {
		return 0, e
	}
	flags := flag(a.A2)
	const noexec, exec = 8, 16
	if flags&^uint32(linux.MFD_CLOEXEC|linux.MFD_ALLOW_SEALING|noexec|exec) != 0 || len(name) > linux.NAME_MAX-6 {
		return 0, linux.EINVAL
	}
	f, e := Root.Memfd(name, flags&(linux.MFD_ALLOW_SEALING|noexec) != 0)
	if e != 0 {
		return 0, e
	}
	open := uint32(linux.O_RDWR)
	if flags&linux.MFD_CLOEXEC != 0 {
		open |= linux.O_CLOEXEC
	}
	n, e := kernel.Install(f, open)
	if e != 0 {
		f.Release()
	}
	return n, e
}

func sysInotifyInit(flags uint32) (uintptr, linux.Errno) {
	if flags&^uint32(linux.O_NONBLOCK|linux.O_CLOEXEC) != 0 {
		return 0, linux.EINVAL
	}
	f := Root.NewInotify()
	n, e := kernel.Install(f, flags|linux.O_RDONLY)
	if e != 0 {
		f.Release()
	}
	return n, e
}

// withInotify runs f with the inotify instance behind fd.
func withInotify(fd uintptr, f func(in *inotify) (uintptr, linux.Errno)) (uintptr, linux.Errno) {
	d, e := kernel.Get(fd)
	if e != 0 {
		return 0, e
	}
	defer d.Put()
	in, ok := d.File.(*inotify)
	if !ok {
		return 0, linux.EINVAL
	}
	return f(in)
}

func sysAddWatch(a kernel.Args) (uintptr, linux.Errno) {
	return withInotify(a.A1, func(in *inotify) (uintptr, linux.Errno) {
		p, path, e := at(cwd, a.A2)
		if e != 0 {
			return 0, e
		}
		wd, e := Root.AddWatch(in, p, path, flag(a.A3))
		return uintptr(wd), e
	})
}

func sysRmWatch(a kernel.Args) (uintptr, linux.Errno) {
	return withInotify(a.A1, func(in *inotify) (uintptr, linux.Errno) {
		return 0, Root.RemoveWatch(in, int32(a.A2))
	})
}
