package runtime

// What a pVM adds to the runtime: the host call, the boot block, the tick, and the
// functions that the library OS reaches by linkname (its package rt).

import (
	"internal/noyau/abi"
	"internal/runtime/atomic"
	"unsafe"
)

const (
	_noyau_mmap = abi.CallMap

	_noyau_eagain = ^uintptr(11) + 1 // -EAGAIN
)

var noyau struct {
	boot   abi.BootHeader
	chores atomic.Uint32 // the next pass of the scheduler does what sysmon does elsewhere
	notes  atomic.Uint32 // set by notewakeup in a signal handler
	prof   bool          // CPU profile wanted: each tick is a sample
	deaf   uint32        // ticks since a pass last polled
}

// noyauDeaf is at how many ticks the poll is asked under isolation=vm if nobody waits for it.
const noyauDeaf = 4

// noyauHyper is the address of the hypercall page, 0 under isolation=process.
// noyauInfo is the page with the clock's calibration, likewise.
var noyauHyper, noyauInfo uintptr

// noyauHostcall makes a host call and returns its result, -errno on failure.
// It may be called on any stack and neither allocates nor blocks (but for
// CallPoll, which only netpoll makes).
//
//go:noescape
//go:nosplit
func noyauHostcall(nr, a1, a2, a3, a4, a5, a6 uintptr) uintptr

//go:nosplit
func noyauFatal(s string) {
	write(2, unsafe.Pointer(unsafe.StringData(s)), int32(len(s)))
	exit(125)
}

// noyauDie ends the pVM as if sig had killed it.
//
//go:nosplit
//go:nowritebarrierrec
func noyauDie(sig uint32) {
	var m [abi.MsgSize / 8]uint64
	m[0] = abi.OpKilled << 32 // of an abi.Msg: op at 4, A at 16
	m[2] = uint64(sig)
	const dontwait, nosignal = 0x40, 0x4000
	noyauHostcall(abi.CallSend, abi.HandleControl, uintptr(noescape(unsafe.Pointer(&m))), unsafe.Sizeof(m), dontwait|nosignal, 0, 0)
	exit(128 + int32(sig))
}

// noyauBootBlock is the boot block, if it is no longer than that, without the header.
var noyauBootBlock [1024]byte

// noyauInit runs in osinit, before the heap exists.
func noyauInit() {
	n := noyauReadBoot(noyauBootBlock[:])
	if int(n) < abi.BootSize || !noyau.boot.Take(noyauBootBlock[:abi.BootSize]) {
		noyauNotHosted()
	}
	clear(noyauBootBlock[:abi.BootSize])
	noyauMemInit(noyau.boot.Memory)
	if h := noyau.boot.Restore; h != 0 {
		noyauRestore(uintptr(h))
	}
}

// noyauReadBoot reads the boot block, or as much of it as b has room for. The result is that of
// pread.
func noyauReadBoot(b []byte) uintptr {
	if info := noyauInfo; info != 0 {
		if n := *(*uintptr)(unsafe.Pointer(info + abi.VMInfoBootSize)); n != 0 {
			n = min(n, uintptr(len(b)))
			memmove(unsafe.Pointer(&b[0]), unsafe.Pointer(info+abi.VMInfoBoot), n)
			return n
		}
	}
	return noyauHostcall(abi.CallPread, abi.HandleBoot, uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)), 0, 0, 0)
}

// noyauNotHosted ends an image that was not started by a monitor. Standard error is
// then most likely not a socket, so this is the one place that uses write(2).
func noyauNotHosted()

// noyauTick is called by the signal handler at each tick, that is for each
// period of CPU time used. It does what sysmon does elsewhere: a goroutine that
// has had the processor for a whole period gives it up, and the network is polled
// soon. It runs on the signal stack and must not allocate.
//
//go:nowritebarrierrec
func noyauTick(gp *g, mp *m, c *sigctxt) {
	noyau.chores.Store(1)
	noyau.deaf++
	if noyau.prof {
		sigprof(c.sigpc(), c.sigsp(), c.siglr(), gp, mp)
	}
	pp := mp.p.ptr()
	if pp == nil || pp.status != _Prunning {
		return
	}
	t := &pp.sysmontick
	if t.schedtick != pp.schedtick {
		t.schedtick = pp.schedtick
		return
	}
	curg := mp.curg
	if curg == nil || curg == mp.g0 {
		return
	}
	curg.preempt = true
	curg.stackguard0 = stackPreempt
	pp.preempt = true
	if gp == curg && debug.asyncpreemptoff == 0 {
		doSigPreempt(gp, c)
	}
}

// noyauPass runs at each pass of the scheduler and does the rest of sysmon's work.
func noyauPass() {
	noteReady()
	if noyauWords.first != 0 || noyauMailboxes.n != 0 {
		var list gList
		if delta, found := noyauLook(&list, false); found {
			injectglist(&list)
			netpollAdjustWaiters(delta)
		}
	}
	if noyau.chores.Load() == 0 {
		return
	}
	noyau.chores.Store(0)
	// A program that only computes has nobody who waits, and hears of the monitor all the
	// same: signals, the order to write a snapshot. Polling is an exit under isolation=vm, so
	// then it does not at every tick. Ticks count time on the processor: where others take most
	// of it, four of them can take many seconds.
	if netpollinited() && (netpollAnyWaiters() || noyauHyper == 0 || noyau.deaf >= noyauDeaf) {
		noyau.deaf = 0
		list, delta := netpoll(0)
		if !list.empty() {
			injectglist(&list)
			netpollAdjustWaiters(delta)
		}
	}
	if scavenger.sysmonWake.Load() != 0 {
		scavenger.wake()
	}
	if t := (gcTrigger{kind: gcTriggerTime, now: nanotime()}); t.test() && forcegc.idle.Load() {
		lock(&forcegc.lock)
		forcegc.idle.Store(false)
		var list gList
		list.push(forcegc.g)
		injectglist(&list)
		unlock(&forcegc.lock)
	}
}

// noyauDelay bounds how long an idle pVM sleeps: until the forced collection is
// due, if it has collected at all.
func noyauDelay(delay int64) int64 {
	last := int64(atomic.Load64(&memstats.last_gc_nanotime))
	if last == 0 || gcController.gcPercent.Load() < 0 {
		return delay
	}
	d := last + forcegcperiod - nanotime()
	if d <= 0 {
		d = 1
	}
	if delay < 0 || d < delay {
		return d
	}
	return delay
}
