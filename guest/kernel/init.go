package kernel

import (
	"slices"
	"sync"
	"sync/atomic"

	"noyau.dev/abi"
	"noyau.dev/guest/host"
	"noyau.dev/guest/linux"
	"noyau.dev/guest/rt"
)

var (
	startTime int64 // wall clock at Init, ns
	umask     atomic.Uint32
)

// PID, PPID, UID and GID are what the app is told.
func PID() uint32  { return rt.Boot().PID }
func PPID() uint32 { return rt.Boot().PPID }
func UID() uint32  { return rt.Boot().UID }
func GID() uint32  { return rt.Boot().GID }

// Umask is the file mode creation mask; SetUmask returns the one before.
func Umask() uint32            { return umask.Load() }
func SetUmask(m uint32) uint32 { return umask.Swap(m & 0777) }

// StartTime is when the pVM began: wall clock, ns.
func StartTime() int64 { return startTime }

// Now is the wall clock, ns.
func Now() int64 {
	sec, nsec := rt.Walltime()
	return sec*1e9 + int64(nsec)
}

// Hooks of the map module, which lives in a package of its own.
var (
	onFileWritten func(key any, off, n int64)
	mapsExist     atomic.Bool
)

// SetMaps connects the package that answers mmap: written is called after each
// write to a file with maps, while exist is true.
func SetMaps(written func(key any, off, n int64)) (exist *atomic.Bool) {
	onFileWritten = written
	return &mapsExist
}

var inits []func(*host.Boot)

// OnInit registers f to run in Init, in the order of registration. Bricks call
// it from their Start, or package init, functions.
func OnInit(f func(*host.Boot)) { inits = append(inits, f) }

var forks []func()

// OnFork registers f to run in a pVM that was forked, before Fork returns there.
// Other goroutines of the parent's run already, rt.Boot has the new header. It is on the
// path of every fork: what can wait until somebody asks should (see host.ReloadBoot).
func OnFork(f func()) { forks = append(forks, f) }

var restores, freezes, thaws []func()

// OnSnapshot registers freeze to run before a snapshot is written, and thaw after that or,
// in a restored pVM, after the functions of OnRestore. In between nothing may happen to
// what the monitor notes in a snapshot. What was frozen first is thawed last.
func OnSnapshot(freeze, thaw func()) { freezes, thaws = append(freezes, freeze), append(thaws, thaw) }

// OnRestore registers f to run in a pVM that was restored from a snapshot, on a
// goroutine of its own, after the functions of OnFork.
func OnRestore(f func()) { restores = append(restores, f) }

// Restored reports, in functions of OnFork and OnSnapshot, whether this is a pVM that has
// just been restored.
func Restored() bool { return restored.Load() }

var restored atomic.Bool

// Frozen reports whether a snapshot is being made, or this pVM has just been restored of one:
// then a handle of before may be another thing than it was, until OnRestore's functions
// have seen to it.
func Frozen() bool { return frozen.Load() }

var frozen atomic.Bool

// forking is held by those who fork, for reading; and by a snapshot until it has been
// written, in a restored pVM until that is complete.
var forking sync.RWMutex

// snapshot writes this pVM to a file.
func snapshot() {
	forking.Lock()
	defer forking.Unlock()
	frozen.Store(true) // and so it is in the file
	defer frozen.Store(false)
	for _, f := range freezes {
		f()
	}
	defer func() {
		for _, f := range slices.Backward(thaws) {
			f()
		}
		restored.Store(false)
	}()
	keepStdio()
	if !host.Snapshot() {
		return
	}
	restored.Store(true)
	startTime = Now()
	for _, f := range forks {
		f()
	}
	for _, f := range restores {
		f()
	}
	host.Post(abi.Msg{Op: abi.OpRejoin})
}

// Copies is how many times this pVM was copied, or nearly so; a copy goes on counting.
var Copies atomic.Uint32

// Fork copies this pVM, perhaps since somebody outside has asked for it: the child's process id in the parent, 0 in the child,
// which has not the rights in narrow.
func Fork(asked bool, narrow uint32) (uint32, linux.Errno) {
	shareStdio()
	Copies.Add(1)
	forking.RLock()
	pid, e := host.Fork(asked, narrow)
	forking.RUnlock()
	if e != 0 || pid != 0 {
		return pid, e
	}
	startTime = Now()
	for _, f := range forks {
		f()
	}
	return 0, 0
}

// Init begins the library OS inside an image, before the init function of any
// package above syscall runs, on the main goroutine. It ends the pVM with code
// 125 if the monitor's boot block makes no sense.
func Init() {
	boot, e := host.LoadBoot(abi.HandleBoot)
	if e != 0 {
		die("noyau: cannot read the boot block; was the image started by noyau run?\n")
	}
	host.OnEvent = event
	host.OnGone = func() { rt.Exit(125) } // nobody is left to answer or to see it
	if e := host.Start(abi.HandleControl); e != 0 {
		die("noyau: cannot watch the control channel\n")
	}
	Setup(boot)
	rt.PollOpen, rt.PollClose = PollOpen, PollClose
	rt.Install()
}

func die(s string) {
	host.Send(abi.HandleStderr, []byte(s), 0)
	rt.Exit(125)
}

// Setup is the part of Init that has no need of a monitor: tests of bricks call
// it with a Boot of their own.
func Setup(boot *host.Boot) {
	startTime = Now()
	umask.Store(022)
	winsize.Store(uint32(boot.Rows)<<16 | uint32(boot.Cols))
	for h := range int32(3) {
		tty := boot.Header.Flags>>h&abi.BootTTY0 != 0
		flags := uint32(linux.O_WRONLY)
		if tty {
			flags = linux.O_RDWR
		} else if h == 0 {
			flags = linux.O_RDONLY
		}
		stdios[h] = newStdio(h, tty)
		InstallAt(int(h), stdios[h], flags)
	}
	for _, l := range boot.Limits {
		if l.Resource == linux.RLIMIT_NOFILE {
			SetNofile(l.Soft)
		}
	}
	for _, f := range inits {
		f(boot)
	}
}
