package runtime

// Mailboxes: words in memory that other members of the family write: see noyauLook. See
// internal/noyau/rt.Mailbox.
//
// How long an idle pVM looks before it sleeps is about what it costs to sleep and to be
// woken. The time is halved when nothing has come of it, down to none, and tried anew now
// and then while things come soon after this pVM has gone to sleep.

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

// noyauLookMail is noyauLook for mailboxes.
func noyauLookMail(toRun *gList, paid bool) (delta int32, found bool) {
	t := &noyauMailboxes
	for i := 0; i < t.n; i++ {
		m := t.list[i]
		if v := atomic.Load(m.word); v != m.seen {
			m.seen = v
			delta += noyauEvent(toRun, m.source, linux.EPOLLIN)
			found = true
		}
	}
	if found && paid {
		t.spin = t.limit
	}
	return delta, found
}

// noyauSpinMail is how long to look at the mailboxes before this pVM sleeps, ns.
func noyauSpinMail() int64 {
	if t := &noyauMailboxes; t.n != 0 && t.spin >= noyauSpinLeast {
		return t.spin
	}
	return 0
}

// noyauSpunMail is told that looking for so long was in vain.
func noyauSpunMail() {
	if noyauMailboxes.n != 0 {
		noyauMailboxes.spin /= 2
	}
}

// noyauSayMail says that this pVM sleeps, before the words are looked at again.
func noyauSayMail() {
	t := &noyauMailboxes
	for i := 0; i < t.n; i++ {
		atomic.Xchg(t.list[i].asleep, 1)
	}
}

// noyauMailAwake follows noyauSayMail.
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
		if t.list[i].source == s && nanotime()-noyauIdle < 2*t.limit {
			if t.short++; t.short >= noyauSpinRetry {
				t.short, t.spin = 0, t.limit
			}
		}
	}
}
