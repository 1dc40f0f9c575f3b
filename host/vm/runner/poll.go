package runner

import (
	"golang.org/x/sys/unix"

	"noyau.dev/abi"
	"noyau.dev/host/vm/machine"
)

// poll answers epoll_pwait. First it asks without waiting, if that was of use
// lately: going to sleep and being woken costs more than a few microseconds of
// asking again. Then it sleeps, and the guest with it: no timer runs, no tick comes.
func (r *Runner) poll(c *call) uint64 {
	if c.a1 != abi.HandlePoll {
		return fail(unix.EBADF)
	}
	n := int32(c.a3)
	if n <= 0 {
		return fail(unix.EINVAL)
	}
	b := r.m.Bytes(machine.Addr(c.a2), 12*uint64(min(n, maxEvents)), true)
	if b == nil {
		return fail(unix.EFAULT)
	}
	wait := int64(-1) // ns
	if ms := int32(c.a4); ms >= 0 {
		wait = int64(ms) * 1e6
	}
	v := r.ask(b)
	if v != 0 || wait == 0 {
		r.ring.fill(b, v)
		return v
	}
	begin := gettime(unix.CLOCK_MONOTONIC)
	slept := begin
	if r.spin.worth() && r.spinMax > 0 {
		for slept-begin < min(r.spinMax, wait&(1<<63-1)) {
			if v := r.ask(b); v != 0 {
				r.Counts.Spins++
				r.spin.paid()
				r.ring.fill(b, v)
				return v
			}
			slept = gettime(unix.CLOCK_MONOTONIC)
		}
		r.spin.inVain()
	}
	r.Counts.Sleeps++
	r.clock.pause()
	v = r.sleep(b, begin, wait)
	for r.ring.blocked && v == 0 && (wait < 0 || gettime(unix.CLOCK_MONOTONIC) < begin+wait) {
		r.ring.flush()
		v = r.sleep(b, begin, wait)
	}
	if gettime(unix.CLOCK_MONOTONIC)-slept < r.spinMax {
		r.spin.short()
	}
	r.ring.fill(b, v)
	return v
}

func (r *Runner) ask(b []byte) uint64 {
	return r.sys(unix.SYS_EPOLL_PWAIT, abi.HandlePoll, addr(b), uintptr(len(b)/12), 0, 0, 8)
}

// blockedWait is how often the queue of the ring is tried again while a peer does
// not read: a connection that the guest has closed reports no events any more.
const blockedWait = 5e6 // ns

func (r *Runner) sleep(b []byte, begin, wait int64) uint64 {
	var ts uintptr
	if wait >= 0 || r.ring.blocked {
		left := int64(blockedWait)
		if wait >= 0 {
			left = max(0, begin+wait-gettime(unix.CLOCK_MONOTONIC))
		}
		if r.ring.blocked {
			left = min(left, blockedWait)
		}
		r.timeout = unix.NsecToTimespec(left)
		ts = ptrOf(&r.timeout)
	}
	return r.block(unix.SYS_EPOLL_PWAIT2, abi.HandlePoll, addr(b), uintptr(len(b)/12), ts, 0, 8)
}

// A spinner says whether to ask for a while before a sleep. That is of no use where
// whoever will send something needs the same processor, however soon that comes
// once this one sleeps; so it is tried after ever more short sleeps, as long as
// it is in vain.
type spinner struct {
	credit int // how often it may be in vain until it is given up
	skip   int // short sleeps until it is tried again
	back   int // what skip begins with
}

const (
	spinCredit = 4
	spinBack   = 1024
)

func (s *spinner) worth() bool { return s.credit > 0 }

func (s *spinner) paid() { s.credit, s.back = spinCredit, 1 }

func (s *spinner) inVain() {
	if s.credit--; s.credit == 0 {
		s.skip = s.back
		s.back = min(max(1, 2*s.back), spinBack)
	}
}

// short is told of a sleep that was no longer than asking would have been.
func (s *spinner) short() {
	if s.credit > 0 {
		return
	}
	if s.skip--; s.skip <= 0 {
		s.credit = 1
	}
}
