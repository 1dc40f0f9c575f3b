package fs

import (
	"noyau.dev/abi"
	"noyau.dev/guest/kernel"
	"noyau.dev/guest/linux"
)

// Calls that read and change attributes by path. Those by descriptor are the
// kernel's, over the optional interfaces of its File.

func sysFstatat(fd, path, buf uintptr, flags uint32) linux.Errno {
	const known = linux.AT_SYMLINK_NOFOLLOW | linux.AT_NO_AUTOMOUNT | linux.AT_EMPTY_PATH
	if flags&^uint32(known) != 0 {
		return linux.EINVAL
	}
	st, e := kernel.Ptr[linux.Stat](buf)
	if e != 0 {
		return e
	}
	return statAt(fd, path, flags, st)
}

// statAt finds the attributes of what fd, path and flags name. With an empty
// path that may be any descriptor.
func statAt(fd, path uintptr, flags uint32, st *linux.Stat) linux.Errno {
	var s string
	var e linux.Errno
	if path != 0 || flags&linux.AT_EMPTY_PATH == 0 {
		if s, e = kernel.String(path); e != 0 {
			return e
		}
	}
	if s == "" {
		if flags&linux.AT_EMPTY_PATH == 0 {
			return linux.ENOENT
		}
		if !atFDCWD(fd) {
			d, e := kernel.Get(fd)
			if e == 0 {
				e = d.Stat(st)
				d.Put()
			}
			return e
		}
	}
	return Root.Stat(Root.base(fd, s), s, followUnless(flags), st)
}

func sysStatx(a kernel.Args) linux.Errno {
	const known = linux.AT_SYMLINK_NOFOLLOW | linux.AT_NO_AUTOMOUNT | linux.AT_EMPTY_PATH | 0x6000 // AT_STATX_…
	flags := flag(a.A3)
	if flags&^uint32(known) != 0 || flags&0x6000 == 0x6000 || flag(a.A4)>>31 != 0 {
		return linux.EINVAL
	}
	sx, e := kernel.Ptr[linux.Statx](a.A5)
	if e != 0 {
		return e
	}
	st := new(linux.Stat)
	if e := statAt(a.A1, a.A2, flags, st); e != 0 {
		return e
	}
	major := func(d uint64) uint32 { return uint32(d>>8&0xfff | d>>32&^0xfff) }
	minor := func(d uint64) uint32 { return uint32(d&0xff | d>>12&^0xff) }
	stamp := func(t linux.Timespec) linux.StatxTimestamp {
		return linux.StatxTimestamp{Sec: t.Sec, Nsec: uint32(t.Nsec)}
	}
	*sx = linux.Statx{
		Mask: linux.STATX_BASIC_STATS, Blksize: uint32(st.Blksize), Nlink: uint32(st.Nlink), UID: st.UID, GID: st.GID,
		Mode: uint16(st.Mode), Ino: st.Ino, Size: uint64(st.Size), Blocks: uint64(st.Blocks),
		Atime: stamp(st.Atim), Mtime: stamp(st.Mtim), Ctime: stamp(st.Ctim),
		RdevMajor: major(st.Rdev), RdevMinor: minor(st.Rdev), DevMajor: major(st.Dev), DevMinor: minor(st.Dev),
	}
	return 0
}

func sysFaccessat(fd, path uintptr, mode, flags uint32) linux.Errno {
	const known = linux.AT_EACCESS | linux.AT_SYMLINK_NOFOLLOW | linux.AT_EMPTY_PATH
	if mode&^7 != 0 || flags&^uint32(known) != 0 {
		return linux.EINVAL
	}
	p, s, e := atEmpty(fd, path, flags)
	if e != 0 {
		return e
	}
	return Root.Access(p, s, mode, followUnless(flags))
}

func sysFchmodat(fd, path uintptr, mode, flags uint32) linux.Errno {
	if flags&^uint32(linux.AT_SYMLINK_NOFOLLOW|linux.AT_EMPTY_PATH) != 0 {
		return linux.EINVAL
	}
	p, s, e := atEmpty(fd, path, flags)
	if e != 0 {
		return e
	}
	return Root.Chmod(p, s, mode, followUnless(flags))
}

func sysFchownat(fd, path uintptr, uid, gid, flags uint32) linux.Errno {
	if flags&^uint32(linux.AT_SYMLINK_NOFOLLOW|linux.AT_EMPTY_PATH) != 0 {
		return linux.EINVAL
	}
	p, s, e := atEmpty(fd, path, flags)
	if e != 0 {
		return e
	}
	return Root.Chown(p, s, uid, gid, followUnless(flags))
}

// setTimes is the common end of the calls that set times. A nil path means the
// descriptor itself; e is that of decoding the times.
func setTimes(fd, path uintptr, at, mt linux.Timespec, flags uint32) linux.Errno {
	valid := true
	for _, t := range [...]*linux.Timespec{&at, &mt} {
		valid = valid && (t.Nsec == linux.UTIME_NOW || t.Nsec == linux.UTIME_OMIT || uint64(t.Nsec) < 1e9)
	}
	toNow := at.Nsec == linux.UTIME_NOW && mt.Nsec == linux.UTIME_NOW
	n := linux.NsecToTimespec(now())
	for _, t := range [...]*linux.Timespec{&at, &mt} {
		if t.Nsec == linux.UTIME_NOW {
			*t = n
		}
	}
	if path == 0 && !atFDCWD(fd) {
		if flags&^uint32(linux.AT_EMPTY_PATH) != 0 {
			return linux.EINVAL
		}
		d, e := kernel.Get(fd)
		if e != 0 {
			return e
		}
		defer d.Put()
		s, ok := d.File.(kernel.TimeSetter)
		switch {
		case !valid:
			return linux.EINVAL
		case !ok:
			return linux.EPERM
		}
		return s.SetTimes(at, mt)
	}
	if valid && stamp(at) == abi.TimeOmit && stamp(mt) == abi.TimeOmit {
		return 0
	}
	p, s, e := atEmpty(fd, path, flags)
	if e != 0 {
		return e
	}
	if !valid {
		var st linux.Stat
		if e := Root.Stat(p, s, followUnless(flags), &st); e != 0 {
			return e
		}
		return linux.EINVAL
	}
	return Root.Times(p, s, stamp(at), stamp(mt), toNow, followUnless(flags))
}

func sysUtimensat(a kernel.Args) linux.Errno {
	flags := flag(a.A4)
	if flags&^uint32(linux.AT_SYMLINK_NOFOLLOW|linux.AT_EMPTY_PATH) != 0 {
		return linux.EINVAL
	}
	ts := [2]linux.Timespec{{Nsec: linux.UTIME_NOW}, {Nsec: linux.UTIME_NOW}}
	if a.A3 != 0 {
		p, e := kernel.Ptr[[2]linux.Timespec](a.A3)
		if e != 0 {
			return e
		}
		ts = *p
	}
	return setTimes(a.A1, a.A2, ts[0], ts[1], flags)
}

// sysUtimes is utimes and futimesat: struct timeval.
func sysUtimes(fd, path, times uintptr) linux.Errno {
	ts := [2]linux.Timespec{{Nsec: linux.UTIME_NOW}, {Nsec: linux.UTIME_NOW}}
	if times != 0 {
		p, e := kernel.Ptr[[2]linux.Timeval](times)
		if e != 0 {
			return e
		}
		for i, tv := range *p {
			if uint64(tv.Usec) >= 1e6 {
				return linux.EINVAL
			}
			ts[i] = linux.Timespec{Sec: tv.Sec, Nsec: tv.Usec * 1000}
		}
	}
	return setTimes(fd, path, ts[0], ts[1], 0)
}

func sysUtime(a kernel.Args) linux.Errno {
	ts := [2]linux.Timespec{{Nsec: linux.UTIME_NOW}, {Nsec: linux.UTIME_NOW}}
	if a.A2 != 0 {
		p, e := kernel.Ptr[[2]int64](a.A2)
		if e != 0 {
			return e
		}
		ts = [2]linux.Timespec{{Sec: p[0]}, {Sec: p[1]}}
	}
	return setTimes(cwd, a.A1, ts[0], ts[1], 0)
}

func sysStatfs(a kernel.Args) linux.Errno {
	st, e := kernel.Ptr[linux.Statfs](a.A2)
	if e != 0 {
		return e
	}
	p, s, e := at(cwd, a.A1)
	if e != 0 {
		return e
	}
	return Root.Statfs(p, s, st)
}

// noAttr answers the calls on extended attributes: there are none.
func noAttr(empty bool, pathAt func(a kernel.Args) (fd, path uintptr)) kernel.Call {
	return func(a kernel.Args) (uintptr, linux.Errno) {
		fd, path := pathAt(a)
		var st linux.Stat
		flags := uint32(linux.AT_EMPTY_PATH)
		if path != 0 {
			flags = linux.AT_SYMLINK_NOFOLLOW
		}
		if e := statAt(fd, path, flags, &st); e != 0 {
			return 0, e
		}
		if empty {
			return 0, 0
		}
		return 0, linux.EOPNOTSUPP
	}
}

func init() {
	reg := func(nr int, f func(a kernel.Args) linux.Errno) { kernel.Register(nr, call(f)) }
	reg(linux.SYS_STAT, func(a kernel.Args) linux.Errno { return sysFstatat(cwd, a.A1, a.A2, 0) })
	reg(linux.SYS_LSTAT, func(a kernel.Args) linux.Errno { return sysFstatat(cwd, a.A1, a.A2, linux.AT_SYMLINK_NOFOLLOW) })
	reg(linux.SYS_NEWFSTATAT, func(a kernel.Args) linux.Errno { return sysFstatat(a.A1, a.A2, a.A3, flag(a.A4)) })
	reg(linux.SYS_STATX, sysStatx)
	reg(linux.SYS_ACCESS, func(a kernel.Args) linux.Errno { return sysFaccessat(cwd, a.A1, flag(a.A2), 0) })
	reg(linux.SYS_FACCESSAT, func(a kernel.Args) linux.Errno { return sysFaccessat(a.A1, a.A2, flag(a.A3), 0) })
	reg(linux.SYS_FACCESSAT2, func(a kernel.Args) linux.Errno { return sysFaccessat(a.A1, a.A2, flag(a.A3), flag(a.A4)) })
	reg(linux.SYS_CHMOD, func(a kernel.Args) linux.Errno { return sysFchmodat(cwd, a.A1, flag(a.A2), 0) })
	reg(linux.SYS_FCHMODAT, func(a kernel.Args) linux.Errno { return sysFchmodat(a.A1, a.A2, flag(a.A3), 0) })
	const fchmodat2 = 452
	reg(fchmodat2, func(a kernel.Args) linux.Errno { return sysFchmodat(a.A1, a.A2, flag(a.A3), flag(a.A4)) })
	reg(linux.SYS_CHOWN, func(a kernel.Args) linux.Errno { return sysFchownat(cwd, a.A1, flag(a.A2), flag(a.A3), 0) })
	reg(linux.SYS_LCHOWN, func(a kernel.Args) linux.Errno {
		return sysFchownat(cwd, a.A1, flag(a.A2), flag(a.A3), linux.AT_SYMLINK_NOFOLLOW)
	})
	reg(linux.SYS_FCHOWNAT, func(a kernel.Args) linux.Errno {
		return sysFchownat(a.A1, a.A2, flag(a.A3), flag(a.A4), flag(a.A5))
	})
	reg(linux.SYS_TRUNCATE, func(a kernel.Args) linux.Errno {
		p, s, e := at(cwd, a.A1)
		if e != 0 {
			return e
		}
		return Root.Truncate(p, s, int64(a.A2))
	})
	reg(linux.SYS_UTIMENSAT, sysUtimensat)
	reg(linux.SYS_UTIMES, func(a kernel.Args) linux.Errno { return sysUtimes(cwd, a.A1, a.A2) })
	reg(linux.SYS_FUTIMESAT, func(a kernel.Args) linux.Errno { return sysUtimes(a.A1, a.A2, a.A3) })
	reg(linux.SYS_UTIME, sysUtime)
	reg(linux.SYS_STATFS, sysStatfs)
	reg(linux.SYS_SYNC, func(kernel.Args) linux.Errno { return 0 })

	byPath := func(a kernel.Args) (uintptr, uintptr) { return cwd, a.A1 }
	byFD := func(a kernel.Args) (uintptr, uintptr) { return a.A1, 0 }
	for _, x := range [...]int{linux.SYS_SETXATTR, linux.SYS_LSETXATTR, linux.SYS_GETXATTR, linux.SYS_LGETXATTR, linux.SYS_REMOVEXATTR, linux.SYS_LREMOVEXATTR} {
		kernel.Register(x, noAttr(false, byPath))
	}
	for _, x := range [...]int{linux.SYS_FSETXATTR, linux.SYS_FGETXATTR, linux.SYS_FREMOVEXATTR} {
		kernel.Register(x, noAttr(false, byFD))
	}
	kernel.Register(linux.SYS_LISTXATTR, noAttr(true, byPath))
	kernel.Register(linux.SYS_LLISTXATTR, noAttr(true, byPath))
	kernel.Register(linux.SYS_FLISTXATTR, noAttr(true, byFD))
}
