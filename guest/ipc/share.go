package ipc

import (
	"sync/atomic"

	"noyau.dev/abi"
	"noyau.dev/guest/host"
	"noyau.dev/guest/kernel"
	"noyau.dev/guest/linux"
	"noyau.dev/guest/rt"
)

// A shareHead lies before the bytes of memory that the app shares. Members ring for each
// other by end 0 of the connection.
type shareHead struct {
	bell rt.Bell
	rung endHead
	_    [48]byte
}

// share is share(bytes, *address): memory that is the same in this pVM and in all that
// it forks from now on. It is never given back. The first 128 bytes are the library OS's.
func share(a kernel.Args) (uintptr, linux.Errno) {
	at, e := kernel.Ptr[uintptr](a.A2)
	if e != 0 {
		return 0, e
	}
	if a.A1 == 0 || a.A1 > 1<<32 {
		return 0, linux.EINVAL
	}
	m, e := newArea((a.A1+abi.PageSize-1)&^(abi.PageSize-1), true)
	if e != 0 {
		return 0, e
	}
	m.src.Only = rt.Hup
	e = linux.Errno(rt.Watch(m.handle[1], &m.src))
	if e == 0 {
		e = m.hear()
	}
	if e != 0 {
		m.closeEventfd()
		m.drop(0)
		m.drop(1)
		return 0, e
	}
	*at = m.p
	return 0, 0
}

func shared(p uintptr) (*area, linux.Errno) {
	areas.mu.Lock()
	defer areas.mu.Unlock()
	if a := areas.m[p]; a != nil && a.end[0] == nil && a.end[1] == nil {
		return a, 0
	}
	return nil, linux.EINVAL
}

// shareWait is wait(memory, address, old): it returns when the uint32 at that address is
// another than old and shareWake was called for that memory since, or before.
func shareWait(a kernel.Args) (uintptr, linux.Errno) {
	m, e := shared(a.A1)
	if e != 0 {
		return 0, e
	}
	v, e := kernel.Ptr[atomic.Uint32](a.A2)
	if e != 0 {
		return 0, e
	}
	hush(&m.share().rung, &m.handle[1])
	for old := uint32(a.A3); v.Load() == old; {
		rt.ParkWord(&rt.Word{At: a.A2, Bell: addrBell(&m.share().bell), Spin: &m.spin}, old)
	}
	return 0, 0
}

// shareWake is wake(memory).
func shareWake(a kernel.Args) (uintptr, linux.Errno) {
	m, e := shared(a.A1)
	if e != 0 {
		return 0, e
	}
	if n, ok := m.share().bell.Pull(); ok {
		if m.eventfd[0] < 0 {
			// Those that wait for other numbers sleep on, and take nothing out.
			hush(&m.share().rung, &m.handle[1])
		}
		gate.RLock()
		if m.eventfd[0] >= 0 {
			for i, h := range m.eventfd {
				if who := rt.Sleeper(n); who == rt.Several || who%2 == uint32(i) {
					host.Ring(h)
				}
			}
		} else {
			m.share().rung.rung.Add(1)
			host.Send(m.handle[0], ding[:], 0)
		}
		gate.RUnlock()
		m.share().bell.Pulled(n)
	}
	return 0, 0
}

// another asks for the second eventfd. Without it there is none.
func (a *area) another() {
	if a.eventfd[0] < 0 {
		return
	}
	r, e := host.Request(abi.Msg{Op: abi.OpPair, A: linux.SOCK_STREAM, C: abi.PairEventfd})
	if e != 0 || r.FD < 0 {
		a.closeEventfd()
		return
	}
	a.eventfd[1] = r.FD
}

// closeEventfd closes the eventfds, if there are any.
func (a *area) closeEventfd() {
	for i, h := range a.eventfd {
		if h >= 0 {
			rt.Unwatch(h)
			host.Close(h)
			a.eventfd[i] = -1
		}
	}
}

// hear watches the eventfd that is this pVM's.
func (a *area) hear() linux.Errno {
	h := a.eventfd[rt.Boot().PID%2]
	if h < 0 {
		return 0
	}
	a.eventSrc.Only = rt.Hup
	return linux.Errno(rt.Watch(h, &a.eventSrc))
}

// forked runs in a pVM that was forked: its eventfds may be the others.
func forked() {
	if kernel.Restored() {
		return // it has none any more: see reshare
	}
	for _, a := range allAreas() {
		if a.eventfd[0] >= 0 && (rt.Boot().PID^rt.Boot().PPID)%2 != 0 {
			rt.Unwatch(a.eventfd[rt.Boot().PPID%2])
			a.hear()
		}
	}
}
