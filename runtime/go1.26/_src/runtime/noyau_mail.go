package runtime

// Mailboxes: words in memory that other members of the family write, and that the
// scheduler looks at where it would look at the host's poll. See internal/noyau/rt.Mailbox.
//
// An idle pVM looks for a while before it sleeps: to sleep and to be woken costs about as
// much as noyauSpin, and what is seen meanwhile costs no call on either side. That is
// only of use while the other member runs on another processor, so the time is halved
// when nothing has come of it, down to none, and tried anew now and then while things come
// soon after this pVM has gone to sleep.

import (
	"internal/noyau/abi"
	"internal/runtime/atomic"
	"internal/runtime/syscall/linux"
	_ "unsafe" // for linkname
)

// What sleeping and being woken costs, ns: under vm it takes exits on both sides.
const (
	noyauSpinProcess = 40e3
	noyauSpinVM      = 100e3
	noyauSpinLeast   = 1e3 // less is not worth it
	noyauSpinRetry   = 32  // sleeps that were short
)

// noyauMailbox is internal/noyau/rt.Mailbox: the two must have the same layout.
type noyauMailbox struct {
	word, asleep *uint32
	source       *noyauSource
	seen         uint32
}

// noyauMailboxes are the mailboxes that are attended to, the latest first. In those of others
// asleep is always set.
var noyauMailboxes struct {
	list  [abi.MailboxMost]*noyauMailbox
	n     int
	spin  int64 // how long to look before the next sleep, ns
	limit int64 // its most
	begin int64 // when this pVM went to sleep
	short int   // sleeps that were since it last looked at all
}

//go:linkname noyau_attend internal/noyau/rt.Attend
func noyau_attend(m *noyauMailbox) {
	t := &noyauMailboxes
	at := -1
	for i := 0; i < t.n; i++ {
		if t.list[i] == m {
			at = i
		}
	}
	if at == 0 {
		return
	}
	if at < 0 {
		if t.n == len(t.list) {
			noyau_ignore(t.list[t.n-1])
		}
		at = t.n
		t.n++
		t.limit = noyauSpinProcess
		if noyauHyper != 0 {
			t.limit = noyauSpinVM
		}
		t.spin = t.limit
	}
	for ; at > 0; at-- {
		t.list[at] = t.list[at-1]
	}
	t.list[0] = m
	atomic.Store(m.asleep, 0)
}

// noyau_ignore may find that something has come before the other side could know that
// nobody looks any more.
//
//go:linkname noyau_ignore internal/noyau/rt.Ignore
func noyau_ignore(m *noyauMailbox) {
	t := &noyauMailboxes
	for i := 0; i < t.n; i++ {
		if t.list[i] != m {
			continue
		}
		t.n--
		for ; i < t.n; i++ {
			t.list[i] = t.list[i+1]
		}
		t.list[t.n] = nil
	}
	atomic.Xchg(m.asleep, 1)
	if v := atomic.Load(m.word); v != m.seen {
		m.seen = v
		var list gList
		delta := noyauEvent(&list, m.source, linux.EPOLLIN)
		netpollAdjustWaiters(delta)
		for !list.empty() {
			goready(list.pop(), 2)
		}
	}
}

// noyauMailForget is for a pVM that is a copy of another.
func noyauMailForget() {
	noyauMailboxes.n = 0
}

// noyauLook makes ready who waits for what has come. It may run without a P.
func noyauLook(toRun *gList) (delta int32, found bool) {
	t := &noyauMailboxes
	for i := 0; i < t.n; i++ {
		m := t.list[i]
		if v := atomic.Load(m.word); v != m.seen {
			m.seen = v
			delta += noyauEvent(toRun, m.source, linux.EPOLLIN)
			found = true
		}
	}
	return delta, found
}

// noyauMailSleep looks for a while, and then says that this pVM sleeps. If something has
// come it does not.
func noyauMailSleep(delay int64, toRun *gList) (delta int32, found bool) {
	t := &noyauMailboxes
	t.begin = nanotime()
	if delta, found = noyauLook(toRun); found {
		return
	}
	if t.spin >= noyauSpinLeast {
		end := t.spin
		if delay >= 0 && delay < end {
			end = delay
		}
		for end += t.begin; ; {
			for range 16 {
				procyield(2)
				if delta, found = noyauLook(toRun); found {
					t.spin = t.limit
					return
				}
			}
			if nanotime() >= end {
				break
			}
		}
		t.spin /= 2
	}
	for i := 0; i < t.n; i++ {
		atomic.Xchg(t.list[i].asleep, 1) // before the words are read again
	}
	if delta, found = noyauLook(toRun); found {
		noyauMailAwake()
	}
	return
}

// noyauMailAwake follows noyauMailSleep.
func noyauMailAwake() {
	t := &noyauMailboxes
	for i := 0; i < t.n; i++ {
		atomic.Store(t.list[i].asleep, 0)
	}
}

// noyauMailRung is told that the poll has an event of s. If it is the doorbell of a mailbox
// and has come soon, looking for a while might have been better than to sleep.
func noyauMailRung(s *noyauSource) {
	t := &noyauMailboxes
	if t.spin >= noyauSpinLeast {
		return
	}
	for i := 0; i < t.n; i++ {
		if t.list[i].source == s && nanotime()-t.begin < 2*t.limit {
			if t.short++; t.short >= noyauSpinRetry {
				t.short, t.spin = 0, t.limit
			}
		}
	}
}
