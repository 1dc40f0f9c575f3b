package kernel

import "noyau.dev/guest/linux"

func init() {
	Register(linux.SYS_CLOSE, func(a Args) (uintptr, linux.Errno) { return 0, Close(a.A1) })
	Register(linux.SYS_CLOSE_RANGE, sysCloseRange)
	Register(linux.SYS_DUP, func(a Args) (uintptr, linux.Errno) { return Dup(a.A1, 0, false) })
	Register(linux.SYS_DUP2, func(a Args) (uintptr, linux.Errno) {
		if a.A1 == a.A2 {
			return a.A2, checkFD(a.A1)
		}
		return a.A2, Dup2(a.A1, a.A2, false)
	})
	Register(linux.SYS_DUP3, func(a Args) (uintptr, linux.Errno) {
		if a.A1 == a.A2 || a.A3&^linux.O_CLOEXEC != 0 {
			return 0, linux.EINVAL
		}
		return a.A2, Dup2(a.A1, a.A2, a.A3 != 0)
	})
	Register(linux.SYS_FCNTL, sysFcntl)
	Register(linux.SYS_IOCTL, sysIoctl)
}

func sysCloseRange(a Args) (uintptr, linux.Errno) {
	first, last := uint32(a.A1), uint32(a.A2)
	if first > last || a.A3&^(linux.CLOSE_RANGE_UNSHARE|linux.CLOSE_RANGE_CLOEXEC) != 0 {
		return 0, linux.EINVAL
	}
	for _, fd := range Open() {
		switch {
		case uint32(fd) < first || uint32(fd) > last:
		case a.A3&linux.CLOSE_RANGE_CLOEXEC != 0:
			SetCloexec(uintptr(fd), true)
		default:
			Close(uintptr(fd))
		}
	}
	return 0, 0
}

// PipeSizer is fcntl F_GETPIPE_SZ and F_SETPIPE_SZ (n > 0), Sealer F_GET_SEALS
// and F_ADD_SEALS: EBADF and EINVAL for others.
type (
	PipeSizer interface {
		PipeSize(n int) (int, linux.Errno)
	}
	Sealer interface {
		Seals() uint32
		AddSeals(s uint32) linux.Errno
	}
)

func sysFcntl(a Args) (uintptr, linux.Errno) {
	d, e := Get(a.A1)
	if e != 0 {
		return 0, e
	}
	defer d.Put()
	cmd := int(int32(a.A2))
	switch cmd {
	case linux.F_DUPFD, linux.F_DUPFD_CLOEXEC:
		if a.A3 >= defaultNofile {
			return 0, linux.EINVAL
		}
		return Dup(a.A1, int(a.A3), cmd == linux.F_DUPFD_CLOEXEC)
	case linux.F_GETFD:
		on, e := Cloexec(a.A1)
		if on {
			return linux.FD_CLOEXEC, e
		}
		return 0, e
	case linux.F_SETFD:
		return 0, SetCloexec(a.A1, a.A3&linux.FD_CLOEXEC != 0)
	case linux.F_GETFL:
		return uintptr(d.Flags() &^ (linux.O_CLOEXEC)), 0
	}
	if d.Flags()&linux.O_PATH != 0 {
		return 0, linux.EBADF
	}
	switch cmd {
	case linux.F_SETFL:
		d.SetFlags(uint32(a.A3))
		return 0, 0
	case linux.F_GETLK, linux.F_SETLK, linux.F_SETLKW, linux.F_OFD_GETLK, linux.F_OFD_SETLK, linux.F_OFD_SETLKW:
		return 0, recordLock(d, cmd, a.A3)
	case linux.F_GETPIPE_SZ, linux.F_SETPIPE_SZ:
		s, ok := d.File.(PipeSizer)
		if !ok {
			return 0, linux.EBADF
		}
		want := 0
		if cmd == linux.F_SETPIPE_SZ {
			if want = int(int32(a.A3)); want <= 0 {
				return 0, linux.EINVAL
			}
		}
		n, e := s.PipeSize(want)
		return uintptr(n), e
	case linux.F_ADD_SEALS, linux.F_GET_SEALS:
		if s, ok := d.File.(Sealer); ok {
			if cmd == linux.F_GET_SEALS {
				return uintptr(s.Seals()), 0
			}
			return 0, s.AddSeals(uint32(a.A3))
		}
	case linux.F_GETOWN, linux.F_SETOWN:
		return 0, 0
	case linux.F_GETLEASE:
		return linux.F_UNLCK, 0
	}
	return 0, linux.EINVAL
}

func recordLock(d *Desc, cmd int, addr uintptr) linux.Errno {
	l, ok := d.File.(RecordLocker)
	if !ok {
		return linux.EINVAL
	}
	p, e := Ptr[linux.Flock](addr)
	if e != 0 {
		return e
	}
	f := *p
	if get := cmd == linux.F_GETLK || cmd == linux.F_OFD_GETLK; !get {
		if f.Type == linux.F_RDLCK && !d.Readable() || f.Type == linux.F_WRLCK && !d.Writable() {
			return linux.EBADF
		}
	}
	if e = l.RecordLock(cmd, &f); e == 0 {
		*p = f
	}
	return e
}

func sysIoctl(a Args) (uintptr, linux.Errno) {
	d, e := Get(a.A1)
	if e != 0 {
		return 0, e
	}
	defer d.Put()
	switch a.A2 {
	case linux.FIONBIO:
		p, e := Ptr[int32](a.A3)
		if e != 0 {
			return 0, e
		}
		f := d.Flags() &^ linux.O_NONBLOCK
		if *p != 0 {
			f |= linux.O_NONBLOCK
		}
		d.SetFlags(f)
		return 0, 0
	case linux.FIOCLEX, linux.FIONCLEX:
		return 0, SetCloexec(a.A1, a.A2 == linux.FIOCLEX)
	}
	if d.Flags()&linux.O_PATH != 0 {
		return 0, linux.EBADF
	}
	return d.Ioctl(a.A2, a.A3)
}
