package proc

import (
	"sync"

	"noyau.dev/guest/kernel"
	"noyau.dev/guest/linux"
)

// Handlers and masks belong to Go's runtime, which has its own. What the app
// sets by hand is remembered and answered, and changes nothing.
var actions struct {
	sync.Mutex
	a    [linux.NSIG + 1]linux.Sigaction
	mask uint64
}

func init() {
	kernel.Register(linux.SYS_KILL, func(a kernel.Args) (uintptr, linux.Errno) {
		switch pid := int32(a.A1); {
		case pid == int32(kernel.PID()), !hasFamily() && (pid == 0 || pid == -int32(kernel.PID())):
			return 0, raise(a.A2)
		case pid > 0:
			return 0, signalMember(pid, a.A2)
		default:
			return 0, signalGroup(pid, a.A2)
		}
	})
	kernel.Register(linux.SYS_TKILL, func(a kernel.Args) (uintptr, linux.Errno) {
		if int32(a.A1) <= 0 {
			return 0, linux.EINVAL
		}
		if !isSelf(a.A1) {
			return 0, linux.ESRCH
		}
		return 0, raise(a.A2)
	})
	kernel.Register(linux.SYS_TGKILL, func(a kernel.Args) (uintptr, linux.Errno) {
		if int32(a.A1) <= 0 || int32(a.A2) <= 0 {
			return 0, linux.EINVAL
		}
		if !isSelf(a.A1) || !isSelf(a.A2) {
			return 0, linux.ESRCH
		}
		return 0, raise(a.A3)
	})
	kernel.Register(linux.SYS_RT_SIGACTION, sigaction)
	kernel.Register(linux.SYS_RT_SIGPROCMASK, sigprocmask)
	kernel.Register(linux.SYS_RT_SIGPENDING, func(a kernel.Args) (uintptr, linux.Errno) {
		return 0, store(a.A1, uint64(0))
	})
	kernel.Register(linux.SYS_SIGALTSTACK, func(a kernel.Args) (uintptr, linux.Errno) {
		return 0, kernel.Put(a.A2, linux.StackT{Flags: linux.SS_DISABLE})
	})
	kernel.Register(linux.SYS_PAUSE, func(kernel.Args) (uintptr, linux.Errno) {
		for p := kernel.GetParker(); ; {
			p.Park(0)
		}
	})
	kernel.Register(linux.SYS_EXIT, exit)
	kernel.Register(linux.SYS_EXIT_GROUP, exit)
}

func exit(a kernel.Args) (uintptr, linux.Errno) {
	kernel.Exit(int32(uint8(a.A1)))
	return 0, 0
}

func raise(sig uintptr) linux.Errno {
	if sig > linux.NSIG {
		return linux.EINVAL
	}
	if sig != 0 {
		kernel.Deliver(uint32(sig))
	}
	return 0
}

func sigaction(a kernel.Args) (uintptr, linux.Errno) {
	sig := a.A1
	if sig == 0 || sig > linux.NSIG || a.A4 != 8 {
		return 0, linux.EINVAL
	}
	actions.Lock()
	defer actions.Unlock()
	old := actions.a[sig]
	if a.A2 != 0 {
		if sig == linux.SIGKILL || sig == linux.SIGSTOP {
			return 0, linux.EINVAL
		}
		p, e := kernel.Ptr[linux.Sigaction](a.A2)
		if e != 0 {
			return 0, e
		}
		actions.a[sig] = *p
	}
	return 0, kernel.Put(a.A3, old)
}

func sigprocmask(a kernel.Args) (uintptr, linux.Errno) {
	if a.A4 != 8 {
		return 0, linux.EINVAL
	}
	actions.Lock()
	defer actions.Unlock()
	old := actions.mask
	if a.A2 != 0 {
		p, e := kernel.Ptr[uint64](a.A2)
		if e != 0 {
			return 0, e
		}
		switch a.A1 {
		case linux.SIG_BLOCK:
			actions.mask |= *p
		case linux.SIG_UNBLOCK:
			actions.mask &^= *p
		case linux.SIG_SETMASK:
			actions.mask = *p
		default:
			return 0, linux.EINVAL
		}
		actions.mask &^= 1<<(linux.SIGKILL-1) | 1<<(linux.SIGSTOP-1)
	}
	return 0, kernel.Put(a.A3, old)
}
