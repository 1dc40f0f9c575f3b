package runtime

// Words: numbers in memory that other members of the family change, and that goroutines
// wait for. The scheduler looks at them at each pass. An idle pVM looks for a while
// before it sleeps, as what is seen then costs no call on either side; then it says in the
// memory that it sleeps, looks again, and goes to the host's poll, where a ring wakes it.
// See internal/noyau/rt.Word.
//
// To look is only of use while the member that will change the word runs on another
// processor. So it is done for no longer than to sleep and be woken costs, which is
// measured; a word for which nothing has come of it is not looked at any more, and
// tried anew after some waits that looking would have made shorter.
//
// Links and goroutines are plain numbers, since the scheduler may not have write barriers;
// who waits keeps its word.

import (
	"internal/runtime/atomic"
	"unsafe"
)

// noyauWord is internal/noyau/rt.Word: the two must have the same layout.
type noyauWord struct {
	at     uintptr // of a uint32
	flag   uintptr // of noyauBell
	spin   *noyauWordSpin
	old    uint32
	events uint32 // for the source; 0: g waits
	handle int32  // of the source
	armed  bool
	g      guintptr
	next   uintptr
	prev   uintptr
	said   uint64 // what this pVM has put into the flag; 0: nothing
}

// noyauBell is internal/noyau/rt.Bell. The low half of flag is the process id of the
// sleeper, noyauSeveral for more than one, or 0; the high half counts announcements, so
// that a ring never takes back one that came after it.
type noyauBell struct {
	flag  uint64
	stamp int64 // when it was rung last
}

const noyauSeveral = 1<<32 - 1

// noyauWordSpin is internal/noyau/rt.Spin. Zero is ready for use.
type noyauWordSpin struct {
	used   bool
	credit int8  // how often to look in vain before it is given up
	skip   int16 // waits until it is tried anew
	back   int16 // what skip begins with
}

const (
	noyauCreditFirst = 2
	noyauCreditMost  = 4
	noyauBackFirst   = 4
	noyauBackMost    = 1024

	// A change so soon after this pVM had nothing to do, ns, is of one that ran at the same time: on
	// this processor it could not have, before this one slept. So looking is tried at once.
	noyauTogether   = 500
	noyauTogetherVM = 4e3
	// Likewise of one that answered as soon as it had the processor, under process where to give
	// way would have been enough. It counts for several waits.
	noyauSoon      = 5e3
	noyauSoonWaits = 16
)

var noyauWords struct {
	first uintptr // *noyauWord
	cost  int64   // what it takes from a ring until the one that slept runs, ns
}

func noyauWordAt(p uintptr) *noyauWord { return (*noyauWord)(unsafe.Pointer(p)) }

// noyauMostSpin is how long to look at most, ns: what falling asleep and being woken takes.
func noyauMostSpin() int64 {
	w := &noyauWords
	lo, hi := int64(3e3), int64(50e3)
	if noyauHyper != 0 {
		lo, hi = 10e3, 250e3
	}
	if w.cost == 0 {
		w.cost = 25e3
		if noyauHyper != 0 {
			w.cost = 80e3
		}
	}
	return min(max(2*w.cost, lo), hi)
}

//go:linkname noyau_await internal/noyau/rt.await
func noyau_await(w *noyauWord, old uint32) {
	w.old = old
	if w.armed {
		return
	}
	if s := w.spin; !s.used {
		s.used, s.credit, s.back = true, noyauCreditFirst, noyauBackFirst
	}
	w.armed = true
	w.said = 0
	w.prev, w.next = 0, noyauWords.first
	if w.next != 0 {
		noyauWordAt(w.next).prev = uintptr(unsafe.Pointer(w))
	}
	noyauWords.first = uintptr(unsafe.Pointer(w))
}

//go:linkname noyau_forgetWord internal/noyau/rt.forgetWord
func noyau_forgetWord(w *noyauWord) {
	if !w.armed {
		return
	}
	w.armed = false
	if w.prev != 0 {
		noyauWordAt(w.prev).next = w.next
	} else {
		noyauWords.first = w.next
	}
	if w.next != 0 {
		noyauWordAt(w.next).prev = w.prev
	}
	w.next, w.prev = 0, 0
}

//go:linkname noyau_parkWord internal/noyau/rt.parkWord
func noyau_parkWord(w *noyauWord, old uint32) {
	netpollGenericInit()
	w.old = old
	netpollAdjustWaiters(1) // it waits for something outside: that is no deadlock
	gopark(noyauParkWord, unsafe.Pointer(w), waitReasonZero, traceBlockGeneric, 1)
	netpollAdjustWaiters(-1)
	KeepAlive(w)
}

// noyauParkWord runs on g0 when gp has stopped. Before, it may still be preempted: then the
// scheduler must not find the word changed, and make ready who does not wait.
func noyauParkWord(gp *g, p unsafe.Pointer) bool {
	w := (*noyauWord)(p)
	w.g.set(gp)
	noyau_await(w, w.old)
	return true
}

func (w *noyauWord) changed() bool {
	return atomic.Load((*uint32)(unsafe.Pointer(w.at))) != w.old
}

// noyauLookWords makes ready who waits for words that have changed. It may run without a P.
func noyauLookWords(toRun *gList, paid bool) (delta int32, found bool) {
	for p := noyauWords.first; p != 0; {
		w := noyauWordAt(p)
		p = w.next
		if !w.changed() {
			continue
		}
		found = true
		if paid {
			w.spin.credit, w.spin.back = noyauCreditMost, noyauBackFirst
		}
		noyau_forgetWord(w)
		if gp := w.g.ptr(); gp != nil {
			w.g = 0
			toRun.push(gp)
		} else if s := noyauPoll.sources[w.handle]; s != nil {
			s.seen |= w.events
			delta += noyauEvent(toRun, s, w.events)
		}
	}
	return delta, found
}

// noyauSpinWords is how long to look at the words before this pVM sleeps, ns.
func noyauSpinWords() int64 {
	for p := noyauWords.first; p != 0; p = noyauWordAt(p).next {
		if noyauWordAt(p).spin.credit > 0 {
			return noyauMostSpin()
		}
	}
	return 0
}

// noyauSpunWords is told that looking for so long was in vain.
func noyauSpunWords() {
	for p := noyauWords.first; p != 0; p = noyauWordAt(p).next {
		if s := noyauWordAt(p).spin; s.credit > 0 {
			if s.credit--; s.credit == 0 {
				s.skip = s.back
				s.back = min(2*s.back, noyauBackMost)
			}
		}
	}
}

// noyauSayWords says that this pVM sleeps, before the words are looked at again.
func noyauSayWords() {
	me := uint64(noyau.boot.PID)
	for p := noyauWords.first; p != 0; p = noyauWordAt(p).next {
		w := noyauWordAt(p)
		for flag := &w.bell().flag; ; {
			old := atomic.Load64(flag)
			who := me
			if o := old & noyauSeveral; o != 0 && o != me {
				who = noyauSeveral
			}
			w.said = (old>>32+1)<<32 | who
			if atomic.Cas64(flag, old, w.said) {
				break
			}
		}
	}
}

// noyauWaits is for how many waits one of d ns counts in which looking is tried anew.
func noyauWaits(d int64) int16 {
	together := int64(noyauTogether)
	if noyauHyper != 0 {
		together = noyauTogetherVM
	}
	switch {
	case d < together:
		return noyauBackMost
	case d < noyauSoon && noyauHyper == 0:
		return noyauSoonWaits
	}
	return 1
}

func (w *noyauWord) bell() *noyauBell { return (*noyauBell)(unsafe.Pointer(w.flag)) }

// noyauWordsAwake follows noyauSayWords, before words are looked at again.
func noyauWordsAwake(slept bool) {
	var now int64
	for p := noyauWords.first; p != 0; p = noyauWordAt(p).next {
		w := noyauWordAt(p)
		b := w.bell()
		said := w.said
		w.said = 0
		if said&noyauSeveral != noyauSeveral && atomic.Cas64(&b.flag, said, said&^noyauSeveral) {
			continue // nobody has rung
		}
		if !slept || !w.changed() {
			continue
		}
		if now == 0 {
			now = nanotime()
		}
		stamp := atomic.Loadint64(&b.stamp)
		if stamp < noyauIdle || stamp > now {
			continue
		}
		most := noyauMostSpin()
		// The cost follows the least that is measured: what is more was a wait for a
		// processor.
		if d := now - stamp; d < noyauWords.cost {
			noyauWords.cost -= (noyauWords.cost - d) / 4
		} else {
			noyauWords.cost += min(d-noyauWords.cost, noyauWords.cost) / 8
		}
		if s := w.spin; s.credit == 0 && stamp-noyauIdle < most {
			if s.skip -= noyauWaits(stamp - noyauIdle); s.skip <= 0 {
				s.credit = 1
			}
		}
	}
}
