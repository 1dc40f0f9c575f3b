package runtime

// Fork. There is one thread, so a copy of the memory and of the registers is a copy of
// the program, goroutines included. What this file does is the rest: handles that
// belong to the parent alone, the poller, the tick, the random generators.

import (
	"internal/noyau/abi"
	"internal/runtime/syscall/linux"
	"unsafe"
)

const noyauMaxHandles = 1 << 17

// noyauOwn has a bit for each connection. They are noted and forgotten in the same
// breath as the host call that makes or ends them: goroutines are not preempted in
// this package, so a fork never sees a connection that is not noted.
var noyauOwn [noyauMaxHandles / 64]uint64

// noyauOwnTop is above all handles in noyauOwn.
var noyauOwnTop uintptr

// noyauForked says that this pVM shares open files with others: closing a handle
// does not take it out of the poller then.
var noyauForked bool

//go:nosplit
func noyauNote(handle uintptr) {
	noyauOpened(handle)
	if handle < noyauMaxHandles {
		noyauOwn[handle/64] |= 1 << (handle % 64)
		if handle >= noyauOwnTop {
			noyauOwnTop = handle + 1
		}
	}
}

//go:nosplit
func noyauForget(handle uintptr) {
	if handle < noyauMaxHandles {
		noyauOwn[handle/64] &^= 1 << (handle % 64)
		noyauOpen[handle/64] &^= 1 << (handle % 64)
	}
}

// noyauReceivedHdr is noyauReceived for a message that recvmsg has stored.
//
//go:nosplit
func noyauReceivedHdr(hdr uintptr) {
	word := func(p uintptr) uintptr { return *(*uintptr)(unsafe.Pointer(p)) }
	const cmsgHdr, rights = 16, 1
	if room := word(hdr + 40); room >= cmsgHdr {
		c := word(hdr + 32)
		if n := word(c); n > cmsgHdr && n <= room && *(*uint32)(unsafe.Pointer(c + 12)) == rights {
			noyauReceived(word(word(hdr+16)), c+cmsgHdr, (n-cmsgHdr)/4)
		}
	}
}

// noyauReceived looks at a message b of the monitor's that has come with the n handles
// at p beside it: that in an answer to a request for a connection is noted.
//
//go:nosplit
func noyauReceived(b, p, n uintptr) {
	handle := func(i uintptr) uintptr { return uintptr(*(*uint32)(unsafe.Pointer(p + 4*i))) }
	for i := range n {
		noyauOpened(handle(i))
	}
	op := *(*uint16)(unsafe.Pointer(b + 4))
	answer := *(*uint32)(unsafe.Pointer(b)) != 0
	if n > 0 && !answer && op == abi.EvLink {
		noyauNote(handle(0))
	}
	if n > 0 && answer && (op == abi.OpSignalLink || op == abi.OpConnect || op == abi.OpExecFile || op == abi.OpNameDial || op == abi.OpUDP && *(*uint64)(unsafe.Pointer(b + 16)) == 0) {
		noyauNote(handle(0))
	}
}

// noyau_fork makes the host call with the handles that the monitor gave. It returns
// 0 in the child.
//
//go:linkname noyau_fork internal/noyau/rt.fork
func noyau_fork(h *[abi.ForkHandles]int32) (r uintptr) {
	systemstack(func() {
		if noyauHyper != 0 {
			r = noyauForkVM(h)
		} else if r = noyauHostcall(abi.CallFork, abi.ForkFlags, 0, 0, 0, 0, 0); r == 0 {
			noyauChild(h)
		}
		if int(r) >= 0 {
			noyauForked = true
		}
		if r == 0 {
			noyauMailForget()
		}
	})
	return r
}

// noyauChild runs on g0 as the first thing in a child.
func noyauChild(h *[abi.ForkHandles]int32) {
	const cloexec = 0x80000
	for i := uintptr(0); i < abi.ForkDead; i++ {
		noyauHostcall(abi.CallDup, uintptr(h[i]), abi.HandleControl+i, cloexec, 0, 0, 0)
		noyauHostcall(abi.CallClose, uintptr(h[i]), 0, 0, 0, 0, 0)
	}
	const diesWithParent, sigkill = 1, 9
	noyauHostcall(abi.CallPrctl, diesWithParent, sigkill, 0, 0, 0, 0)

	memory := noyau.boot.Memory
	n := noyauReadBoot(noyauBootBlock[:abi.BootSize])
	if n != abi.BootSize || !noyau.boot.Take(noyauBootBlock[:abi.BootSize]) {
		exit(125)
	}
	clear(noyauBootBlock[:abi.BootSize])
	noyau.boot.Memory = memory
	noyauReseed()

	// The monitor learns from the kernel who says this.
	var hello [abi.MsgSize]byte
	(&abi.Msg{Op: abi.OpHello}).Put(hello[:])
	noyauHostcall(abi.CallSend, abi.HandleControl, uintptr(noescape(unsafe.Pointer(&hello))), uintptr(len(hello)), 0x4040, 0, 0)

	dead := uintptr(h[abi.ForkDead])
	for w := range noyauOwn[:(noyauOwnTop+63)/64] {
		for i, bits := uintptr(w)*64, noyauOwn[w]; bits != 0; i, bits = i+1, bits>>1 {
			if bits&1 != 0 {
				noyauHostcall(abi.CallDup, dead, i, cloexec, 0, 0, 0)
			}
		}
	}
	noyauHostcall(abi.CallClose, dead, 0, 0, 0, 0, 0)
	for handle, s := range noyauPoll.sources {
		if s != nil {
			noyauWatch(int32(handle))
		}
	}
	if us := int64(noyau.boot.TickUS); us > 0 {
		it := [4]int64{us / 1e6, us % 1e6, us / 1e6, us % 1e6}
		noyauHostcall(abi.CallItimer, _ITIMER_PROF, uintptr(noescape(unsafe.Pointer(&it))), 0, 0, 0, 0)
	}
}

// noyauReseed begins the random generators anew from the boot block. Seeds of hashes
// stay, since tables are made by them.
func noyauReseed() {
	lock(&globalRand.lock)
	globalRand.state.Init(noyau.boot.Seed)
	unlock(&globalRand.lock)
	clear(noyau.boot.Seed[:])
	mrandinit(getg().m)
}

// noyauWatch registers a handle with the host's poll.
func noyauWatch(handle int32) uintptr {
	if info := noyauInfo; info != 0 && handle == abi.HandleControl && *(*uint64)(unsafe.Pointer(info + abi.VMInfoWatched)) != 0 {
		return 0
	}
	var ev linux.EpollEvent
	ev.Events = linux.EPOLLIN | linux.EPOLLOUT | linux.EPOLLRDHUP | linux.EPOLLET
	*(*uint64)(unsafe.Pointer(&ev.Data)) = uint64(uint32(handle))
	return noyauHostcall(abi.CallWatch, abi.HandlePoll, linux.EPOLL_CTL_ADD, uintptr(handle), uintptr(noescape(unsafe.Pointer(&ev))), 0, 0)
}
