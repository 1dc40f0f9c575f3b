package proc

import (
	"noyau.dev/guest/kernel"
	"noyau.dev/guest/linux"
	"noyau.dev/guest/rt"
)

func init() {
	kernel.Register(linux.SYS_CLOCK_GETTIME, func(a kernel.Args) (uintptr, linux.Errno) {
		ns, e := clock(a.A1)
		if e != 0 {
			return 0, e
		}
		return 0, store(a.A2, linux.NsecToTimespec(ns))
	})
	kernel.Register(linux.SYS_CLOCK_GETRES, func(a kernel.Args) (uintptr, linux.Errno) {
		if _, e := clock(a.A1); e != 0 {
			return 0, e
		}
		return 0, kernel.Put(a.A2, linux.Timespec{Nsec: 1})
	})
	kernel.Register(linux.SYS_GETTIMEOFDAY, func(a kernel.Args) (uintptr, linux.Errno) {
		if e := kernel.Put(a.A2, [2]int32{}); e != 0 {
			return 0, e
		}
		return 0, kernel.Put(a.A1, linux.NsecToTimeval(kernel.Now()))
	})
	kernel.Register(linux.SYS_TIME, func(a kernel.Args) (uintptr, linux.Errno) {
		sec := kernel.Now() / 1e9
		return uintptr(sec), kernel.Put(a.A1, sec)
	})
	kernel.Register(linux.SYS_NANOSLEEP, func(a kernel.Args) (uintptr, linux.Errno) {
		return sleep(a.A1, func(ns int64) int64 { return rt.Nanotime() + ns })
	})
	kernel.Register(linux.SYS_CLOCK_NANOSLEEP, func(a kernel.Args) (uintptr, linux.Errno) {
		now, e := clock(a.A1)
		if e != 0 || a.A1 == linux.CLOCK_THREAD_CPUTIME_ID {
			return 0, linux.EINVAL
		}
		return sleep(a.A3, func(ns int64) int64 {
			if a.A2&linux.TIMER_ABSTIME != 0 {
				ns -= now
			}
			return rt.Nanotime() + ns
		})
	})
	kernel.Register(linux.SYS_TIMES, func(a kernel.Args) (uintptr, linux.Errno) {
		e := kernel.Put(a.A1, linux.Tms{Utime: rt.CPUTime() / tick})
		return uintptr(rt.Nanotime() / tick), e
	})
	kernel.Register(linux.SYS_GETRUSAGE, func(a kernel.Args) (uintptr, linux.Errno) {
		u := linux.Rusage{}
		switch int32(a.A1) {
		case linux.RUSAGE_SELF, linux.RUSAGE_THREAD:
			u.Utime = linux.NsecToTimeval(rt.CPUTime())
		case linux.RUSAGE_CHILDREN:
		default:
			return 0, linux.EINVAL
		}
		return 0, store(a.A2, u)
	})
	kernel.Register(linux.SYS_GETITIMER, func(a kernel.Args) (uintptr, linux.Errno) {
		return 0, store(a.A2, linux.Itimerval{})
	})
	value(linux.SYS_ALARM, 0)
}

const tick = 1e7 // clock ticks of times(2): 100 per second

// store is kernel.Put for a result that the caller must want.
func store[T any](addr uintptr, v T) linux.Errno {
	if addr == 0 {
		return linux.EFAULT
	}
	return kernel.Put(addr, v)
}

// clock reads a clock, in ns.
func clock(id uintptr) (int64, linux.Errno) {
	switch int32(id) {
	case linux.CLOCK_REALTIME, linux.CLOCK_REALTIME_COARSE, linux.CLOCK_TAI:
		return kernel.Now(), 0
	case linux.CLOCK_MONOTONIC, linux.CLOCK_MONOTONIC_RAW, linux.CLOCK_MONOTONIC_COARSE, linux.CLOCK_BOOTTIME:
		return rt.Nanotime(), 0
	case linux.CLOCK_PROCESS_CPUTIME_ID, linux.CLOCK_THREAD_CPUTIME_ID:
		return rt.CPUTime(), 0
	}
	return 0, linux.EINVAL
}

// sleep parks for the struct timespec at addr. Nothing interrupts it.
func sleep(addr uintptr, until func(ns int64) int64) (uintptr, linux.Errno) {
	t, e := kernel.Ptr[linux.Timespec](addr)
	if e != 0 {
		return 0, e
	}
	if !t.Valid() {
		return 0, linux.EINVAL
	}
	deadline := until(min(t.Nano(), 1<<62))
	p := kernel.GetParker()
	for p.Park(max(deadline, 1)) {
	}
	p.Put()
	return 0, 0
}
