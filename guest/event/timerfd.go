package event

import (
	"sync"

	"noyau.dev/guest/kernel"
	"noyau.dev/guest/linux"
	"noyau.dev/guest/rt"
)

func startTimerfd() {
	kernel.Register(linux.SYS_TIMERFD_CREATE, timerfdCreate)
	kernel.Register(linux.SYS_TIMERFD_SETTIME, timerfdSettime)
	kernel.Register(linux.SYS_TIMERFD_GETTIME, timerfdGettime)
}

// A timerfd computes its expirations from the clock when it is asked; the timer
// beneath only wakes who waits.
type timerfd struct {
	kernel.Base
	realtime bool
	queue    kernel.WaitQueue

	mu       sync.Mutex
	timer    *rt.Timer
	next     int64 // of rt.Nanotime; 0: disarmed
	interval int64
	count    uint64 // expirations before next
}

func timerfdCreate(a kernel.Args) (uintptr, linux.Errno) {
	flags := uint32(a.A2)
	if flags&^(linux.TFD_CLOEXEC|linux.TFD_NONBLOCK) != 0 {
		return 0, linux.EINVAL
	}
	f := &timerfd{}
	switch a.A1 {
	case linux.CLOCK_REALTIME:
		f.realtime = true
	case linux.CLOCK_MONOTONIC, linux.CLOCK_BOOTTIME:
	default:
		return 0, linux.EINVAL
	}
	f.timer = rt.NewTimer(f.fire)
	return kernel.Install(f, flags|linux.O_RDWR)
}

// catchUp counts the expirations up to now. mu is held.
func (f *timerfd) catchUp(now int64) {
	if f.next == 0 || f.next > now {
		return
	}
	if f.interval == 0 {
		f.count++
		f.next = 0
		return
	}
	n := (now-f.next)/f.interval + 1
	f.count += uint64(n)
	f.next += n * f.interval
}

func (f *timerfd) fire() {
	f.mu.Lock()
	now := rt.Nanotime()
	f.catchUp(now)
	if f.next != 0 {
		f.timer.Reset(f.next - now)
	}
	ready := f.count > 0
	f.mu.Unlock()
	if ready {
		f.queue.Notify(rt.In)
	}
}

func (f *timerfd) Read(p []byte) (int, linux.Errno) {
	if len(p) < 8 {
		return 0, linux.EINVAL
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.catchUp(rt.Nanotime())
	if f.count == 0 {
		return 0, linux.EAGAIN
	}
	put64(p, f.count)
	f.count = 0
	return 8, 0
}

func (f *timerfd) Write([]byte) (int, linux.Errno) { return 0, linux.EINVAL }

func (f *timerfd) Ready() uint32 {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.catchUp(rt.Nanotime()); f.count > 0 {
		return rt.In
	}
	return 0
}

func (f *timerfd) Queue() *kernel.WaitQueue { return &f.queue }

func (f *timerfd) Release() {
	f.mu.Lock()
	f.next = 0
	f.timer.Stop()
	f.mu.Unlock()
}

// value is the time to the next expiration and the interval. mu is held.
func (f *timerfd) value(now int64) (it linux.Itimerspec) {
	f.catchUp(now)
	if f.next != 0 {
		it.Value = linux.NsecToTimespec(max(f.next-now, 1))
		it.Interval = linux.NsecToTimespec(f.interval)
	}
	return it
}

func getTimerfd(fd uintptr) (*kernel.Desc, *timerfd, linux.Errno) {
	d, e := kernel.Get(fd)
	if e != 0 {
		return nil, nil, e
	}
	f, ok := d.File.(*timerfd)
	if !ok {
		d.Put()
		return nil, nil, linux.EINVAL
	}
	return d, f, 0
}

func timerfdSettime(a kernel.Args) (uintptr, linux.Errno) {
	d, f, e := getTimerfd(a.A1)
	if e != 0 {
		return 0, e
	}
	defer d.Put()
	p, e := kernel.Ptr[linux.Itimerspec](a.A3)
	if e != 0 {
		return 0, e
	}
	it := *p
	if !it.Value.Valid() || !it.Interval.Valid() || a.A2&^3 != 0 {
		return 0, linux.EINVAL
	}
	f.mu.Lock()
	now := rt.Nanotime()
	old := f.value(now)
	v := it.Value.Nano()
	f.timer.Stop()
	f.count, f.next, f.interval = 0, 0, it.Interval.Nano()
	if v != 0 {
		if a.A2&linux.TFD_TIMER_ABSTIME == 0 {
			v = min(v, 1<<62) + now
		} else if f.realtime {
			v += now - kernel.Now()
		}
		f.next = max(v, 1)
		f.timer.Reset(max(v-now, 1))
	}
	f.mu.Unlock()
	return 0, kernel.Put(a.A4, old)
}

func timerfdGettime(a kernel.Args) (uintptr, linux.Errno) {
	d, f, e := getTimerfd(a.A1)
	if e != 0 {
		return 0, e
	}
	defer d.Put()
	p, e := kernel.Ptr[linux.Itimerspec](a.A2)
	if e != 0 {
		return 0, e
	}
	f.mu.Lock()
	*p = f.value(rt.Nanotime())
	f.mu.Unlock()
	return 0, 0
}
