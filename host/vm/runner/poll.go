package runner

import (
	"golang.org/x/sys/unix"

	"noyau.dev/abi"
	"noyau.dev/host/vm/machine"
)

// poll answers epoll_pwait. First it asks without waiting, as
// long as the last wait was short: going to sleep and being woken costs more
// than a few microseconds of asking again. Then it sleeps, and the guest with
// it: no timer runs, no tick comes.
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
	if r.spin > 0 {
		for now := begin; now-begin < min(r.spin, wait&(1<<63-1)); now = gettime(unix.CLOCK_MONOTONIC) {
			if v := r.ask(b); v != 0 {
				r.Counts.Spins++
				r.adapt(now - begin)
				r.ring.fill(b, v)
				return v
			}
		}
	}
	r.Counts.Sleeps++
	r.clock.pause()
	v = r.sleep(b, begin, wait)
	for r.ring.blocked && v == 0 && (wait < 0 || gettime(unix.CLOCK_MONOTONIC) < begin+wait) {
		r.ring.flush()
		v = r.sleep(b, begin, wait)
	}
	r.adapt(gettime(unix.CLOCK_MONOTONIC) - begin)
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

// adapt sets how long the next wait asks before it sleeps.
func (r *Runner) adapt(waited int64) {
	if waited < r.spinMax {
		r.spin = r.spinMax
	} else {
		r.spin /= 2
	}
}
