package proc

import (
	"noyau.dev/abi"
	"noyau.dev/guest/host"
	"noyau.dev/guest/kernel"
	"noyau.dev/guest/linux"
	"noyau.dev/guest/rt"
)

// The other members of the family: pVMs that have forked from one. What concerns
// them is asked of the monitor.

// Reaped, if not nil, is told of a child that has ended, before who waits for it is.
var Reaped func(pid uint32)

func init() {
	kernel.Register(abi.SysFork, func(a kernel.Args) (uintptr, linux.Errno) {
		if a.A1&^abi.NarrowAll != 0 {
			return 0, linux.EINVAL
		}
		pid, e := kernel.Fork(false, uint32(a.A1))
		return uintptr(pid), e
	})
	kernel.Register(abi.SysNarrow, func(a kernel.Args) (uintptr, linux.Errno) {
		if a.A1&abi.NarrowFork != 0 && uint32(a.A2) == 0 && rt.Boot().Flags&abi.BootFork != 0 {
			host.GiveBack() // the next fork is refused, not the one after it
		}
		if a.A1&abi.NarrowSignal != 0 && uint32(a.A2) == 0 {
			dropLinks() // while what was sent already may still go by the monitor
		}
		_, e := host.Request(abi.Msg{Op: abi.OpNarrow, A: uint64(a.A1), B: uint64(uint32(a.A2))})
		if e == 0 && a.A1&abi.NarrowSignal != 0 {
			dropLinks() // as the monitor tells all members to do
		}
		return 0, e
	})
	kernel.Register(linux.SYS_WAIT4, wait4)
	kernel.Register(linux.SYS_WAITID, waitid)
}

// hasFamily says whether there may be other members.
func hasFamily() bool { return rt.Boot().Flags&abi.BootFamily != 0 }

// signalMember is kill(2) of another member.
func signalMember(pid int32, sig uintptr) linux.Errno {
	if sig > linux.NSIG {
		return linux.EINVAL
	}
	if !hasFamily() {
		return linux.ESRCH
	}
	if linked(pid, sig) {
		return 0
	}
	_, e := host.Request(abi.Msg{Op: abi.OpKill, A: uint64(pid), B: uint64(sig)})
	if e == 0 {
		sent(pid, sig)
	}
	return e
}

// signalGroup is kill(2) of a group, pid 0 or below -1, or of all, -1.
func signalGroup(pid int32, sig uintptr) linux.Errno {
	m := abi.Msg{Op: abi.OpKill, B: uint64(sig), C: abi.KillGroup}
	switch {
	case sig > linux.NSIG:
		return linux.EINVAL
	case !hasFamily() || pid == -1<<31:
		return linux.ESRCH
	case pid == -1:
		m.C = abi.KillAll
	default:
		m.A = uint64(-pid)
	}
	_, e := host.Request(m)
	return e
}

// wait4 is wait4(2).
func wait4(a kernel.Args) (uintptr, linux.Errno) {
	const wnohang = 1
	pid, flags := int32(a.A1), uint64(0)
	switch {
	case pid == -1:
		pid = 0
	case pid <= 0:
		pid, flags = -pid, abi.WaitGroup
	}
	switch {
	case !hasFamily() || pid < 0:
		return 0, linux.ECHILD
	case uint32(a.A3)&^(wnohang|2|8|1<<30) != 0: // WUNTRACED, WCONTINUED, __WALL change nothing
		return 0, linux.EINVAL
	}
	r, e := host.Request(abi.Msg{Op: abi.OpWait, A: uint64(pid), B: uint64(a.A3&wnohang) | flags})
	if e != 0 || r.A == 0 {
		return 0, e
	}
	reaped(uint32(r.A))
	if a.A2 != 0 {
		if e := kernel.Put(a.A2, uint32(r.B)); e != 0 {
			return 0, e
		}
	}
	if a.A4 != 0 {
		if e := kernel.Put(a.A4, [144]byte{}); e != 0 { // struct rusage: not known
			return 0, e
		}
	}
	return uintptr(r.A), 0
}

// waitid is waitid(2): P_PID, P_PGID and P_ALL, WEXITED, WNOHANG, WNOWAIT.
func waitid(a kernel.Args) (uintptr, linux.Errno) {
	const (
		pAll, pPid, pPgid      = 0, 1, 2
		nohang, exited, nowait = 1, 4, 1 << 24
		others                 = 2 | 8 | 1<<30 | 1<<31 | 1<<29 // stopped, continued, __WALL and its kin
	)
	pid, flags := int32(a.A2), uint64(0)
	switch {
	case uint32(a.A4)&^(nohang|exited|nowait|others) != 0 || uint32(a.A4)&(exited|2|8) == 0 || a.A1 > 3:
		return 0, linux.EINVAL
	case a.A1 == pAll:
		pid = 0
	case a.A1 == pPgid && pid >= 0:
		flags = abi.WaitGroup
	case a.A1 != pPid || pid <= 0:
		return 0, linux.ECHILD
	}
	if !hasFamily() {
		return 0, linux.ECHILD
	}
	m := abi.Msg{Op: abi.OpWait, A: uint64(pid), B: uint64(a.A4&nohang) | flags}
	if a.A4&nowait != 0 {
		m.B |= abi.WaitKeep
	}
	r, e := host.Request(m)
	if e != 0 {
		return 0, e
	}
	if a.A3 != 0 {
		var info [32]uint32 // siginfo_t
		if r.A != 0 {
			const chld, byExit, bySignal = 17, 1, 2
			info[0], info[2] = chld, byExit
			info[4], info[5], info[6] = uint32(r.A), kernel.UID(), uint32(r.B)>>8
			if sig := uint32(r.B) & 0x7f; sig != 0 {
				info[2], info[6] = bySignal, sig
			}
		}
		if e := kernel.Put(a.A3, info); e != 0 {
			return 0, e
		}
	}
	if r.A != 0 {
		reaped(uint32(r.A))
	}
	return 0, 0
}

func reaped(pid uint32) {
	ended(pid)
	if Reaped != nil {
		Reaped(pid)
	}
}
