//go:build !noyau

package rt

import (
	"crypto/rand"
	"os"
	"runtime"
	"runtime/pprof"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"noyau.dev/abi"
)

// A Timer is a time.AfterFunc timer.
type Timer struct{ t *time.Timer }

// NewTimer returns a stopped timer that calls f.
func NewTimer(f func()) *Timer {
	t := time.AfterFunc(1<<62, f)
	t.Stop()
	return &Timer{t}
}

// Reset arms the timer to fire in ns nanoseconds.
func (t *Timer) Reset(ns int64) { t.t.Reset(time.Duration(ns)) }

// Stop disarms the timer and reports whether it was armed.
func (t *Timer) Stop() bool { return t.t.Stop() }

var start = time.Now()

// Nanotime is the monotonic clock; it is never 0.
func Nanotime() int64 { return int64(time.Since(start)) + 1e9 }

// Walltime is CLOCK_REALTIME.
func Walltime() (sec int64, nsec int32) {
	t := time.Now()
	return t.Unix(), int32(t.Nanosecond())
}

// CPUTime is the CPU time of the process.
func CPUTime() int64 {
	var u syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return u.Utime.Nano() + u.Stime.Nano()
}

// Native is what tests may replace: what an image gets from its runtime.
var Native struct {
	Ready      func(pd PD, events uint32) // Ready
	SendSignal func(sig uint32) bool      // SendSignal
	Ignored    func(sig uint32) bool      // SignalIgnored
	Dump       func()                     // Dump
	Exit       func(code int32)           // Exit
	Boot       abi.BootHeader             // Boot
	Waiters    atomic.Int64               // the sum of AddWaiter
}

// Ready calls Native.Ready.
func Ready(pd PD, events uint32) {
	if f := Native.Ready; f != nil {
		f(pd, events)
	}
}

// Attend and Ignore do nothing: all mailboxes are heard of by their rings.
func Attend(m *Mailbox) {}
func Ignore(m *Mailbox) {}

// AddWaiter counts in Native.Waiters.
func AddWaiter(n int) { Native.Waiters.Add(int64(n)) }

// SendSignal calls Native.SendSignal; without one nobody wants the signal.
func SendSignal(sig uint32) bool {
	f := Native.SendSignal
	return f != nil && f(sig)
}

// SignalIgnored calls Native.Ignored.
func SignalIgnored(sig uint32) bool {
	f := Native.Ignored
	return f != nil && f(sig)
}

// Install does nothing: tests call the hooks themselves.
func Install() {}

// Dump prints all stacks, or calls Native.Dump.
func Dump() {
	if f := Native.Dump; f != nil {
		f()
		return
	}
	pprof.Lookup("goroutine").WriteTo(os.Stderr, 2)
}

// Exit ends the process, or calls Native.Exit and then the goroutine.
func Exit(code int32) {
	if f := Native.Exit; f != nil {
		f(code)
		runtime.Goexit()
	}
	os.Exit(int(code))
}

// Args and Environ are those of the test.
func Args() []string    { return os.Args }
func Environ() []string { return os.Environ() }

// Boot returns Native.Boot.
func Boot() *abi.BootHeader { return &Native.Boot }

// BootPayload returns nothing: the boot block is to be read.
func BootPayload() []byte { return nil }

// Rand fills p.
func Rand(p []byte) { rand.Read(p) }

// Spawn starts a goroutine.
func Spawn(f func()) { go f() }

// Pin and Unpin are a mutex: what one goroutine does between them no other sees half done.
func Pin()   { pinned.Lock() }
func Unpin() { pinned.Unlock() }

var pinned sync.Mutex

// Gosched yields.
func Gosched() { runtime.Gosched() }

// Snapshot is not possible in a test: ENOSYS.
func Snapshot(handle, gate int32) (restored bool, errno uint32) { return false, 38 }

func Shared(p, n uintptr, at uint64) {}
func Unshared(p uintptr)             {}
func Opened(handle int32)            {}

// Fork is not possible in a test: ENOSYS.
func Fork(h *[abi.ForkHandles]int32) (child bool, errno uint32) { return false, 38 }

var poll struct {
	sync.Mutex
	epfd    int
	started bool
	sources map[int32]*Source
}

// Watch registers handle, edge-triggered, with an epoll instance of the test
// process.
func Watch(handle int32, s *Source) int32 {
	poll.Lock()
	defer poll.Unlock()
	if !poll.started {
		fd, err := syscall.EpollCreate1(syscall.EPOLL_CLOEXEC)
		if err != nil {
			return int32(err.(syscall.Errno))
		}
		poll.epfd, poll.started = fd, true
		poll.sources = make(map[int32]*Source)
		go pollLoop(fd)
	}
	s.handle = handle
	ev := syscall.EpollEvent{Events: In | Out | RdHup | Pri | 1<<31, Fd: handle}
	if err := syscall.EpollCtl(poll.epfd, syscall.EPOLL_CTL_ADD, int(handle), &ev); err != nil {
		return int32(err.(syscall.Errno))
	}
	poll.sources[handle] = s
	return 0
}

// Unwatch undoes Watch.
func Unwatch(handle int32) {
	poll.Lock()
	defer poll.Unlock()
	if poll.sources[handle] != nil {
		delete(poll.sources, handle)
		syscall.EpollCtl(poll.epfd, syscall.EPOLL_CTL_DEL, int(handle), nil)
	}
}

// SetPD sets s.PD.
func SetPD(s *Source, pd PD) {
	poll.Lock()
	s.PD = pd
	poll.Unlock()
}

// counts are the events of the host's that are for s.
func (s *Source) counts(events uint32) uint32 {
	if s.Only != 0 {
		events &= s.Only | RdHup | Hup | Err
	}
	return events
}

func pollLoop(fd int) {
	evs := make([]syscall.EpollEvent, 64)
	for {
		n, err := syscall.EpollWait(fd, evs, -1)
		if err != nil && err != syscall.EINTR {
			panic("rt: epoll_wait: " + err.Error())
		}
		for i := range max(n, 0) {
			poll.Lock()
			s := poll.sources[evs[i].Fd]
			var pd PD
			var notify func(uint32)
			events := evs[i].Events
			if s != nil {
				atomic.OrUint32(&s.seen, events)
				if events = s.counts(events); events == 0 {
					s = nil
				}
			}
			if s != nil {
				if pd = s.PD; s.Slow {
					notify = s.Notify
				}
			}
			poll.Unlock()
			if pd != 0 {
				Ready(pd, events)
			}
			if notify != nil {
				notify(events)
			}
		}
	}
}
