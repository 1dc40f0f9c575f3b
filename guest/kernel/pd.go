package kernel

import (
	"sync"

	"noyau.dev/guest/linux"
	"noyau.dev/guest/rt"
)

// attached are the registrations with the runtime's poller. The runtime may
// close one after the descriptor is gone, so they are kept by PD.
var attached struct {
	mu sync.Mutex
	m  map[rt.PD]*attachment
}

type attachment struct {
	Watcher
	file File
	desc *Desc
}

// PollOpen is rt.PollOpen.
func PollOpen(fd int32, pd rt.PD) uint32 {
	d, e := Get(uintptr(fd))
	if e != 0 {
		return uint32(e)
	}
	defer d.Put()
	attached.mu.Lock()
	if d.polled == fd+1 {
		attached.mu.Unlock()
		return uint32(linux.EEXIST)
	}
	d.polled = fd + 1
	attached.mu.Unlock()
	t := &attachment{file: d.File, desc: d}
	if a, ok := d.File.(PDAttacher); ok {
		a.AttachPD(uintptr(pd))
	} else {
		q := d.Queue()
		if q == nil {
			attached.mu.Lock()
			d.polled = 0
			attached.mu.Unlock()
			return uint32(linux.EPERM) // always ready
		}
		t.Mask, t.PD = rt.In|rt.Out|rt.Pri|rt.RdHup, pd
		q.Add(&t.Watcher)
	}
	attached.mu.Lock()
	if attached.m == nil {
		attached.m = make(map[rt.PD]*attachment)
	}
	attached.m[pd] = t
	attached.mu.Unlock()
	if t.PD != 0 {
		if ev := d.Ready(); ev != 0 {
			rt.Ready(pd, ev)
		}
	}
	return 0
}

// PollClose is rt.PollClose. After it pd is not made ready again.
func PollClose(fd int32, pd rt.PD) {
	attached.mu.Lock()
	t := attached.m[pd]
	delete(attached.m, pd)
	if t != nil && t.desc.polled == fd+1 {
		t.desc.polled = 0
	}
	attached.mu.Unlock()
	switch {
	case t == nil:
	case t.PD != 0:
		t.file.Queue().Remove(&t.Watcher)
	default:
		t.file.(PDAttacher).DetachPD(uintptr(pd))
	}
}
