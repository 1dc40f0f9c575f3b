package proc

import (
	"math/bits"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"noyau.dev/abi"
	"noyau.dev/guest/kernel"
	"noyau.dev/guest/linux"
	"noyau.dev/guest/rt"
)

// TestLinkHostile: the other end of a link writes what it likes, and rings as often.
func TestLinkHostile(t *testing.T) {
	var mu sync.Mutex
	var seen []uint32
	rt.Native.SendSignal = func(s uint32) bool {
		mu.Lock()
		defer mu.Unlock()
		seen = append(seen, s)
		return true
	}
	rt.Native.Exit = func(code int32) { t.Error("it ends with code", code) }
	defer func() { rt.Native.SendSignal, rt.Native.Exit = nil, nil }()
	received := func() []uint32 {
		mu.Lock()
		defer mu.Unlock()
		return slices.Clone(seen)
	}
	eventually := func(what string, ok func() bool) {
		t.Helper()
		for start := time.Now(); !ok(); time.Sleep(time.Millisecond) {
			if time.Since(start) > time.Minute {
				t.Fatal(what)
			}
		}
	}
	mem, err := unix.MemfdCreate("link", unix.MFD_CLOEXEC)
	if err != nil {
		t.Skip(err)
	}
	defer unix.Close(mem)
	unix.Ftruncate(mem, abi.LinkSize)
	page, err := unix.Mmap(mem, 0, abi.LinkSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Munmap(page)
	// connect makes a link to member 9 whose other end is returned.
	connect := func(box uint64) (bell int, e uint32) {
		bells, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { unix.Close(bells[1]) })
		given, err := unix.Dup(mem)
		if err != nil {
			t.Fatal(err)
		}
		return bells[1], uint32(newLink(&abi.Msg{A: 9, B: box, C: 1}, int32(bells[0]), int32(given)))
	}
	linkTo := func(pid uint32) *link {
		links.Lock()
		defer links.Unlock()
		return links.m[pid]
	}
	if _, e := connect(2); e == 0 {
		t.Error("there is a box 2")
	}
	bell, e := connect(0)
	if e != 0 {
		t.Fatal(e)
	}

	// All bits: signals of job control and SIGKILL do not come this way.
	box := (*uint32)(unsafe.Pointer(&page[abi.LinkSignals]))
	atomic.StoreUint32(box, ^uint32(0))
	unix.Write(bell, []byte{0})
	eventually("signals do not come", func() bool { return len(received()) >= bits.OnesCount32(abi.LinkAllowed) })
	got := received()
	for _, s := range []uint32{linux.SIGKILL, linux.SIGSTOP, linux.SIGCONT, 20, 0, 32} {
		if slices.Contains(got, s) {
			t.Error("a signal came that may not:", s)
		}
	}
	if len(got) != bits.OnesCount32(abi.LinkAllowed) || !slices.Contains(got, linux.SIGTERM) {
		t.Error(got)
	}

	// Rings without signals: for a while, then the link is given up.
	go func(bell int) {
		for {
			if _, err := unix.Write(bell, []byte{0}); err != nil && err != unix.EAGAIN {
				return
			}
			time.Sleep(10 * time.Microsecond) // so that one is an event
		}
	}(bell)
	eventually("rings without end", func() bool { return linkTo(9) == nil })
	if len(received()) != len(got) {
		t.Error(received())
	}

	// The end of the other end is the end of the link; what was in the box before counts.
	if bell, e = connect(0); e != 0 {
		t.Fatal(e)
	}
	atomic.StoreUint32(box, 1<<(linux.SIGUSR2-1))
	unix.Shutdown(bell, unix.SHUT_RDWR)
	eventually("it goes on", func() bool { return linkTo(9) == nil && len(received()) == len(got)+1 })

	// A link that was taken away since a right was lost delivers nothing any more.
	if bell, e = connect(0); e != 0 {
		t.Fatal(e)
	}
	kernel.OnUnlink(abi.Msg{A: 9, C: 2}) // another
	if linkTo(9) == nil {
		t.Error("the wrong link was taken away")
	}
	kernel.OnUnlink(abi.Msg{A: 9, B: 1, C: 1})
	atomic.StoreUint32(box, 1<<(linux.SIGUSR1-1))
	unix.Write(bell, []byte{0})
	time.Sleep(10 * time.Millisecond)
	if linkTo(9) != nil || len(received()) != len(got)+1 {
		t.Error("after the end of the link:", received())
	}
}
