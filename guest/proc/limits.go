package proc

import (
	"sync"

	"noyau.dev/abi"
	"noyau.dev/guest/host"
	"noyau.dev/guest/kernel"
	"noyau.dev/guest/linux"
	"noyau.dev/guest/rt"
)

var limits struct {
	sync.Mutex
	r [linux.RLIM_NLIMITS]linux.Rlimit
}

// setupLimits begins with no limits but those that mean something here.
func setupLimits(b *host.Boot) {
	for i := range limits.r {
		limits.r[i] = linux.Rlimit{Cur: linux.RLIM_INFINITY, Max: linux.RLIM_INFINITY}
	}
	limits.r[linux.RLIMIT_NOFILE] = linux.Rlimit{Cur: 1 << 20, Max: 1 << 20}
	limits.r[linux.RLIMIT_STACK] = linux.Rlimit{Cur: 8 << 20, Max: linux.RLIM_INFINITY}
	limits.r[linux.RLIMIT_CORE] = linux.Rlimit{}
	limits.r[linux.RLIMIT_NPROC] = linux.Rlimit{Cur: 1, Max: 1}
	if m := b.Header.Memory; m != 0 {
		limits.r[linux.RLIMIT_AS] = linux.Rlimit{Cur: m, Max: m}
	}
	for _, l := range b.Limits {
		if l.Resource < linux.RLIM_NLIMITS && l.Soft <= l.Hard {
			limits.r[l.Resource] = linux.Rlimit{Cur: l.Soft, Max: l.Hard}
		}
	}
}

func init() {
	kernel.Register(linux.SYS_GETRLIMIT, func(a kernel.Args) (uintptr, linux.Errno) { return prlimit(a.A1, 0, a.A2, true) })
	kernel.Register(linux.SYS_SETRLIMIT, func(a kernel.Args) (uintptr, linux.Errno) {
		if a.A2 == 0 {
			return 0, linux.EFAULT
		}
		return prlimit(a.A1, a.A2, 0, false)
	})
	kernel.Register(linux.SYS_PRLIMIT64, func(a kernel.Args) (uintptr, linux.Errno) {
		if !isSelf(a.A1) {
			return 0, linux.ESRCH
		}
		return prlimit(a.A2, a.A3, a.A4, false)
	})
	kernel.Register(linux.SYS_UNAME, uname)
	kernel.Register(linux.SYS_SYSINFO, sysinfo)
	kernel.Register(linux.SYS_GETRANDOM, func(a kernel.Args) (uintptr, linux.Errno) {
		if a.A3&^(linux.GRND_NONBLOCK|linux.GRND_RANDOM|linux.GRND_INSECURE) != 0 {
			return 0, linux.EINVAL
		}
		p, e := kernel.Bytes(a.A1, min(a.A2, 1<<25-1))
		if e == 0 {
			rt.Rand(p)
		}
		return uintptr(len(p)), e
	})
}

func prlimit(res, newAddr, oldAddr uintptr, want bool) (uintptr, linux.Errno) {
	if res >= linux.RLIM_NLIMITS {
		return 0, linux.EINVAL
	}
	if want && oldAddr == 0 {
		return 0, linux.EFAULT
	}
	limits.Lock()
	defer limits.Unlock()
	old := limits.r[res]
	if newAddr != 0 {
		p, e := kernel.Ptr[linux.Rlimit](newAddr)
		if e != 0 {
			return 0, e
		}
		n := *p
		if n.Cur > n.Max {
			return 0, linux.EINVAL
		}
		if n.Max > old.Max {
			return 0, linux.EPERM
		}
		limits.r[res] = n
		if res == linux.RLIMIT_NOFILE {
			kernel.SetNofile(n.Cur)
		}
	}
	return 0, kernel.Put(oldAddr, old)
}

// Release is the version that uname answers: what the library OS behaves like.
const Release = "6.1.0-noyau"

func uname(a kernel.Args) (uintptr, linux.Errno) {
	p, e := kernel.Ptr[linux.Utsname](a.A1)
	if e != 0 {
		return 0, e
	}
	*p = linux.Utsname{}
	copy(p.Sysname[:64], "Linux")
	copy(p.Nodename[:64], nodename())
	copy(p.Release[:64], Release)
	copy(p.Version[:64], "#1 Noyau")
	copy(p.Machine[:64], "x86_64")
	copy(p.Domainname[:64], domainname)
	return 0, 0
}

func sysinfo(a kernel.Args) (uintptr, linux.Errno) {
	total := rt.Boot().Memory
	if total == 0 {
		total = abi.RegionMax
	}
	return 0, store(a.A1, linux.Sysinfo{Uptime: (kernel.Now() - kernel.StartTime()) / 1e9, Totalram: total, Freeram: total, Procs: 1, Unit: 1})
}
