package event

import (
	"noyau.dev/guest/kernel"
	"noyau.dev/guest/linux"
	"noyau.dev/guest/rt"
)

func startEpoll() {
	kernel.Register(linux.SYS_EPOLL_CREATE, func(a kernel.Args) (uintptr, linux.Errno) {
		if int32(a.A1) <= 0 {
			return 0, linux.EINVAL
		}
		return epollCreate(0)
	})
	kernel.Register(linux.SYS_EPOLL_CREATE1, func(a kernel.Args) (uintptr, linux.Errno) { return epollCreate(uint32(a.A1)) })
	kernel.Register(linux.SYS_EPOLL_CTL, epollCtl)
	inMS := func(a kernel.Args) (uintptr, linux.Errno) { return epollWait(a, deadlineMS(a.A4)) }
	kernel.Register(linux.SYS_EPOLL_WAIT, inMS)
	kernel.Register(linux.SYS_EPOLL_PWAIT, inMS)
	kernel.Register(linux.SYS_EPOLL_PWAIT2, func(a kernel.Args) (uintptr, linux.Errno) {
		d, e := deadlineTS(a.A4)
		if e != 0 {
			return 0, e
		}
		return epollWait(a, d)
	})
}

// A deadline is a time of rt.Nanotime: 0 for none, past for "do not wait".
const past = 1

func deadlineMS(ms uintptr) int64 {
	switch t := int64(int32(ms)); {
	case t < 0:
		return 0
	case t == 0:
		return past
	default:
		return rt.Nanotime() + t*1e6
	}
}

// deadlineTS reads the struct timespec at addr; nil means no deadline.
func deadlineTS(addr uintptr) (int64, linux.Errno) {
	if addr == 0 {
		return 0, 0
	}
	t, e := kernel.Ptr[linux.Timespec](addr)
	if e != 0 {
		return 0, e
	}
	if !t.Valid() {
		return 0, linux.EINVAL
	}
	return after(t.Nano()), 0
}

func after(ns int64) int64 {
	if ns == 0 {
		return past
	}
	return rt.Nanotime() + min(ns, 1<<62)
}

func epollCreate(flags uint32) (uintptr, linux.Errno) {
	if flags&^linux.EPOLL_CLOEXEC != 0 {
		return 0, linux.EINVAL
	}
	return kernel.Install(&epoll{items: make(map[key]*item)}, flags|linux.O_RDWR)
}

func getEpoll(fd uintptr) (*kernel.Desc, *epoll, linux.Errno) {
	d, e := kernel.Get(fd)
	if e != 0 {
		return nil, nil, e
	}
	ep, ok := d.File.(*epoll)
	if !ok {
		d.Put()
		return nil, nil, linux.EINVAL
	}
	return d, ep, 0
}

func epollCtl(a kernel.Args) (uintptr, linux.Errno) {
	epd, ep, e := getEpoll(a.A1)
	if e != 0 {
		return 0, e
	}
	defer epd.Put()
	d, e := kernel.Get(a.A3)
	if e != 0 {
		return 0, e
	}
	defer d.Put()
	q := d.Queue()
	if q == nil {
		return 0, linux.EPERM
	}
	var ev linux.EpollEvent
	if a.A2 != linux.EPOLL_CTL_DEL {
		p, e := kernel.Ptr[linux.EpollEvent](a.A4)
		if e != 0 {
			return 0, e
		}
		ev = *p
	}
	inner, nested := d.File.(*epoll)
	if inner == ep {
		return 0, linux.EINVAL
	}
	ep.ctl.Lock()
	defer ep.ctl.Unlock()
	k := key{int32(a.A3), d}
	ep.mu.Lock()
	it := ep.items[k]
	ep.mu.Unlock()
	switch a.A2 {
	case linux.EPOLL_CTL_ADD:
		if it != nil {
			return 0, linux.EEXIST
		}
		if nested && inner.reaches(ep, 0) {
			return 0, linux.ELOOP
		}
		it = &item{ep: ep, key: k, ev: ev}
		it.Mask, it.To = interest(ev.Events), it
		ep.mu.Lock()
		ep.items[k] = it
		ep.mu.Unlock()
		q.Add(&it.Watcher)
		d.SetHook(it, func() { ep.remove(it) })
	case linux.EPOLL_CTL_MOD:
		if it == nil {
			return 0, linux.ENOENT
		}
		ep.mu.Lock()
		it.ev = ev
		ep.mu.Unlock()
		q.SetMask(&it.Watcher, interest(ev.Events))
	case linux.EPOLL_CTL_DEL:
		if it == nil {
			return 0, linux.ENOENT
		}
		d.SetHook(it, nil)
		ep.remove(it)
		return 0, 0
	default:
		return 0, linux.EINVAL
	}
	if it.now(ev.Events) != 0 {
		it.Wake(0)
	}
	return 0, 0
}

func epollWait(a kernel.Args, deadline int64) (uintptr, linux.Errno) {
	d, ep, e := getEpoll(a.A1)
	if e != 0 {
		return 0, e
	}
	defer d.Put()
	n := int(int32(a.A3))
	if n <= 0 || n > 1<<24 {
		return 0, linux.EINVAL
	}
	out, e := kernel.Slice[linux.EpollEvent](a.A2, uintptr(n))
	if e != 0 {
		return 0, e
	}
	for {
		if n := ep.harvest(out); n > 0 {
			return uintptr(n), 0
		}
		if deadline == past || kernel.Wait(ep, rt.In, deadline) != 0 {
			return uintptr(ep.harvest(out)), 0
		}
	}
}
