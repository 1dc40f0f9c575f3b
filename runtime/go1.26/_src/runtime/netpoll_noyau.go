package runtime

// The network poller over the host's poll.
//
// The library OS registers host handles (noyau_watch); the descriptors of the app
// are attached to its files by hooks. An event of a handle goes straight to the
// pollDesc of the one descriptor that most handles have, and to the library OS's
// dispatcher goroutine for those that more watch.
//
// No wake-up is lost: events are edge-triggered and registered when the handle is
// made, an event that finds no pollDesc stays in source.seen, and attaching a
// pollDesc reports what is in seen at once. Handles are read and
// written only until they say EAGAIN, after which the host reports the next edge.
// All of this runs on one thread; the only thing that interleaves is goroutine
// preemption, which cannot happen inside netpoll (it runs on g0).

import (
	"internal/noyau/abi"
	"internal/runtime/syscall/linux"
	"unsafe"
)

// noyauSource is internal/noyau/rt.Source: the two must have the same layout.
type noyauSource struct {
	notify func(uint32)
	slow   bool
	pd     *pollDesc
	only   uint32
	handle int32
	next   int32
	events uint32
	seen   uint32
}

// The dispatcher may run before the first handle is watched, which is what
// initializes the poller: what it reads is right from the start.
var noyauPoll = struct {
	sources []*noyauSource // by handle
	pending int32          // first handle with events for the dispatcher, -1 for none
	parked  guintptr       // the dispatcher, if it waits
}{pending: -1}

// Hooks of the library OS: PollOpen and PollClose of internal/noyau/rt.
var noyauPollOpen func(fd int32, pd uintptr) uint32
var noyauPollClose func(fd int32, pd uintptr)

//go:linkname noyau_hooks internal/noyau/rt.setHooks
func noyau_hooks(open func(fd int32, pd uintptr) uint32, close func(fd int32, pd uintptr)) {
	noyauPollOpen, noyauPollClose = open, close
}

func netpollinit() {}

func netpollIsPollDescriptor(fd uintptr) bool { return false }

func netpollopen(fd uintptr, pd *pollDesc) uintptr {
	if noyauPollOpen == nil {
		return 1 // EPERM
	}
	return uintptr(noyauPollOpen(int32(fd), uintptr(unsafe.Pointer(pd))))
}

func netpollclose(fd uintptr) uintptr { panic("netpollclose without pd") }

func noyauNetpollclose(pd *pollDesc) {
	if noyauPollClose != nil {
		noyauPollClose(int32(pd.fd), uintptr(unsafe.Pointer(pd)))
	}
}

func netpollarm(pd *pollDesc, mode int) {
	throw("runtime: unused")
}

// netpollBreak interrupts a netpoll; with one thread nobody can be in it.
func netpollBreak() {}

func noyauMode(events uint32) int32 {
	var mode int32
	if events&(linux.EPOLLIN|linux.EPOLLRDHUP|linux.EPOLLHUP|linux.EPOLLERR) != 0 {
		mode += 'r'
	}
	if events&(linux.EPOLLOUT|linux.EPOLLHUP|linux.EPOLLERR) != 0 {
		mode += 'w'
	}
	return mode
}

//go:linkname noyau_watch internal/noyau/rt.watch
func noyau_watch(handle int32, s *noyauSource) uint32 {
	netpollGenericInit()
	for int(handle) >= len(noyauPoll.sources) {
		grown := make([]*noyauSource, max(64, 2*len(noyauPoll.sources)))
		copy(grown, noyauPoll.sources)
		noyauPoll.sources = grown
	}
	s.handle = handle
	s.events, s.seen, s.next = 0, 0, -1
	noyauPoll.sources[handle] = s
	if r := noyauWatch(handle); int(r) < 0 {
		noyauPoll.sources[handle] = nil
		return uint32(-int(r))
	}
	return 0
}

// noyau_unwatch forgets a handle that is about to be closed: closing it also takes
// it out of the host's poll, unless a fork has another descriptor of it.
//
//go:linkname noyau_unwatch internal/noyau/rt.unwatch
func noyau_unwatch(handle int32) {
	if int(handle) >= len(noyauPoll.sources) || noyauPoll.sources[handle] == nil {
		return
	}
	s := noyauPoll.sources[handle]
	// If it is in the pending list take it out.
	if s.events != 0 {
		for p := &noyauPoll.pending; *p >= 0; p = &noyauPoll.sources[*p].next {
			if *p == handle {
				*p = s.next
				break
			}
		}
		s.events = 0
	}
	noyauPoll.sources[handle] = nil
	if noyauForked {
		var ev linux.EpollEvent
		noyauHostcall(abi.CallWatch, abi.HandlePoll, linux.EPOLL_CTL_DEL, uintptr(handle), uintptr(noescape(unsafe.Pointer(&ev))), 0, 0)
	}
}

// noyau_setPD attaches pd to s, or detaches with nil. What the handle has reported
// before is reported to pd at once.
//
//go:linkname noyau_setPD internal/noyau/rt.setPD
func noyau_setPD(s *noyauSource, pd *pollDesc) {
	s.pd = pd
	if pd != nil && s.seen != 0 {
		noyau_ready(pd, s.seen)
	}
}

// noyau_next is what the library OS's dispatcher goroutine loops over: it gives the
// next source that has events for it, parking until there is one.
//
//go:linkname noyau_next internal/noyau/rt.next
func noyau_next() (*noyauSource, uint32) {
	for {
		if h := noyauPoll.pending; h >= 0 {
			s := noyauPoll.sources[h]
			noyauPoll.pending = s.next
			ev := s.events
			s.events, s.next = 0, -1
			return s, ev
		}
		gopark(noyauParkNext, nil, waitReasonIOWait, traceBlockNet, 1)
	}
}

// noyauParkNext runs on g0 when the dispatcher has stopped. Before, it may still be preempted:
// then netpoll must not find it parked, and may find something for it.
func noyauParkNext(gp *g, _ unsafe.Pointer) bool {
	if noyauPoll.pending >= 0 {
		return false
	}
	noyauPoll.parked.set(gp)
	return true
}

// netpoll checks for ready handles: see netpoll.go for its contract.
func netpoll(delay int64) (gList, int32) {
	if noyauPoll.sources == nil && delay == 0 {
		return gList{}, 0
	}
	var waitms int32
	if delay != 0 {
		delay = noyauDelay(delay)
	}
	if delay < 0 {
		waitms = -1
	} else if delay == 0 {
		waitms = 0
	} else if delay < 1e6 {
		waitms = 1
	} else if delay < 1e15 {
		waitms = int32(delay / 1e6)
	} else {
		waitms = 1e9
	}
	var toRun gList
	slept := delay != 0 && (noyauWords.first != 0 || noyauMailboxes.n != 0)
	if slept {
		if delta, found := noyauLookAndSleep(delay, &toRun); found {
			return toRun, delta
		}
	}
	var events [128]linux.EpollEvent
	r := int(noyauHostcall(abi.CallPoll, abi.HandlePoll, uintptr(noescape(unsafe.Pointer(&events))), uintptr(len(events)), uintptr(waitms), 0, 8))
	if slept {
		noyauAwake(true)
	}
	if r == 0 && waitms != 0 {
		// Time has passed: the forced collection may be due.
		noyau.chores.Store(1)
	}
	if r < 0 {
		if r != -_EINTR {
			println("runtime: host poll failed with", -r)
			throw("runtime: netpoll failed")
		}
		r = 0
	}
	delta := int32(0)
	for i := 0; i < r; i++ {
		ev := &events[i]
		h := *(*uint32)(unsafe.Pointer(&ev.Data))
		if ev.Events == 0 || int(h) >= len(noyauPoll.sources) {
			continue
		}
		s := noyauPoll.sources[h]
		if s == nil {
			continue
		}
		if slept {
			noyauMailRung(s)
		}
		s.seen |= ev.Events
		events := ev.Events
		if s.only != 0 {
			events &= s.only | linux.EPOLLRDHUP | linux.EPOLLHUP | linux.EPOLLERR
		}
		if events != 0 {
			delta += noyauEvent(&toRun, s, events)
		}
	}
	d, _ := noyauLook(&toRun, false)
	delta += d
	return toRun, delta
}

// noyauEvent hands events to whom s has: the goroutines of its pollDesc, the dispatcher.
func noyauEvent(toRun *gList, s *noyauSource, events uint32) (delta int32) {
	if pd := s.pd; pd != nil {
		if mode := noyauMode(events); mode != 0 {
			pd.setEventErr(events == linux.EPOLLERR, pd.fdseq.Load())
			delta = netpollready(toRun, pd, mode)
		}
	}
	if s.slow {
		if s.events == 0 {
			s.next = noyauPoll.pending
			noyauPoll.pending = s.handle
		}
		s.events |= events
		if gp := noyauPoll.parked.ptr(); gp != nil {
			noyauPoll.parked = 0
			toRun.push(gp)
		}
	}
	return delta
}
