package proc

import (
	"noyau.dev/guest/kernel"
	"noyau.dev/guest/linux"
)

func init() {
	get := func(f func() uint32, nrs ...int) {
		for _, nr := range nrs {
			kernel.Register(nr, func(kernel.Args) (uintptr, linux.Errno) { return uintptr(f()), 0 })
		}
	}
	get(kernel.PID, linux.SYS_GETPID, linux.SYS_GETTID, linux.SYS_SET_TID_ADDRESS)
	get(kernel.PPID, linux.SYS_GETPPID)
	get(kernel.UID, linux.SYS_GETUID, linux.SYS_GETEUID)
	get(kernel.GID, linux.SYS_GETGID, linux.SYS_GETEGID)

	// Ids stay as they are: to set what is set already succeeds, all else needs
	// a privilege that nobody has here.
	set := func(nr, n int, id func() uint32) {
		kernel.Register(nr, func(a kernel.Args) (uintptr, linux.Errno) {
			for _, v := range []uintptr{a.A1, a.A2, a.A3}[:n] {
				if uint32(v) != id() && (n == 1 || uint32(v) != ^uint32(0)) {
					return 0, linux.EPERM
				}
			}
			return 0, 0
		})
	}
	set(linux.SYS_SETUID, 1, kernel.UID)
	set(linux.SYS_SETREUID, 2, kernel.UID)
	set(linux.SYS_SETRESUID, 3, kernel.UID)
	set(linux.SYS_SETGID, 1, kernel.GID)
	set(linux.SYS_SETREGID, 2, kernel.GID)
	set(linux.SYS_SETRESGID, 3, kernel.GID)
	get(kernel.UID, linux.SYS_SETFSUID)
	get(kernel.GID, linux.SYS_SETFSGID)
	three := func(id func() uint32) kernel.Call {
		return func(a kernel.Args) (uintptr, linux.Errno) {
			for _, p := range [3]uintptr{a.A1, a.A2, a.A3} {
				if _, e := kernel.Ptr[uint32](p); e != 0 {
					return 0, e
				}
				kernel.Put(p, id())
			}
			return 0, 0
		}
	}
	kernel.Register(linux.SYS_GETRESUID, three(kernel.UID))
	kernel.Register(linux.SYS_GETRESGID, three(kernel.GID))
	kernel.Register(linux.SYS_GETGROUPS, func(a kernel.Args) (uintptr, linux.Errno) {
		n := int32(a.A1)
		switch {
		case n < 0:
			return 0, linux.EINVAL
		case n == 0:
			return 1, 0
		}
		p, e := kernel.Ptr[uint32](a.A2)
		if e == 0 {
			*p = kernel.GID()
		}
		return 1, e
	})
	refuse(linux.EPERM, linux.SYS_SETGROUPS)

	kernel.Register(linux.SYS_CAPGET, func(a kernel.Args) (uintptr, linux.Errno) {
		h, e := kernel.Ptr[[2]uint32](a.A1)
		if e != 0 {
			return 0, e
		}
		n := uintptr(6) // words of data: two sets of three
		switch h[0] {
		case 0x19980330:
			n = 3
		case 0x20071026, 0x20080522:
		default:
			h[0] = 0x20080522 // tells the caller the version
			if a.A2 == 0 {
				return 0, 0
			}
			return 0, linux.EINVAL
		}
		if a.A2 == 0 {
			return 0, 0
		}
		d, e := kernel.Slice[uint32](a.A2, n)
		clear(d)
		return 0, e
	})
	refuse(linux.EPERM, linux.SYS_CAPSET)
	value(linux.SYS_PERSONALITY, 0)
	kernel.Register(linux.SYS_UMASK, func(a kernel.Args) (uintptr, linux.Errno) {
		return uintptr(kernel.SetUmask(uint32(a.A1))), 0
	})
}

// isSelf reports whether a pid argument means this process.
func isSelf(pid uintptr) bool { return int32(pid) == 0 || uint32(pid) == kernel.PID() }
