package runner

import (
	"encoding/binary"

	"golang.org/x/sys/unix"

	"noyau.dev/abi"
	"noyau.dev/host/vm/machine"
)

// Fork. The runner forks itself: the child has a copy-on-write copy of the guest's
// memory and of everything here, and makes a new virtual machine around it.
//
// This is a Go program that goes on after a fork without exec, which Go does not
// provide for. What makes it possible is that a runner needs little of its runtime:
//
//   - The child has the thread that forked and no other. The goroutine of that
//     thread is locked to it and pinned before the fork (forks.pin), for good in the
//     child, so that a wish of the parent's sysmon to preempt it, which the child may
//     have inherited, is never followed: there is nobody to hand the processor to.
//   - All system calls are raw (Runner.block becomes raw): the scheduler, and with it
//     sched.lock, is never entered. The one thread that may run beside this one at the
//     fork is sysmon; the locks that it takes (sched.lock, allpLock, those of the
//     scavenger and of the forced collection) are those that the child has no use for.
//     Garbage is not collected, and goroutines of the runtime's own have been asleep
//     since its start.
//   - Nothing allocates, and the stack has grown in advance (see deepen).
//   - Signals find the handlers and the signal stack of the runtime, copied as all else.

// forks is what a runner whose guest may fork has besides.
type forks struct {
	allowed bool
	yields  int     // exits at which the processor is still offered to the child
	watched handles // those registered with the poll
	top     uint64  // above all of them
	args    [abi.VMForkSize]byte
	give    [abi.ForkHandles]uint64
	boot    [abi.BootSize]byte
	timer   unix.Itimerval
	stat    unix.Stat_t
}

// startForks makes what forks need, if the guest may fork.
func (r *Runner) startForks() {
	r.forks.allowed = r.boot.Flags&abi.BootFork != 0 && r.m.CanFork()
	if !r.forks.allowed {
		r.m.VM.CloseDevice()
		return
	}
	deepen()
}

// yieldsAfter is how many exits a parent offers its processor to the child it has made.
// Where the others are busy the child is on the same one, and most of what it has to do
// is to wait for the kernel; it would be made to wait for the parent as well, which has
// all its pages to touch anew.
const yieldsAfter = 12

func (r *Runner) yield() {
	if r.forks.yields > 0 {
		r.forks.yields--
		r.sys(unix.SYS_SCHED_YIELD, 0, 0, 0, 0, 0, 0)
	}
}

// watch notes whether h is registered with the poll.
func (f *forks) watch(h uint64, on bool) {
	if !f.allowed {
		return
	}
	if on {
		f.watched.add(h)
		f.top = max(f.top, h+1)
	} else {
		f.watched.remove(h)
	}
}

// fork answers CallFork: see abi.VMForkGive….
func (r *Runner) fork(c *call) uint64 {
	f := &r.forks
	if !f.allowed {
		return fail(unix.ENOSYS)
	}
	if c.a1 != abi.ForkFlags || c.a2 != 0 {
		return fail(unix.EINVAL)
	}
	b := r.m.Bytes(machine.Addr(c.a3), abi.VMForkSize, false)
	if b == nil {
		return fail(unix.EFAULT)
	}
	copy(f.args[:], b)
	le := binary.LittleEndian
	for i := range f.give {
		f.give[i] = uint64(le.Uint32(f.args[abi.VMForkGive+4*i:]))
		if f.give[i] < abi.HandleFirst || !r.handles.has(f.give[i]) {
			return fail(unix.EBADF)
		}
	}
	boot := r.m.Bytes(machine.Addr(le.Uint64(f.args[abi.VMForkBoot:])), abi.BootSize, true)
	words := le.Uint64(f.args[abi.VMForkWords:])
	if words > abi.VMForkMost {
		return fail(unix.EINVAL)
	}
	own := r.m.Bytes(machine.Addr(le.Uint64(f.args[abi.VMForkOwn:])), words*8, false)
	if boot == nil || own == nil {
		return fail(unix.EFAULT)
	}
	if r.m.Save() != nil {
		return fail(unix.EIO)
	}
	pin()
	pid := r.sys(unix.SYS_CLONE, abi.ForkFlags, 0, 0, 0, 0, 0)
	if pid != 0 {
		unpin()
		if int64(pid) > 0 {
			r.forks.yields = yieldsAfter
			r.yield()
			return 1 // its number on the host is of no use to the guest
		}
		return pid
	}
	r.child(boot, own)
	return 0
}

// child is the first thing in a forked runner.
func (r *Runner) child(boot, own []byte) {
	f := &r.forks
	r.block = raw
	f.yields = 0
	r.page = nil // of the parent's timing
	r.Counts = Counts{}
	for i := range uintptr(abi.ForkDead) {
		r.must("take its handles", r.sys(unix.SYS_DUP3, uintptr(f.give[i]), abi.HandleControl+i, unix.O_CLOEXEC, 0, 0, 0))
		r.drop(f.give[i])
	}
	r.must("die with the monitor", r.sys(unix.SYS_PRCTL, unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0, 0))
	// The monitor learns from the kernel who says this. What it does then it does
	// while the machine is made.
	var hello [abi.MsgSize]byte
	(&abi.Msg{Op: abi.OpHello}).Put(hello[:])
	send(abi.HandleControl, hello[:])

	if failed, e := r.m.Reborn(); e != 0 {
		r.must(failed, fail(e))
	}
	// Its guest's time stamp counter is another.
	if !r.m.TSCEqual && r.clock.moved() != nil {
		r.must("read its time stamp counter", fail(unix.EIO))
	}
	n := r.sys(unix.SYS_PREAD64, abi.HandleBoot, ptrOf(&f.boot), abi.BootSize, 0, 0, 0)
	if n != abi.BootSize || !r.boot.Take(f.boot[:]) {
		r.must("read its boot block", fail(unix.EIO))
	}
	put64(r.m.Info()[abi.VMInfoBootSize:], 0) // that is its parent's
	copy(boot, f.boot[:])
	clear(f.boot[:])

	dead := f.give[abi.ForkDead]
	for w := range len(own) / 8 {
		bits := binary.LittleEndian.Uint64(own[8*w:])
		for h := uint64(w) * 64; bits != 0; h, bits = h+1, bits>>1 {
			if bits&1 != 0 && h >= abi.HandleFirst && h != dead && r.handles.has(h) {
				r.must("give up its parent's connections", r.sys(unix.SYS_DUP3, uintptr(dead), uintptr(h), unix.O_CLOEXEC, 0, 0, 0))
			}
		}
	}
	r.drop(dead)
	r.ring.child(max(uint64(len(own))*8, f.top))
	f.watched.each(f.top, func(h uint64) {
		binary.LittleEndian.PutUint32(r.event[:], unix.EPOLLIN|unix.EPOLLOUT|unix.EPOLLRDHUP|unix.EPOLLET)
		binary.LittleEndian.PutUint64(r.event[4:], h)
		r.sys(unix.SYS_EPOLL_CTL, abi.HandlePoll, unix.EPOLL_CTL_ADD, uintptr(h), ptrOf(&r.event), 0, 0)
	})
	f.timer = unix.Itimerval{Interval: unix.NsecToTimeval(r.tick), Value: unix.NsecToTimeval(r.tick)}
	r.must("set the tick", r.sys(unix.SYS_SETITIMER, uintptr(unix.ITIMER_PROF), ptrOf(&f.timer), 0, 0, 0, 0))
}

// drop closes a handle that is not in the poll.
func (r *Runner) drop(h uint64) {
	r.handles.remove(h)
	r.forks.watch(h, false)
	r.sys(unix.SYS_CLOSE, uintptr(h), 0, 0, 0, 0, 0)
}

// must ends a child that cannot go on.
func (r *Runner) must(do string, result uint64) {
	if int64(result) >= 0 {
		return
	}
	say("a fork cannot " + do + ": " + unix.Errno(-int64(result)).Error())
	exit(125)
}

// deepen makes the goroutine's stack as large as it will ever be.
//
//go:noinline
func deepen() byte {
	var room [24 << 10]byte
	return room[len(forkRoom)]
}

var forkRoom []byte
