package proc

import (
	"sync"

	"noyau.dev/guest/kernel"
	"noyau.dev/guest/linux"
	"noyau.dev/guest/rt"
)

func init() {
	kernel.Register(linux.SYS_SCHED_YIELD, func(kernel.Args) (uintptr, linux.Errno) { rt.Gosched(); return 0, 0 })
	kernel.Register(linux.SYS_SCHED_GETAFFINITY, func(a kernel.Args) (uintptr, linux.Errno) {
		if !isSelf(a.A1) {
			return 0, linux.ESRCH
		}
		if a.A2 < 8 || a.A2%8 != 0 {
			return 0, linux.EINVAL
		}
		return 8, store(a.A3, uint64(1)) // one CPU
	})
	kernel.Register(linux.SYS_SCHED_SETAFFINITY, func(a kernel.Args) (uintptr, linux.Errno) {
		p, e := kernel.Bytes(a.A3, a.A2)
		if e == 0 && (len(p) == 0 || p[0]&1 == 0) {
			e = linux.EINVAL
		}
		return 0, e
	})
	kernel.Register(linux.SYS_GETCPU, func(a kernel.Args) (uintptr, linux.Errno) {
		if e := kernel.Put(a.A1, uint32(0)); e != 0 {
			return 0, e
		}
		return 0, kernel.Put(a.A2, uint32(0))
	})
	value(linux.SYS_GETPRIORITY, 20) // nice 0, as the kernel returns it
	value(linux.SYS_SETPRIORITY, 0)
	value(linux.SYS_SCHED_GETSCHEDULER, 0)
	value(linux.SYS_SCHED_GET_PRIORITY_MAX, 0)
	value(linux.SYS_SCHED_GET_PRIORITY_MIN, 0)
	value(linux.SYS_IOPRIO_GET, 0)
	value(linux.SYS_IOPRIO_SET, 0)
	value(linux.SYS_SET_ROBUST_LIST, 0)
	kernel.Register(linux.SYS_MEMBARRIER, func(a kernel.Args) (uintptr, linux.Errno) {
		if a.A2 != 0 {
			return 0, linux.EINVAL
		}
		return 0, 0 // with one thread, each command is done; the query says none is needed
	})
	kernel.Register(linux.SYS_PRCTL, prctl)
	kernel.Register(linux.SYS_FUTEX, futex)
}

var thread struct {
	sync.Mutex
	name [16]byte
}

func prctl(a kernel.Args) (uintptr, linux.Errno) {
	switch a.A1 {
	case linux.PR_SET_NAME:
		s, e := kernel.String(a.A2)
		if e != 0 {
			return 0, e
		}
		thread.Lock()
		thread.name = [16]byte{}
		copy(thread.name[:15], s)
		thread.Unlock()
		return 0, 0
	case linux.PR_GET_NAME:
		thread.Lock()
		defer thread.Unlock()
		return 0, store(a.A2, thread.name)
	case linux.PR_GET_DUMPABLE, linux.PR_GET_NO_NEW_PRIVS:
		return 1, 0
	case linux.PR_SET_DUMPABLE, linux.PR_SET_NO_NEW_PRIVS, linux.PR_SET_VMA, linux.PR_SET_PDEATHSIG,
		linux.PR_SET_KEEPCAPS, linux.PR_GET_KEEPCAPS, linux.PR_CAPBSET_READ, linux.PR_SET_TIMERSLACK:
		return 0, 0
	case linux.PR_GET_TIMERSLACK:
		return 50_000, 0 // ns
	case linux.PR_GET_PDEATHSIG:
		return 0, store(a.A2, int32(0))
	}
	return 0, linux.EINVAL
}
