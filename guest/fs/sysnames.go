package fs

import (
	"noyau.dev/guest/kernel"
	"noyau.dev/guest/linux"
)

// Calls that make, remove and read names.

func sysMkdirat(fd, path uintptr, mode uint32) linux.Errno {
	p, s, e := at(fd, path)
	if e != 0 {
		return e
	}
	return Root.Mkdir(p, s, mode)
}

func sysMknodat(fd, path uintptr, mode uint32, dev uintptr) linux.Errno {
	if e := validMknod(mode); e != 0 {
		return e
	}
	p, s, e := at(fd, path)
	if e != 0 {
		return e
	}
	return Root.Mknod(p, s, mode, uint64(dev))
}

func sysUnlinkat(fd, path uintptr, flags uint32) linux.Errno {
	if flags&^uint32(linux.AT_REMOVEDIR) != 0 {
		return linux.EINVAL
	}
	p, s, e := at(fd, path)
	if e != 0 {
		return e
	}
	if flags != 0 {
		return Root.Rmdir(p, s)
	}
	return Root.Unlink(p, s)
}

func sysSymlinkat(target, fd, path uintptr) linux.Errno {
	to, e := kernel.String(target)
	if e != 0 {
		return e
	}
	p, s, e := at(fd, path)
	if e != 0 {
		return e
	}
	return Root.Symlink(to, p, s)
}

func sysLinkat(fd, from, tfd, to uintptr, flags uint32) linux.Errno {
	if flags&^uint32(linux.AT_SYMLINK_FOLLOW|linux.AT_EMPTY_PATH) != 0 {
		return linux.EINVAL
	}
	p, s, e := atEmpty(fd, from, flags)
	if e != 0 {
		return e
	}
	q, u, e := second(tfd, to)
	if e != 0 {
		return e
	}
	return Root.Link(p, s, q, u, flags&linux.AT_SYMLINK_FOLLOW != 0)
}

func sysRenameat2(fd, from, tfd, to uintptr, flags uint32) linux.Errno {
	if !validRename(flags) {
		return linux.EINVAL
	}
	p, s, e := at(fd, from)
	if e != 0 {
		return e
	}
	q, u, e := second(tfd, to)
	if e != 0 {
		return e
	}
	return Root.Rename(p, s, q, u, flags)
}

func sysReadlinkat(fd, path, buf, n uintptr) (uintptr, linux.Errno) {
	if int32(n) <= 0 {
		return 0, linux.EINVAL
	}
	s, e := kernel.String(path)
	if e != 0 {
		return 0, e
	}
	if s == "" && atFDCWD(fd) {
		return 0, linux.ENOENT
	}
	link, e := Root.Readlink(Root.base(fd, s), s)
	if e != 0 {
		return 0, e
	}
	b, e := kernel.Bytes(buf, uintptr(min(int(n), len(link))))
	if e != 0 {
		return 0, e
	}
	return uintptr(copy(b, link)), 0
}

func sysGetcwd(a kernel.Args) (uintptr, linux.Errno) {
	s, e := Root.Getcwd()
	if e != 0 {
		return 0, e
	}
	if uintptr(len(s)) >= a.A2 {
		return 0, linux.ERANGE
	}
	b, e := kernel.Bytes(a.A1, uintptr(len(s)+1))
	if e != 0 {
		return 0, e
	}
	b[copy(b, s)] = 0
	return uintptr(len(b)), 0
}

func sysFchdir(a kernel.Args) linux.Errno {
	if atFDCWD(a.A1) {
		return linux.EBADF
	}
	return Root.Chdir(Root.base(a.A1, ""), "")
}

func init() {
	reg := func(nr int, f func(a kernel.Args) linux.Errno) { kernel.Register(nr, call(f)) }
	reg(linux.SYS_MKDIR, func(a kernel.Args) linux.Errno { return sysMkdirat(cwd, a.A1, flag(a.A2)) })
	reg(linux.SYS_MKDIRAT, func(a kernel.Args) linux.Errno { return sysMkdirat(a.A1, a.A2, flag(a.A3)) })
	reg(linux.SYS_MKNOD, func(a kernel.Args) linux.Errno { return sysMknodat(cwd, a.A1, flag(a.A2), a.A3) })
	reg(linux.SYS_MKNODAT, func(a kernel.Args) linux.Errno { return sysMknodat(a.A1, a.A2, flag(a.A3), a.A4) })
	reg(linux.SYS_UNLINK, func(a kernel.Args) linux.Errno { return sysUnlinkat(cwd, a.A1, 0) })
	reg(linux.SYS_RMDIR, func(a kernel.Args) linux.Errno { return sysUnlinkat(cwd, a.A1, linux.AT_REMOVEDIR) })
	reg(linux.SYS_UNLINKAT, func(a kernel.Args) linux.Errno { return sysUnlinkat(a.A1, a.A2, flag(a.A3)) })
	reg(linux.SYS_SYMLINK, func(a kernel.Args) linux.Errno { return sysSymlinkat(a.A1, cwd, a.A2) })
	reg(linux.SYS_SYMLINKAT, func(a kernel.Args) linux.Errno { return sysSymlinkat(a.A1, a.A2, a.A3) })
	reg(linux.SYS_LINK, func(a kernel.Args) linux.Errno { return sysLinkat(cwd, a.A1, cwd, a.A2, 0) })
	reg(linux.SYS_LINKAT, func(a kernel.Args) linux.Errno { return sysLinkat(a.A1, a.A2, a.A3, a.A4, flag(a.A5)) })
	reg(linux.SYS_RENAME, func(a kernel.Args) linux.Errno { return sysRenameat2(cwd, a.A1, cwd, a.A2, 0) })
	reg(linux.SYS_RENAMEAT, func(a kernel.Args) linux.Errno { return sysRenameat2(a.A1, a.A2, a.A3, a.A4, 0) })
	reg(linux.SYS_RENAMEAT2, func(a kernel.Args) linux.Errno { return sysRenameat2(a.A1, a.A2, a.A3, a.A4, flag(a.A5)) })
	kernel.Register(linux.SYS_READLINK, func(a kernel.Args) (uintptr, linux.Errno) { return sysReadlinkat(cwd, a.A1, a.A2, a.A3) })
	kernel.Register(linux.SYS_READLINKAT, func(a kernel.Args) (uintptr, linux.Errno) { return sysReadlinkat(a.A1, a.A2, a.A3, a.A4) })
	kernel.Register(linux.SYS_GETCWD, sysGetcwd)
	reg(linux.SYS_FCHDIR, sysFchdir)
	reg(linux.SYS_CHDIR, func(a kernel.Args) linux.Errno {
		p, s, e := at(cwd, a.A1)
		if e != 0 {
			return e
		}
		return Root.Chdir(p, s)
	})
	kernel.Register(linux.SYS_OPEN, func(a kernel.Args) (uintptr, linux.Errno) {
		return sysOpenat(cwd, a.A1, flag(a.A2), flag(a.A3), 0)
	})
	kernel.Register(linux.SYS_CREAT, func(a kernel.Args) (uintptr, linux.Errno) {
		return sysOpenat(cwd, a.A1, linux.O_CREAT|linux.O_WRONLY|linux.O_TRUNC, flag(a.A2), 0)
	})
	kernel.Register(linux.SYS_OPENAT, func(a kernel.Args) (uintptr, linux.Errno) {
		return sysOpenat(a.A1, a.A2, flag(a.A3), flag(a.A4), 0)
	})
	kernel.Register(linux.SYS_OPENAT2, sysOpenat2)
	kernel.Register(linux.SYS_MEMFD_CREATE, sysMemfd)
}

// StartInotify registers the calls of inotify: a brick of its own, linked if the program can
// make an instance.
func StartInotify() {
	kernel.Register(linux.SYS_INOTIFY_INIT, func(kernel.Args) (uintptr, linux.Errno) { return sysInotifyInit(0) })
	kernel.Register(linux.SYS_INOTIFY_INIT1, func(a kernel.Args) (uintptr, linux.Errno) { return sysInotifyInit(flag(a.A1)) })
	kernel.Register(linux.SYS_INOTIFY_ADD_WATCH, sysAddWatch)
	kernel.Register(linux.SYS_INOTIFY_RM_WATCH, sysRmWatch)
}
