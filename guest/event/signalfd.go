package event

import (
	"sync"

	"noyau.dev/guest/kernel"
	"noyau.dev/guest/linux"
	"noyau.dev/guest/rt"
)

func startSignalfd() {
	kernel.Register(linux.SYS_SIGNALFD, func(a kernel.Args) (uintptr, linux.Errno) { return signalfd4(a, 0) })
	kernel.Register(linux.SYS_SIGNALFD4, func(a kernel.Args) (uintptr, linux.Errno) { return signalfd4(a, uint32(a.A4)) })
}

// A signalfd takes the signals of its mask before os/signal sees them, as if the
// app had blocked them, without which signalfd makes no sense.
type signalfd struct {
	kernel.Base
	mu      sync.Mutex
	mask    uint64 // bit n-1 for signal n
	pending uint64
	queue   kernel.WaitQueue
}

var signalfds struct {
	sync.Mutex
	all []*signalfd
}

const siginfoSize = 128

func signalfd4(a kernel.Args, flags uint32) (uintptr, linux.Errno) {
	if flags&^(linux.O_CLOEXEC|linux.O_NONBLOCK) != 0 || a.A3 != 8 {
		return 0, linux.EINVAL
	}
	p, e := kernel.Ptr[uint64](a.A2)
	if e != 0 {
		return 0, e
	}
	mask := *p &^ (1<<(linux.SIGKILL-1) | 1<<(linux.SIGSTOP-1))
	if int32(a.A1) != -1 {
		d, e := kernel.Get(a.A1)
		if e != 0 {
			return 0, e
		}
		defer d.Put()
		f, ok := d.File.(*signalfd)
		if !ok {
			return 0, linux.EINVAL
		}
		f.mu.Lock()
		f.mask = mask
		f.mu.Unlock()
		return a.A1, 0
	}
	f := &signalfd{mask: mask}
	fd, e := kernel.Install(f, flags|linux.O_RDONLY)
	if e == 0 {
		signalfds.Lock()
		signalfds.all = append(signalfds.all, f)
		kernel.SignalTap = tap
		signalfds.Unlock()
	}
	return fd, e
}

func tap(sig uint32) bool {
	signalfds.Lock()
	all := signalfds.all
	signalfds.Unlock()
	for _, f := range all {
		f.mu.Lock()
		bit := uint64(1) << (sig - 1)
		took := f.mask&bit != 0
		if took {
			f.pending |= bit
		}
		f.mu.Unlock()
		if took {
			f.queue.Notify(rt.In)
			return true
		}
	}
	return false
}

func (f *signalfd) Read(p []byte) (int, linux.Errno) {
	if len(p) < siginfoSize {
		return 0, linux.EINVAL
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	n := 0
	for sig := uint32(1); sig <= linux.NSIG && len(p)-n >= siginfoSize; sig++ {
		bit := uint64(1) << (sig - 1)
		if f.pending&bit == 0 {
			continue
		}
		f.pending &^= bit
		clear(p[n : n+siginfoSize])
		p[n] = byte(sig) // ssi_signo
		for i := range 4 {
			p[n+12+i] = byte(kernel.PID() >> (8 * i)) // ssi_pid
			p[n+16+i] = byte(kernel.UID() >> (8 * i)) // ssi_uid
		}
		n += siginfoSize
	}
	if n == 0 {
		return 0, linux.EAGAIN
	}
	return n, 0
}

func (f *signalfd) Ready() uint32 {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.pending != 0 {
		return rt.In
	}
	return 0
}

func (f *signalfd) Queue() *kernel.WaitQueue { return &f.queue }

func (f *signalfd) Release() {
	signalfds.Lock()
	defer signalfds.Unlock()
	var rest []*signalfd // a tap under way reads the old array
	for _, o := range signalfds.all {
		if o != f {
			rest = append(rest, o)
		}
	}
	signalfds.all = rest
}
