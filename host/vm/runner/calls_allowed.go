package runner

import (
	"golang.org/x/sys/unix"

	"noyau.dev/abi"
	"noyau.dev/host/vm/kvm"
)

// A Call is a system call that the runner process may make. If Values is not
// empty, argument Arg, masked with Mask, must be one of them, and what And says must
// hold as well. Several Calls with one number are alternatives.
type Call struct {
	Nr     uint32
	Name   string
	Arg    int
	Mask   uint32
	Values []uint32
	Why    string
	And    []Check
}

// A Check wants the lower half of an argument to be Value.
type Check struct {
	Arg   int
	Value uint32
}

func free(nr uint32, name, why string) Call { return Call{Nr: nr, Name: name, Why: why} }

// only is a Call whose argument arg, an int, is v.
func only(nr uint32, name string, arg int, v uint32, why string, and ...Check) Call {
	return Call{nr, name, arg, ^uint32(0), []uint32{v}, why, and}
}

// threadFlags are the flags with which the Go runtime makes threads.
const threadFlags = unix.CLONE_VM | unix.CLONE_FS | unix.CLONE_FILES | unix.CLONE_SIGHAND | unix.CLONE_SYSVSEM | unix.CLONE_THREAD

// Calls is what the runner may do while a guest runs: the host ABI on the
// guest's behalf, KVM, and what the Go runtime of the runner needs.
func Calls(netOut, fork bool) []Call {
	send := Call{abi.CallSend, "sendto", 4, ^uint32(0), []uint32{0}, "data out, to no address", nil}
	if netOut {
		send = free(abi.CallSend, "sendto", "data out; the policy allows datagrams to any address")
	}
	calls := []Call{
		{unix.SYS_IOCTL, "ioctl", 1, ^uint32(0), kvm.RunRequests, "run the guest, its registers on faults and ticks, its memory", nil},
		free(abi.CallRecv, "recvfrom", "data in"),
		send,
		free(unix.SYS_EPOLL_PWAIT, "epoll_pwait", "wait for readiness"),
		free(unix.SYS_EPOLL_PWAIT2, "epoll_pwait2", "wait for readiness and time"),
		free(abi.CallPread, "pread64", "files that the monitor opened"),
		free(abi.CallPwrite, "pwrite64", "files that the monitor opened"),
		free(abi.CallAccept, "accept4", "connections to published ports"),
		free(abi.CallWatch, "epoll_ctl", "watch handles"),
		free(abi.CallClose, "close", "give handles back"),
		{abi.CallRecvmsg, "recvmsg", 0, ^uint32(0), []uint32{abi.HandleControl}, "replies of the monitor that carry a handle", nil},
		{abi.CallSendmsg, "sendmsg", 0, ^uint32(0), []uint32{abi.HandleControl}, "requests about a handle that only the guest has", nil},
		{unix.SYS_MADVISE, "madvise", 2, ^uint32(0), []uint32{unix.MADV_DONTNEED, unix.MADV_NOHUGEPAGE, unix.MADV_HUGEPAGE, unix.MADV_COLLAPSE, unix.MADV_POPULATE_WRITE, unix.MADV_DONTDUMP}, "memory that the guest gives back", nil},
		{unix.SYS_WRITE, "write", 0, ^uint32(0), []uint32{abi.HandleStderr}, "the report of the guest's end", nil},
		free(unix.SYS_CLOCK_GETTIME, "clock_gettime", "the time, where the kernel cannot tell it without a call"),
		free(unix.SYS_EXIT_GROUP, "exit_group", "the end"),

		// The Go runtime: it has a thread besides the vCPU's, and makes more if it must.
		free(unix.SYS_FUTEX, "futex", "Go runtime: sleep and wake"),
		{unix.SYS_MMAP, "mmap", 2, unix.PROT_EXEC, []uint32{0}, "Go runtime: memory, never executable", nil},
		free(unix.SYS_MUNMAP, "munmap", "Go runtime: memory"),
		free(unix.SYS_RT_SIGRETURN, "rt_sigreturn", "Go runtime: end of a signal handler"),
		free(unix.SYS_RT_SIGPROCMASK, "rt_sigprocmask", "Go runtime: threads"),
		free(unix.SYS_SIGALTSTACK, "sigaltstack", "Go runtime: threads"),
		free(unix.SYS_GETTID, "gettid", "Go runtime: threads"),
		free(unix.SYS_GETPID, "getpid", "Go runtime: preemption"),
		{unix.SYS_TGKILL, "tgkill", 2, ^uint32(0), []uint32{uint32(unix.SIGURG), uint32(unix.SIGABRT)}, "Go runtime: preemption", nil},
		{unix.SYS_CLONE, "clone", 0, ^uint32(0), []uint32{threadFlags, threadFlags | unix.CLONE_SETTLS}, "Go runtime: a thread, never a process", nil},
		free(unix.SYS_NANOSLEEP, "nanosleep", "Go runtime: its monitor thread"),
		free(unix.SYS_SCHED_YIELD, "sched_yield", "Go runtime: locks"),
		free(unix.SYS_EXIT, "exit", "Go runtime: end of a thread"),
		{unix.SYS_PRCTL, "prctl", 0, ^uint32(0), []uint32{unix.PR_SET_VMA}, "Go runtime: names of memory", nil},
		free(unix.SYS_RESTART_SYSCALL, "restart_syscall", "the kernel, after a stop"),
	}
	if fork {
		calls = append(calls, forkCalls()...)
	}
	return calls
}

// forkCalls is what the runner of an image that may fork needs besides.
func forkCalls() []Call {
	return []Call{
		only(unix.SYS_CLONE, "clone", 0, abi.ForkFlags, "fork, and no other process: the child is the monitor's", Check{1, 0}),
		{unix.SYS_IOCTL, "ioctl", 1, ^uint32(0), kvm.RemakeRequests, "a fork makes a virtual machine of its own", nil},
		only(unix.SYS_DUP3, "dup3", 2, unix.O_CLOEXEC, "a fork puts its own handles in the place of its parent's"),
		only(unix.SYS_PRCTL, "prctl", 0, unix.PR_SET_PDEATHSIG, "a fork dies with the monitor: that is not inherited", Check{1, uint32(unix.SIGKILL)}),
		only(unix.SYS_SETITIMER, "setitimer", 0, uint32(unix.ITIMER_PROF), "the tick of a fork: timers are not inherited"),
		only(unix.SYS_FCNTL, "fcntl", 1, unix.F_GET_SEALS, "whether memory that is shared can shrink"),
		free(unix.SYS_FSTAT, "fstat", "how much of it there is"),
	}
}

// standbyCalls is what a runner of a template needs besides: its guest has run already when
// its handles come.
func standbyCalls() []Call {
	return []Call{only(unix.SYS_DUP3, "dup3", 2, unix.O_CLOEXEC, "a pVM of a template takes its handles")}
}

// ZygoteCalls is what a zygote needs besides all that those may do that it makes.
func ZygoteCalls() []Call {
	return []Call{
		{unix.SYS_CLONE, "clone", 0, ^uint32(0), []uint32{abi.ForkFlags, abi.ForkFlags | unix.CLONE_NEWPID}, "make others, children of the monitor", []Check{{1, 0}}},
		only(unix.SYS_SETPGID, "setpgid", 0, 0, "these have groups of their own", Check{1, 0}),
		free(unix.SYS_CAPSET, "capset", "and give up what made their namespace"),
		free(unix.SYS_CLOSE_RANGE, "close_range", "and the zygote's own machine"),
	}
}

// StartCalls is what the runner needs besides, until it has narrowed itself
// down. The guest does not run yet.
func StartCalls() []Call {
	return []Call{
		{unix.SYS_IOCTL, "ioctl", 1, 0xff00, []uint32{kvm.RequestType}, "make the virtual machine: requests of KVM's type", nil},
		free(unix.SYS_MMAP, "mmap", "memory and the image"),
		free(unix.SYS_MPROTECT, "mprotect", "memory"),
		free(unix.SYS_MADVISE, "madvise", "memory"),
		free(unix.SYS_FSTAT, "fstat", "size of the image"),
		free(unix.SYS_GETRANDOM, "getrandom", "AT_RANDOM"),
		free(unix.SYS_SECCOMP, "seccomp", "narrow this list down"),
		{unix.SYS_SETITIMER, "setitimer", 0, ^uint32(0), []uint32{2}, "the preemption tick", nil},
		free(unix.SYS_ARCH_PRCTL, "arch_prctl", "Go runtime: thread-local storage"),
		free(unix.SYS_SCHED_GETAFFINITY, "sched_getaffinity", "Go runtime: processors"),
		free(unix.SYS_RT_SIGACTION, "rt_sigaction", "Go runtime: handlers"),
		free(unix.SYS_FCNTL, "fcntl", "Go runtime: standard streams; a shell moves its descriptors"),
		{unix.SYS_WRITE, "write", 0, ^uint32(0), []uint32{mailbox}, "a shell is ready", nil},
		free(unix.SYS_DUP3, "dup3", "a shell moves its descriptors"),
		{unix.SYS_RECVMSG, "recvmsg", 0, ^uint32(0), []uint32{mailbox}, "a shell gets its image", nil},
		free(unix.SYS_OPENAT, "openat", "Go runtime: the size of large pages; there is no file system"),
		free(unix.SYS_READ, "read", "Go runtime: likewise"),
		free(unix.SYS_PRLIMIT64, "prlimit64", "Go runtime: limit of descriptors"),
		free(unix.SYS_PRCTL, "prctl", "no_new_privs; Go runtime: names of memory"),
		free(unix.SYS_EPOLL_CREATE1, "epoll_create1", "Go runtime: its poller"),
		free(unix.SYS_EVENTFD2, "eventfd2", "Go runtime: likewise"),
		free(unix.SYS_READLINKAT, "readlinkat", "Go's package os: its own path; there is no file system"),
		free(unix.SYS_UNAME, "uname", "Go's standard library: version of the kernel"),
	}
}
