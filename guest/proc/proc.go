// Package proc is the brick of the process as it sees itself: ids, time,
// limits, signals, the machine. It registers its system calls with package
// kernel when it is linked.
package proc

import (
	"sync"
	"sync/atomic"

	"noyau.dev/abi"
	"noyau.dev/guest/host"
	"noyau.dev/guest/kernel"
	"noyau.dev/guest/linux"
)

func init() {
	kernel.OnInit(setup)
	kernel.OnFork(func() { node.stale.Store(true) })
}

const domainname = "(none)"

// node is the host name. A fork has a new one, which is read when somebody asks.
var node struct {
	mu    sync.Mutex
	name  string
	stale atomic.Bool
}

func nodename() string {
	node.mu.Lock()
	defer node.mu.Unlock()
	if node.stale.Swap(false) {
		if b, e := host.ReloadBoot(abi.HandleBoot); e == 0 {
			node.name = b.Hostname
		}
	}
	return node.name
}

func setup(b *host.Boot) {
	node.name = b.Hostname
	setupLimits(b)
}

// value registers a call that always answers v.
func value(nr int, v uintptr) {
	kernel.Register(nr, func(kernel.Args) (uintptr, linux.Errno) { return v, 0 })
}

// refuse registers calls that always fail.
func refuse(e linux.Errno, nrs ...int) {
	for _, nr := range nrs {
		kernel.Register(nr, func(kernel.Args) (uintptr, linux.Errno) { return 0, e })
	}
}

func init() {
	// There is one program in a pVM. Go says "operation not permitted" or
	// "function not implemented" with the name of what was tried.
	refuse(linux.ENOSYS, linux.SYS_FORK, linux.SYS_VFORK, linux.SYS_CLONE, linux.SYS_CLONE3)
	refuse(linux.EPERM, linux.SYS_EXECVE, linux.SYS_EXECVEAT, linux.SYS_PTRACE, linux.SYS_MOUNT, linux.SYS_UMOUNT2,
		linux.SYS_PIVOT_ROOT, linux.SYS_CHROOT, linux.SYS_REBOOT, linux.SYS_SWAPON, linux.SYS_SWAPOFF,
		linux.SYS_SETHOSTNAME, linux.SYS_SETDOMAINNAME, linux.SYS_SETTIMEOFDAY, linux.SYS_CLOCK_SETTIME,
		linux.SYS_ADJTIMEX, linux.SYS_CLOCK_ADJTIME, linux.SYS_UNSHARE, linux.SYS_SETNS, linux.SYS_INIT_MODULE,
		linux.SYS_DELETE_MODULE, linux.SYS_FINIT_MODULE, linux.SYS_KEXEC_LOAD, linux.SYS_BPF, linux.SYS_PERF_EVENT_OPEN,
		linux.SYS_IOPL, linux.SYS_IOPERM, linux.SYS_ACCT, linux.SYS_QUOTACTL, linux.SYS_SYSLOG, linux.SYS_VHANGUP,
		linux.SYS_OPEN_BY_HANDLE_AT)
}
