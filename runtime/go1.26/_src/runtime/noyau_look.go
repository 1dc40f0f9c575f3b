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
// To look for a while is only of use while the other member runs on another processor; both
// kinds give it up where nothing comes of it, and try it anew now and then.

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
		end := spin
		if delay >= 0 && delay < end {
			end = delay
		}
		for end += noyauIdle; ; {
			for range 8 {
				if delta, found = noyauLook(toRun, true); found {
					return
				}
				procyield(4)
			}
			if nanotime() >= end {
				break
			}
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

// noyauAwake follows noyauLookAndSleep.
func noyauAwake(slept bool) {
	noyauWordsAwake(slept)
	noyauMailAwake()
}
