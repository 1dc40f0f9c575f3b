package runtime

// What other members of the family write into memory that this pVM shares with them:
// words that somebody waits for (noyau_word.go), and mailboxes (noyau_mail.go). The
// scheduler looks at both at each pass, where it would look at the host's poll.
//
// An idle pVM looks for a while before it sleeps, as what is seen then costs no call on
// either side. Then it says in the memory that it sleeps, looks again, and goes to the
// host's poll, where a ring wakes it. Who writes looks afterwards whether to ring: one of
// the two sees the other.
//
// To look for a while is only of use while the other member runs: on another processor, or
// on this one whenever this pVM gives way. Both kinds give it up where nothing comes of it, and try it anew
// now and then.

import "internal/noyau/abi"

// noyauIdle is when this pVM had nothing to do.
var noyauIdle int64

// noyauLook makes ready who waits for what has come; paid: after looking for a while. It
// may run without a P.
func noyauLook(toRun *gList, paid bool) (delta int32, found bool) {
	if noyauWords.first != 0 {
		delta, found = noyauLookWords(toRun, paid)
	}
	if noyauMailboxes.n != 0 {
		if d, ok := noyauLookMail(toRun, paid); ok {
			delta, found = delta+d, true
		}
	}
	return delta, found
}

// noyauLookAndSleep looks for a while, and then says that this pVM sleeps. If something
// has come it does not.
func noyauLookAndSleep(delay int64, toRun *gList) (delta int32, found bool) {
	if delta, found = noyauLook(toRun, false); found {
		return
	}
	noyauIdle = nanotime()
	if spin := max(noyauSpinWords(), noyauSpinMail()); spin > 0 {
		if delay >= 0 && delay < spin {
			spin = delay
		}
		if delta, found = noyauLookUntil(noyauIdle+spin, toRun); found {
			return
		}
		noyauSpunWords()
		noyauSpunMail()
	}
	noyauSayWords()
	noyauSayMail()
	if delta, found = noyauLook(toRun, false); found {
		noyauAwake(false)
	}
	return
}

// noyauLookUntil looks, and gives way in between, until something has come or it is end, nanotime.
func noyauLookUntil(end int64, toRun *gList) (delta int32, found bool) {
	way := &noyauWay
	for now := noyauIdle; ; {
		if way.first {
			noyauGiveWay(now)
			delta, found = noyauLook(toRun, true)
		}
		for i := 0; i < 8 && !found; i++ {
			procyield(4)
			if delta, found = noyauLook(toRun, true); found {
				way.first = false
			}
		}
		if found {
			return
		}
		if now = nanotime(); now >= end {
			way.first = false
			return
		}
		way.first = noyauHyper == 0 && noyau.boot.Flags&abi.BootFork != 0 && now >= way.until
	}
}

// noyauAwake follows noyauLookAndSleep.
func noyauAwake(slept bool) {
	noyauWordsAwake(slept)
	noyauMailAwake()
}

// Two members on one processor: under process the one that waits lets the other run, which costs less
// than to sleep and to be woken. The kernel makes who gives way wait for all that have the
// processor to themselves, a slice of time for each: where there are such it is given up for a
// while.
var noyauWay struct {
	first bool  // give way before looking: what came last came of that
	until int64 // when it may be tried again, nanotime
	back  int64 // for how many times as long as it took it was given up last
}

const (
	noyauWayShort = 1e3   // ns: nobody else ran
	noyauWayLong  = 500e3 // others than members had a slice of time
	noyauWayFirst = 16
	noyauWayMost  = 512
)

// noyauGiveWay is called at begin, nanotime.
func noyauGiveWay(begin int64) {
	way := &noyauWay
	noyauHostcall(abi.CallYield, 0, 0, 0, 0, 0, 0)
	now := nanotime()
	d := now - begin
	if d < noyauWayShort {
		way.first = false
	}
	if d < noyauWayLong {
		return
	}
	if now-way.until > way.back*d {
		way.back = noyauWayFirst // it was no trouble for as long
	} else {
		way.back = min(2*way.back, noyauWayMost)
	}
	way.first = false
	way.until = now + way.back*d
}
