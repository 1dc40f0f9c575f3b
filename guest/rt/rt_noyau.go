//go:build noyau

package rt

import (
	"unsafe"

	"noyau.dev/abi"
)

// The functions without a body are in the patched runtime (noyau_rt.go and
// netpoll_noyau.go there), which names them by linkname.

//go:noescape
func hostcall(nr, a1, a2, a3, a4, a5, a6 uintptr) uintptr

// HostCall makes a host call; errno is 0 on success.
//
//go:nosplit
//go:uintptrescapes
func HostCall(nr, a1, a2, a3, a4, a5, a6 uintptr) (r uintptr, errno uint32) {
	r = hostcall(nr, a1, a2, a3, a4, a5, a6)
	if r > ^uintptr(4095) {
		return ^uintptr(0), uint32(-r)
	}
	return r, 0
}

// Timer is described in rt.go.
type Timer struct{ t unsafe.Pointer }

func newTimer(f func()) unsafe.Pointer
func resetTimer(t unsafe.Pointer, ns int64)
func stopTimer(t unsafe.Pointer) bool

// NewTimer returns a stopped timer that calls f on a goroutine of its own.
func NewTimer(f func()) *Timer { return &Timer{newTimer(f)} }

func (t *Timer) Reset(ns int64) { resetTimer(t.t, ns) }
func (t *Timer) Stop() bool     { return stopTimer(t.t) }

func setHooks(open func(int32, uintptr) uint32, close func(int32, uintptr))
func ready(pd uintptr, events uint32)
func watch(handle int32, s *Source) uint32
func unwatch(handle int32)
func setPD(s *Source, pd uintptr)
func next() (*Source, uint32)
func rand64() uint64
func Attend(m *Mailbox)
func Ignore(m *Mailbox)
func await(w *Word, old uint32)
func forgetWord(w *Word)
func parkWord(w *Word, old uint32)
func snapshot(handle, gate uintptr) (bool, uintptr)
func shared(p, n, at uintptr)
func unshared(p uintptr)
func opened(handle uintptr)
func fork(h *[abi.ForkHandles]int32) uintptr

func Boot() *abi.BootHeader

func BootPayload() []byte
func Args() []string
func Environ() []string
func Nanotime() int64
func Walltime() (sec int64, nsec int32)
func AddWaiter(n int)
func SendSignal(sig uint32) bool
func SignalIgnored(sig uint32) bool
func Dump()
func Exit(code int32)
func pages(n uintptr) uintptr
func release(p, n uintptr)
func Gosched()
func Pin()
func Unpin()

// CPUTime has no cheap source inside an image: it is the time since start.
func CPUTime() int64 { return Nanotime() - startTime }

var startTime = Nanotime()

func Ready(pd PD, events uint32) { ready(uintptr(pd), events) }

func SetPD(s *Source, pd PD) { setPD(s, uintptr(pd)) }

func Await(w *Word, old uint32)    { await(w, old) }
func ForgetWord(w *Word)           { forgetWord(w) }
func ParkWord(w *Word, old uint32) { parkWord(w, old) }

var dispatching bool

func Watch(handle int32, s *Source) int32 {
	if !dispatching {
		dispatching = true
		Spawn(dispatch)
	}
	return int32(watch(handle, s))
}

func Unwatch(handle int32) { unwatch(handle) }

func dispatch() {
	for {
		s, ev := next()
		if s.Slow && s.Notify != nil {
			s.Notify(ev)
		}
	}
}

// Rand fills p from the runtime's ChaCha8 generator.
func Rand(p []byte) {
	for len(p) >= 8 {
		*(*uint64)(unsafe.Pointer(&p[0])) = rand64()
		p = p[8:]
	}
	if len(p) > 0 {
		v := rand64()
		for i := range p {
			p[i] = byte(v)
			v >>= 8
		}
	}
}

// Install gives the hooks to the runtime. Call it once they are set.
func Install() {
	setHooks(
		func(fd int32, pd uintptr) uint32 { return PollOpen(fd, PD(pd)) },
		func(fd int32, pd uintptr) { PollClose(fd, PD(pd)) })
}

// Spawn starts a goroutine of the library OS's own. It is a system goroutine
// since its entry lies in this package (see the runtime's isSystemGoroutine).
func Spawn(f func()) { go spawned(f) }

func spawned(f func()) { f() }

// Fork is described in rt.go.
func Fork(h *[abi.ForkHandles]int32) (child bool, errno uint32) {
	r := fork(h)
	if r > ^uintptr(4095) {
		return false, uint32(-r)
	}
	return r == 0, 0
}

// Snapshot is described in rt.go.
func Snapshot(handle, gate int32) (restored bool, errno uint32) {
	restored, e := snapshot(uintptr(handle), uintptr(max(gate, 0)))
	return restored, uint32(e)
}

func Shared(p, n uintptr, at uint64) { shared(p, n, uintptr(at)) }
func Unshared(p uintptr)             { unshared(p) }
func Opened(handle int32)            { opened(uintptr(handle)) }
