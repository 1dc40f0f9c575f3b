// Package rt is every hook between the library OS and the Go runtime beneath
// it: time, readiness, host calls, signals, memory. Nothing else of the library
// OS may know which runtime it stands on.
//
// It has two implementations. rt_noyau.go (build tag noyau) is the one inside an
// image: thin linknames into the patched runtime. rt_native.go is for unit tests
// on plain Linux: the same functions over package time, a goroutine around
// epoll_wait, and real system calls, so that the library OS's tests run under
// the stock toolchain.
//
// All functions are called on ordinary goroutines unless they say otherwise.
package rt

import "sync/atomic"

// Pollable readiness bits, the values of EPOLLIN …
const (
	In    = 0x1
	Pri   = 0x2
	Out   = 0x4
	Err   = 0x8
	Hup   = 0x10
	RdHup = 0x2000
)

// A PD is one registration of a descriptor with the runtime's network poller
// (a *runtime.pollDesc that must not be dereferenced).
type PD uintptr

// A Source is a host handle whose readiness somebody in this pVM watches.
// Events are edge-triggered. The zero value with Notify set is ready for Watch.
type Source struct {
	// Notify is called on a goroutine of rt's own with the bits that came
	// since the last call, if Slow is set. It must not block for long.
	Notify func(events uint32)
	// Slow says that somebody besides PD watches: a blocked call, an epoll
	// instance. It may be changed at any time.
	Slow bool
	// PD, if not 0, is made ready by the scheduler itself, without Notify.
	// This is the fast path of nearly every connection. Set it with SetPD.
	PD PD
	// Only, if not 0, are the events of the host that count besides RdHup, Hup and Err,
	// which always do.
	Only uint32

	handle int32
	next   int32  // index of the next source with pending events
	events uint32 // pending for Notify
	seen   uint32 // all that the host has reported so far
}

// A Mailbox is a word in memory that another member of the family writes: whenever it is
// not Seen, Source has an event In, and Seen becomes what it is. Whoever writes it rings
// Source's handle, if Asleep was not 0, which it then sets to 0. Asleep begins with 1.
//
// The word of a mailbox that is attended to is looked at by the scheduler itself, and for a
// while before this pVM sleeps: then no ring is needed, and no call. The others are
// heard of by the ring alone. When abi.MailboxMost are, the one that Attend was
// called for longest ago is ignored from then on. A fork or restored pVM attends to none.
type Mailbox struct {
	Word, Asleep *uint32 // not in the Go heap
	Source       *Source // watched, with Slow or a PD
	Seen         uint32  // set it back only after Word was set to the same
}

// A Word is a number in memory that other members of the family change and that somebody
// waits to be another than it was. Whoever changes it rings (see Bell) afterwards.
//
// The scheduler looks at it whenever it has a goroutine to choose, and for a while before
// this pVM sleeps. Then the word is forgotten, and Source has Events; or, in ParkWord,
// the goroutine goes on. The Word is kept by its owner until it has come or ForgetWord has
// returned.
type Word struct {
	At     uintptr // of a uint32, not in the Go heap
	Bell   uintptr // of the Bell that is rung after a change
	Spin   *Spin
	old    uint32
	Events uint32 // for the source; 0 in ParkWord
	Handle int32  // of the source
	armed  bool
	g      uintptr
	next   uintptr
	prev   uintptr
	said   uint64
}

// A Bell says in shared memory whether somebody sleeps until it is rung. Who rings calls
// Pull, makes the sleepers' host report something, and then calls Pulled with the
// number of Pull. A member that dies in between has at worst rung for nothing.
type Bell struct {
	flag  atomic.Uint64
	stamp atomic.Int64
}

// Pull reports whether there is somebody to be woken.
func (b *Bell) Pull() (n uint64, ok bool) {
	if n = b.flag.Load(); uint32(n) == 0 {
		return 0, false
	}
	b.stamp.Store(Nanotime())
	return n, true
}

// Several is the Sleeper of more than one.
const Several = 1<<32 - 1

// Sleeper is the process id of the member that Pull has found asleep, or Several.
func Sleeper(n uint64) uint32 { return uint32(n) }

// Pulled takes back the announcements that Pull has found, and none that came later.
func (b *Bell) Pulled(n uint64) { b.flag.CompareAndSwap(n, n&^(1<<32-1)) }

// A Spin remembers whether looking has been of use. The zero value is ready for use. One is
// for the waits for one thing.
type Spin struct {
	used   bool
	credit int8
	skip   int16
	back   int16
}

// Seen is all that the host has reported of s so far.
func (s *Source) Seen() uint32 { return atomic.LoadUint32(&s.seen) }

// A Timer calls a function once at a time. Make one with NewTimer.
//
//	t := rt.NewTimer(f)   // f runs on its own goroutine
//	t.Reset(ns)           // in ns nanoseconds from now, replaces an earlier one
//	t.Stop()              // reports whether it stopped a pending call
//
// Functions provided by each implementation:
//
//	func NewTimer(f func()) *Timer
//	func Nanotime() int64                        // monotonic clock, ns
//	func Walltime() (sec int64, nsec int32)      // CLOCK_REALTIME
//	func CPUTime() int64                         // CPU time of this pVM, ns (an estimate inside an image)
//	func Ready(pd PD, events uint32)             // make pd's readers (In, RdHup, Hup, Err) and/or writers (Out, Hup, Err) ready
//	func Watch(handle int32, s *Source) int32    // register with the host's poll; 0 or an errno
//	func Unwatch(handle int32)                   // before CallClose
//	func SetPD(s *Source, pd PD)
//	func Attend(m *Mailbox)
//	func Ignore(m *Mailbox)                      // before Unwatch of its Source
//	func Await(w *Word, old uint32)              // Source has Events when the word is not old; instead of an earlier Await
//	func ForgetWord(w *Word)                     // before Unwatch of its source
//	func ParkWord(w *Word, old uint32)           // returns when the word is not old
//	func AddWaiter(n int)                        // n=+1 before, -1 after a goroutine waits for something outside this
//	                                             // pVM (host event, signal): it is then no deadlock
//	func HostCall(nr, a1, a2, a3, a4, a5, a6 uintptr) (r uintptr, errno uint32)
//	                                             // see package abi; pointers as uintptr(unsafe.Pointer(p)) in the call expression
//	func SendSignal(sig uint32) bool             // hand sig to os/signal; false if the app has not asked for it
//	func Dump()                                  // print all goroutine stacks to standard error, as SIGQUIT does
//	func Exit(code int32)                        // end the pVM
//	func Boot() *abi.BootHeader
//	func BootPayload() []byte                    // what follows the header, if it is small; else nil
//	func Args() []string                         // what the app was started with
//	func Environ() []string
//	func Pages(n uintptr) uintptr                // n bytes of zeroed page-aligned memory outside the Go heap; 0 if none
//	func FreePages(p, n uintptr)
//	func Rand(p []byte)                          // the runtime's own ChaCha8 generator, seeded from the boot block: cryptographically strong
//	func Spawn(f func())                         // a goroutine hidden from the app's count, traces and deadlock detection (a system goroutine)
//	func Gosched()
//	func Pin()                                   // no other goroutine runs until Unpin, and no fork or snapshot happens: for short copies
//	func Unpin()
//	func Snapshot(handle, gate int32) (restored bool, errno uint32)
//	                                             // write this pVM to a file; true when it returns in a restored pVM. gate:
//	                                             // by what its family waits for each other, -1: there is none
//	func Shared(p, n uintptr, at uint64)         // n bytes at p are shared, a piece with this place in the family (OpShare)
//	func Unshared(p uintptr)                     // they are no more
//	func Opened(handle int32)                    // a handle that was given at the start is one that a restored pVM has not
//	func Fork(h *[abi.ForkHandles]int32) (child bool, errno uint32)
//	                                             // copy this pVM; h are what the monitor gave for the child

// Hooks that the library OS sets for the runtime. They are variables since the
// runtime is below the library OS. All are set before the app's first init.
var (
	// PollOpen attaches pd to the open file fd, edge-triggered: readiness that
	// is already there must be reported by Ready at once. Returns 0 or an
	// errno: EPERM for files that are always ready (regular files).
	PollOpen func(fd int32, pd PD) uint32
	// PollClose detaches pd. The file may already be gone.
	PollClose func(fd int32, pd PD)
)
