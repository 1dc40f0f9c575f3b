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

func init() {
	kernel.Register(abi.SysFork, func(kernel.Args) (uintptr, linux.Errno) {
		pid, e := kernel.Fork(false)
		return uintptr(pid), e
	})
	kernel.Register(linux.SYS_WAIT4, wait4)
}

func mayFork() bool { return rt.Boot().Flags&abi.BootFork != 0 }

// signalMember is kill(2) of another member. Groups do not exist.
func signalMember(pid int32, sig uintptr) linux.Errno {
	if sig > linux.NSIG {
		return linux.EINVAL
	}
	if !mayFork() || pid <= 0 {
		return linux.ESRCH
	}
	_, e := host.Request(abi.Msg{Op: abi.OpKill, A: uint64(pid), B: uint64(sig)})
	return e
}

// wait4 is wait4(2): pid > 0 or -1, WNOHANG.
func wait4(a kernel.Args) (uintptr, linux.Errno) {
	const wnohang = 1
	pid := int32(a.A1)
	if pid == -1 || pid == 0 {
		pid = 0
	}
	switch {
	case !mayFork() || pid < 0:
		return 0, linux.ECHILD
	case uint32(a.A3)&^(wnohang|2|8|1<<30) != 0: // WUNTRACED, WCONTINUED, __WALL change nothing
		return 0, linux.EINVAL
	}
	r, e := host.Request(abi.Msg{Op: abi.OpWait, A: uint64(pid), B: uint64(a.A3 & wnohang)})
	if e != 0 || r.A == 0 {
		return 0, e
	}
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
