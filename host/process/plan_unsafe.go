package process

import (
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// cloneArgs is struct clone_args of clone3(2).
type cloneArgs struct {
	flags, pidfd, childTID, parentTID, exitSignal, stack, stackSize, tls uint64
	setTID, setTIDSize, cgroup                                           uint64
}

// sigaction is the kernel's struct sigaction.
type sigaction struct{ handler, flags, restorer, mask uintptr }

// plan is one launch, ready to be run.
type plan struct {
	program
	pidfd   int32
	double  bool // there is a process between this one and the image's
	pidNS   bool
	clone3  bool
	seccomp int   // index of the step
	drop    []int // steps that leave the privileges of root; optional ones
	fail    failure
}

// sources are the descriptors of this process that a launch uses; those of a plan lie in
// the window.
type sources struct {
	files  []int // by number in the image's process
	image  int
	cgroup int   // of a cgroup v2, or -1
	procs  []int // cgroup.procs of groups of cgroup v1
}

// Names of steps that an image can do without.
const (
	stepProcs  = "enter the control group"
	stepChroot = "chroot"
)

// step is the name of the step that joins s.
func (s *space) step() string { return "join the " + s.name + " namespace" }

// cloneVfork shares the table of descriptors as well: see ownTable.
const cloneVfork = unix.CLONE_VM | unix.CLONE_VFORK | unix.CLONE_FILES

// newPlan lists every step of a launch.
//
// Namespaces are joined and a pid namespace is made. Root makes it by the clone and
// joins afterwards. Anybody else must join a user namespace first, to be
// allowed the other; and as a process enters a pid namespace only by being born in
// it, that takes two clones. CLONE_PARENT makes the grandchild a child of this
// process all the same.
func newPlan(s *Spec, j *jail, src *sources) *plan {
	p := &plan{clone3: j.clone3, pidfd: -1}
	p.steps, p.names, p.keep = make([]step, 0, 64), make([]string, 0, 64), make([]any, 0, 32)
	// The first image of a family would take the others with it.
	p.pidNS = j.pidNS && (j.root || j.has("user")) && !s.Allow.Fork && !s.Zygote
	p.double = p.pidNS && !j.root
	if p.double {
		// As the table of descriptors is shared, the pidfd made below is ours.
		p.add("clone", 0, unix.SYS_CLONE, cloneVfork)
		p.join(j, src)
		p.clone(src)
		p.ownTable(j.window)
	} else {
		p.clone(src)
		p.ownTable(j.window)
		p.join(j, src)
	}
	p.child(s, j, src)
	return p
}

// ownTable gives the child a table of descriptors of its own, with those below the end of
// the window. Those above, mostly other images', are not even copied.
func (p *plan) ownTable(w *window) {
	p.add("own descriptors", 0, unix.SYS_CLOSE_RANGE, uintptr(w.end()), uintptr(^uint32(0)), unix.CLOSE_RANGE_UNSHARE)
}

// join enters control groups of v1 and the namespaces of the jail.
func (p *plan) join(j *jail, src *sources) {
	for _, fd := range src.procs {
		p.add(stepProcs, 0, unix.SYS_WRITE, uintptr(fd), p.cstring("0"), 1)
	}
	for _, sp := range j.spaces {
		p.add(sp.step(), 0, unix.SYS_SETNS, uintptr(sp.fd), sp.flag)
	}
}

// clone makes the image's process.
func (p *plan) clone(src *sources) {
	flags, spawned := uint64(cloneVfork|unix.CLONE_PIDFD), uintptr(0)
	if p.double {
		flags, spawned = flags|unix.CLONE_PARENT, stepSpawn
	}
	if p.pidNS {
		flags |= unix.CLONE_NEWPID
	}
	if !p.clone3 {
		p.add("clone", spawned, unix.SYS_CLONE, uintptr(flags), 0, ptr(&p.pidfd))
		p.resetHandlers()
		return
	}
	a := &cloneArgs{flags: flags | unix.CLONE_CLEAR_SIGHAND, pidfd: uint64(ptr(&p.pidfd))}
	if src.cgroup >= 0 {
		a.flags |= unix.CLONE_INTO_CGROUP
		a.cgroup = uint64(src.cgroup)
	}
	p.add("clone3", spawned, unix.SYS_CLONE3, hold(&p.program, a), unsafe.Sizeof(*a))
	// Ignored signals stay ignored: those that a shell or a service manager ignores for its children.
	def := hold(&p.program, &sigaction{})
	for _, sig := range []unix.Signal{unix.SIGHUP, unix.SIGINT, unix.SIGQUIT, unix.SIGPIPE, unix.SIGTERM, unix.SIGCHLD} {
		p.add("rt_sigaction", 0, unix.SYS_RT_SIGACTION, uintptr(sig), def, 0, 8)
	}
}

// resetHandlers is what CLONE_CLEAR_SIGHAND does: a handler of this process must
// not run in a child that shares its memory.
func (p *plan) resetHandlers() {
	def := hold(&p.program, &sigaction{})
	for sig := uintptr(1); sig <= 64; sig++ {
		if sig != uintptr(unix.SIGKILL) && sig != uintptr(unix.SIGSTOP) {
			p.add("rt_sigaction", 0, unix.SYS_RT_SIGACTION, sig, def, 0, 8)
		}
	}
}

// child is what the image's process does before it becomes the image.
func (p *plan) child(s *Spec, j *jail, src *sources) {
	// A group of its own is enough to be out of reach of the terminal's signals; a
	// session of its own costs 20 µs where the scheduler groups by session.
	p.add("setpgid", 0, unix.SYS_SETPGID, 0, 0)
	if !j.has("mount") && j.chroot {
		p.add("fchdir", 0, unix.SYS_FCHDIR, uintptr(j.empty))
		p.add(stepChroot, 0, unix.SYS_CHROOT, p.cstring("."))
	}
	if j.root {
		const id = UnprivilegedID
		first := len(p.steps)
		p.add("setgroups", stepOptional, unix.SYS_SETGROUPS, 0, 0)
		p.add("setresgid", stepOptional, unix.SYS_SETRESGID, id, id, id)
		p.add("setresuid", stepOptional, unix.SYS_SETRESUID, id, id, id)
		p.drop = []int{first, first + 1, first + 2}
	}
	// After the change of user, which looks at the limit of processes.
	for _, l := range limitsOf(s) {
		r := &unix.Rlimit{Cur: l.value, Max: l.value}
		p.add("limit of "+l.name, 0, unix.SYS_PRLIMIT64, 0, uintptr(l.resource), hold(&p.program, r))
	}
	// After the change of user, which clears it. If this process ended before
	// it was set, the pipe says so.
	p.add("die with the parent", 0, unix.SYS_PRCTL, unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL))
	p.descriptors(j, src)
	p.add("no new privileges", 0, unix.SYS_PRCTL, unix.PR_SET_NO_NEW_PRIVS, 1)
	p.hugePages(!s.Filter.image)
	p.lazyTimers(!s.Filter.image)
	p.dropCapabilities(s.Zygote && j.zygoteMakesPIDs())
	p.tick(s.Tick)
	mask := new(uint64)
	p.add("rt_sigprocmask", 0, unix.SYS_RT_SIGPROCMASK, unix.SIG_SETMASK, hold(&p.program, mask), 0, 8)
	prog := s.Filter.sockFprog()
	p.add("seccomp", 0, unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, 0, hold(&p.program, prog))
	p.keep = append(p.keep, s.Filter)
	p.seccomp = p.last()
	p.add("execveat", 0, unix.SYS_EXECVEAT, uintptr(len(src.files)), p.cstring(""),
		p.cstrings(s.Args), p.cstrings(s.Env), unix.AT_EMPTY_PATH, uintptr(execSecret()))
}

// descriptors places the image's files at 0, 1, 2 …, then the image and the pipe
// behind them, and closes the rest. All sources have higher numbers than that.
func (p *plan) descriptors(j *jail, src *sources) {
	n := uintptr(len(src.files))
	for i, fd := range src.files {
		p.add("dup3", 0, unix.SYS_DUP3, uintptr(fd), uintptr(i), 0)
	}
	p.add("dup3", 0, unix.SYS_DUP3, uintptr(src.image), n, unix.O_CLOEXEC)
	p.add("dup3", 0, unix.SYS_DUP3, uintptr(j.alive[0]), n+1, unix.O_CLOEXEC)
	p.add("close_range", 0, unix.SYS_CLOSE_RANGE, n+2, uintptr(^uint32(0)), 0)
	b := new([8]byte)
	p.add("find the parent alive", stepExact, unix.SYS_READ, n+1, hold(&p.program, b), 1)
	p.steps[p.last()].want = ^uintptr(unix.EAGAIN) + 1
}

// hugePages keeps huge pages from an image, which when idle touches a few pages
// here and there. The setting belongs to memory, which the child shares with this
// process until exec, and is inherited: this process has that of the last launch.
func (p *plan) hugePages(on bool) {
	disable := uintptr(1)
	if on {
		disable = 0
	}
	p.add("huge pages", stepOptional, unix.SYS_PRCTL, unix.PR_SET_THP_DISABLE, disable, 0, 0, 0)
}

// lazyTimers lets the threads of a runner oversleep, which a thread inherits and can
// undo for itself. The Go runtime's monitor thread would else wake every 70 µs at
// first, mostly on the processor of the guest that it interrupts.
func (p *plan) lazyTimers(on bool) {
	const slack = 20 * time.Millisecond
	if on {
		p.add("timer slack", stepOptional, unix.SYS_PRCTL, unix.PR_SET_TIMERSLACK, uintptr(slack))
	}
}

// dropCapabilities gives up what entering the namespaces has given, or what root
// has. As there are no new privileges, exec gives none back, even to user 0. A zygote
// keeps what makes pid namespaces, in the jail's user namespace: see Spec.Zygote.
func (p *plan) dropCapabilities(zygote bool) {
	head := &unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	keep := &[2]unix.CapUserData{}
	if zygote {
		const admin = 1 << unix.CAP_SYS_ADMIN
		keep[0] = unix.CapUserData{Effective: admin, Permitted: admin, Inheritable: admin}
	}
	p.add("capset", 0, unix.SYS_CAPSET, hold(&p.program, head), hold(&p.program, keep))
	if zygote {
		p.add("keep a capability", 0, unix.SYS_PRCTL, unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_RAISE, unix.CAP_SYS_ADMIN, 0, 0)
	}
}

// tick arms the preemption timer. It survives exec, and so does ignoring its
// signal, until the image's runtime has installed its handler.
func (p *plan) tick(d time.Duration) {
	if d <= 0 {
		return
	}
	ign := &sigaction{handler: 1} // SIG_IGN
	p.add("rt_sigaction", 0, unix.SYS_RT_SIGACTION, uintptr(unix.SIGPROF), hold(&p.program, ign), 0, 8)
	tv := unix.NsecToTimeval(d.Nanoseconds())
	it := &unix.Itimerval{Interval: tv, Value: tv}
	p.add("setitimer", 0, unix.SYS_SETITIMER, uintptr(unix.ITIMER_PROF), hold(&p.program, it), 0)
}
