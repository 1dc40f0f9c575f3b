package proc

import (
	"sync"
	"sync/atomic"

	"noyau.dev/guest/kernel"
	"noyau.dev/guest/linux"
	"noyau.dev/guest/rt"
)

// Waiters of futex(2) by address, for users of x/sys; Go's own locks do not
// come here.
var futexes struct {
	sync.Mutex
	m map[uintptr][]*futexWaiter
}

type futexWaiter struct {
	p     *kernel.Parker
	bits  uint32
	woken bool
}

func futex(a kernel.Args) (uintptr, linux.Errno) {
	op := a.A2 &^ (linux.FUTEX_PRIVATE_FLAG | linux.FUTEX_CLOCK_REALTIME)
	bits := uint32(a.A6)
	switch op {
	case linux.FUTEX_WAIT, linux.FUTEX_WAKE:
		bits = ^uint32(0)
	case linux.FUTEX_WAIT_BITSET, linux.FUTEX_WAKE_BITSET:
		if bits == 0 {
			return 0, linux.EINVAL
		}
	default:
		return 0, linux.ENOSYS
	}
	if a.A1%4 != 0 {
		return 0, linux.EINVAL
	}
	word, e := kernel.Ptr[uint32](a.A1)
	if e != 0 {
		return 0, e
	}
	if op == linux.FUTEX_WAKE || op == linux.FUTEX_WAKE_BITSET {
		return wake(a.A1, int(int32(a.A3)), bits), 0
	}
	var deadline int64
	if a.A4 != 0 {
		t, e := kernel.Ptr[linux.Timespec](a.A4)
		if e != 0 {
			return 0, e
		}
		if !t.Valid() {
			return 0, linux.EINVAL
		}
		deadline = t.Nano()
		switch {
		case op == linux.FUTEX_WAIT:
			deadline = min(deadline, 1<<62) + rt.Nanotime()
		case a.A2&linux.FUTEX_CLOCK_REALTIME != 0:
			deadline += rt.Nanotime() - kernel.Now()
		}
		deadline = max(deadline, 1)
	}
	return 0, wait(a.A1, word, uint32(a.A3), bits, deadline)
}

func wait(addr uintptr, word *uint32, val, bits uint32, deadline int64) linux.Errno {
	w := &futexWaiter{p: kernel.GetParker(), bits: bits}
	defer w.p.Put()
	futexes.Lock()
	if atomic.LoadUint32(word) != val {
		futexes.Unlock()
		return linux.EAGAIN
	}
	if futexes.m == nil {
		futexes.m = make(map[uintptr][]*futexWaiter)
	}
	futexes.m[addr] = append(futexes.m[addr], w)
	futexes.Unlock()
	for {
		inTime := w.p.Park(deadline)
		futexes.Lock()
		woken := w.woken
		if !woken && !inTime {
			forget(addr, w)
		}
		futexes.Unlock()
		if woken {
			return 0
		}
		if !inTime {
			return linux.ETIMEDOUT
		}
	}
}

// forget removes w. The lock is held.
func forget(addr uintptr, w *futexWaiter) {
	list := futexes.m[addr]
	for i := range list {
		if list[i] == w {
			list = append(list[:i], list[i+1:]...)
			break
		}
	}
	if futexes.m[addr] = list; len(list) == 0 {
		delete(futexes.m, addr)
	}
}

func wake(addr uintptr, n int, bits uint32) (woken uintptr) {
	futexes.Lock()
	defer futexes.Unlock()
	for _, w := range append([]*futexWaiter(nil), futexes.m[addr]...) {
		if int(woken) >= n {
			break
		}
		if w.bits&bits != 0 {
			w.woken = true
			forget(addr, w)
			w.p.Wake(0)
			woken++
		}
	}
	return woken
}
