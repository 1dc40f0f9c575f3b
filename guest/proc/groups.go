package proc

import (
	"noyau.dev/abi"
	"noyau.dev/guest/host"
	"noyau.dev/guest/kernel"
	"noyau.dev/guest/linux"
)

// Process groups and sessions. In a family the monitor has them; a pVM that is alone leads
// its own.
func init() {
	kernel.Register(linux.SYS_GETPGRP, func(kernel.Args) (uintptr, linux.Errno) { return group(0, false) })
	kernel.Register(linux.SYS_GETPGID, func(a kernel.Args) (uintptr, linux.Errno) { return group(a.A1, false) })
	kernel.Register(linux.SYS_GETSID, func(a kernel.Args) (uintptr, linux.Errno) { return group(a.A1, true) })
	kernel.Register(linux.SYS_SETPGID, func(a kernel.Args) (uintptr, linux.Errno) {
		pid, pgid := int32(a.A1), int32(a.A2)
		switch {
		case pgid < 0:
			return 0, linux.EINVAL
		case hasFamily() && pid >= 0:
			_, e := host.Request(abi.Msg{Op: abi.OpGroup, A: uint64(pid), B: abi.GroupSet, C: uint64(pgid)})
			return 0, e
		case !isSelf(a.A1):
			return 0, linux.ESRCH
		}
		return 0, linux.EPERM // a session leader stays in its group
	})
	kernel.Register(linux.SYS_SETSID, func(kernel.Args) (uintptr, linux.Errno) {
		if !hasFamily() {
			return 0, linux.EPERM
		}
		r, e := host.Request(abi.Msg{Op: abi.OpGroup, B: abi.GroupSession})
		return uintptr(r.B), e
	})
}

// group answers getpgid and getsid.
func group(pid uintptr, session bool) (uintptr, linux.Errno) {
	if hasFamily() && int32(pid) >= 0 {
		r, e := host.Request(abi.Msg{Op: abi.OpGroup, A: uint64(uint32(pid))})
		if session {
			return uintptr(r.B), e
		}
		return uintptr(r.A), e
	}
	if !isSelf(pid) {
		return 0, linux.ESRCH
	}
	return uintptr(kernel.PID()), 0
}
