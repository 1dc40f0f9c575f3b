package event

import (
	"noyau.dev/guest/kernel"
	"noyau.dev/guest/linux"
	"noyau.dev/guest/rt"
)

func startPoll() {
	kernel.Register(linux.SYS_POLL, func(a kernel.Args) (uintptr, linux.Errno) { return poll(a, deadlineMS(a.A3)) })
	kernel.Register(linux.SYS_PPOLL, func(a kernel.Args) (uintptr, linux.Errno) {
		d, e := deadlineTS(a.A3)
		if e != 0 {
			return 0, e
		}
		return poll(a, d)
	})
	kernel.Register(linux.SYS_SELECT, selectCall)
	kernel.Register(linux.SYS_PSELECT6, pselect)
}

// A watch is one descriptor of a poll or select.
type watch struct {
	kernel.Watcher
	desc *kernel.Desc
	q    *kernel.WaitQueue
	want uint32
	got  uint32
}

// waitAny waits until one of the descriptors has what is wanted of it (errors
// and hang-ups always count, if the want is not 0) or the deadline passes, and
// returns how many have.
func waitAny(ws []watch, deadline int64) (n int) {
	check := func() (n int) {
		for i := range ws {
			w := &ws[i]
			if w.desc != nil {
				if w.got = w.desc.Ready() & (w.want | kernel.Always); w.got != 0 {
					n++
				}
			}
		}
		return n
	}
	if n = check(); n > 0 || deadline == past {
		return n
	}
	p := kernel.GetParker()
	for i := range ws {
		w := &ws[i]
		if w.desc != nil {
			if w.q = w.desc.Queue(); w.q != nil {
				w.Mask, w.To = w.want, p
				w.q.Add(&w.Watcher)
			}
		}
	}
	for {
		if n = check(); n > 0 || !p.Park(deadline) {
			break
		}
	}
	for i := range ws {
		if w := &ws[i]; w.q != nil {
			w.q.Remove(&w.Watcher)
		}
	}
	p.Put()
	return n
}

func poll(a kernel.Args, deadline int64) (uintptr, linux.Errno) {
	if a.A2 > 1<<20 {
		return 0, linux.EINVAL
	}
	fds, e := kernel.Slice[linux.PollFd](a.A1, a.A2)
	if e != 0 {
		return 0, e
	}
	ws := make([]watch, len(fds))
	bad := 0
	for i := range fds {
		fds[i].Revents = 0
		if fds[i].FD < 0 {
			continue
		}
		d, e := kernel.Get(uintptr(fds[i].FD))
		if e != 0 {
			fds[i].Revents = linux.POLLNVAL
			bad++
			continue
		}
		defer d.Put()
		ws[i].desc, ws[i].want = d, interest(uint32(uint16(fds[i].Events)))
	}
	if bad > 0 {
		deadline = past
	}
	n := bad + waitAny(ws, deadline)
	for i := range ws {
		ev := ws[i].got
		if ev&rt.In != 0 {
			ev |= linux.EPOLLRDNORM
		}
		if ev&rt.Out != 0 {
			ev |= linux.EPOLLWRNORM
		}
		fds[i].Revents |= int16(ev & (uint32(uint16(fds[i].Events)) | kernel.Always))
	}
	return uintptr(n), 0
}

func selectCall(a kernel.Args) (uintptr, linux.Errno) {
	if a.A5 == 0 {
		return selectSets(a, 0)
	}
	tv, e := kernel.Ptr[linux.Timeval](a.A5)
	if e != 0 {
		return 0, e
	}
	if tv.Sec < 0 || tv.Usec < 0 {
		return 0, linux.EINVAL
	}
	deadline := after(linux.Timespec{Sec: tv.Sec + tv.Usec/1e6, Nsec: tv.Usec % 1e6 * 1000}.Nano())
	n, e := selectSets(a, deadline)
	if e == 0 {
		*tv = linux.NsecToTimeval(max(deadline-rt.Nanotime(), 0))
	}
	return n, e
}

func pselect(a kernel.Args) (uintptr, linux.Errno) {
	deadline, e := deadlineTS(a.A5)
	if e != 0 {
		return 0, e
	}
	n, e := selectSets(a, deadline)
	if e == 0 && a.A5 != 0 {
		kernel.Put(a.A5, linux.NsecToTimespec(max(deadline-rt.Nanotime(), 0)))
	}
	return n, e
}

// The events that each of select's three sets means.
var setEvents = [3]uint32{rt.In | rt.Hup | rt.Err, rt.Out | rt.Err, rt.Pri}

func selectSets(a kernel.Args, deadline int64) (uintptr, linux.Errno) {
	nfds := int(int32(a.A1))
	if nfds < 0 {
		return 0, linux.EINVAL
	}
	nfds = min(nfds, 64*len(linux.FdSet{}))
	var sets [3][]uint64
	for i, addr := range [3]uintptr{a.A2, a.A3, a.A4} {
		if addr != 0 {
			var e linux.Errno
			if sets[i], e = kernel.Slice[uint64](addr, uintptr((nfds+63)/64)); e != 0 {
				return 0, e
			}
		}
	}
	var ws []watch
	var fds []int
	for fd := range nfds {
		var want uint32
		for i, s := range sets {
			if s != nil && s[fd/64]>>(fd%64)&1 != 0 {
				want |= setEvents[i]
			}
		}
		if want == 0 {
			continue
		}
		d, e := kernel.Get(uintptr(fd))
		if e != 0 {
			return 0, e
		}
		defer d.Put()
		ws, fds = append(ws, watch{desc: d, want: want}), append(fds, fd)
	}
	waitAny(ws, deadline)
	n := 0
	for i, fd := range fds {
		for j, s := range sets {
			if bit := uint64(1) << (fd % 64); s != nil && s[fd/64]&bit != 0 {
				if ws[i].got&setEvents[j] != 0 {
					n++
				} else {
					s[fd/64] &^= bit
				}
			}
		}
	}
	return uintptr(n), 0
}
