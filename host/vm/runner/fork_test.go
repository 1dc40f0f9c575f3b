package runner

import (
	"bytes"
	"testing"

	"golang.org/x/sys/unix"

	"noyau.dev/abi"
	"noyau.dev/host/vm/kvm"
)

// forkable is a runner whose guest may fork and has 8 MiB of its region. It makes real
// system calls, on descriptors of the test.
func forkable(t *testing.T) *Runner {
	m := detached(t, 64<<20)
	if e := m.MapRegion(abi.RegionBase, 8<<20, true); e != 0 {
		t.Fatal(e)
	}
	r := &Runner{m: m, handles: newHandles(0)}
	r.sys = func(nr, a1, a2, a3, a4, a5, a6 uintptr) uint64 {
		if nr == unix.SYS_EPOLL_CTL { // the test's own, by that number
			return 0
		}
		return raw(nr, a1, a2, a3, a4, a5, a6)
	}
	r.block = r.sys
	r.sig.xsave = new(kvm.XSave)
	r.forks.allowed, r.forks.watched = true, newHandles(0)
	r.ring.start(r)
	return r
}

// memory makes a memory file of n bytes.
func memory(t *testing.T, n int64, seals int) uint64 {
	fd, err := unix.MemfdCreate("test", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	if err := unix.Ftruncate(fd, n); err != nil {
		t.Fatal(err)
	}
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, seals); err != nil {
		t.Fatal(err)
	}
	return uint64(fd)
}

// TestShare: memory that members share is mapped into the region, and nothing else is.
func TestShare(t *testing.T) {
	const size, at = 3 * abi.PageSize, abi.RegionBase + 1<<20
	r := forkable(t)
	fd, soft := memory(t, size-100, unix.F_SEAL_SHRINK), memory(t, size, unix.F_SEAL_GROW)
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	defer unix.Close(p[0])
	defer unix.Close(p[1])
	for _, h := range []uint64{fd, soft, uint64(p[0])} {
		r.handles.add(h)
	}
	const rw, shared = unix.PROT_READ | unix.PROT_WRITE, unix.MAP_SHARED | unix.MAP_FIXED
	for _, c := range []struct {
		name string
		call call
		want unix.Errno
	}{
		{"not a handle", call{a1: at, a2: size, a3: rw, a4: shared, a5: 999}, unix.EBADF},
		{"a file that can shrink", call{a1: at, a2: size, a3: rw, a4: shared, a5: soft}, unix.ENODEV},
		{"a pipe", call{a1: at, a2: size, a3: rw, a4: shared, a5: uint64(p[0])}, unix.ENODEV},
		{"more than there is", call{a1: at, a2: size + abi.PageSize, a3: rw, a4: shared, a5: fd}, unix.ENXIO},
		{"from beyond the end", call{a1: at, a2: abi.PageSize, a3: rw, a4: shared, a5: fd, a6: 1 << 40}, unix.ENXIO},
		{"at an odd offset", call{a1: at, a2: abi.PageSize, a3: rw, a4: shared, a5: fd, a6: 8}, unix.EINVAL},
		{"at an odd address", call{a1: at + 8, a2: size, a3: rw, a4: shared, a5: fd}, unix.EINVAL},
		{"outside of the region", call{a1: abi.VMStackBase, a2: size, a3: rw, a4: shared, a5: fd}, unix.ENOMEM},
		{"across its end", call{a1: abi.RegionBase + 8<<20 - abi.PageSize, a2: size, a3: rw, a4: shared, a5: fd}, unix.ENOMEM},
		{"nowhere", call{a2: size, a3: rw, a4: shared, a5: fd}, unix.ENOMEM},
		{"executable", call{a1: at, a2: size, a3: rw | unix.PROT_EXEC, a4: shared, a5: fd}, unix.EINVAL},
		{"nothing", call{a1: at, a3: rw, a4: shared, a5: fd}, unix.EINVAL},
		{"all there could be", call{a1: at, a2: ^uint64(0), a3: rw, a4: shared, a5: fd}, unix.EINVAL},
		{"not fixed", call{a1: at, a2: size, a3: rw, a4: unix.MAP_SHARED, a5: fd}, unix.ENODEV},
	} {
		if got := r.mmap(&c.call); got != fail(c.want) {
			t.Errorf("%s: %d, want %d", c.name, int64(got), -int64(c.want))
		}
	}
	b := r.m.Bytes(at, size, true)
	b[0] = 'x'
	if got := r.mmap(&call{a1: at, a2: size, a3: rw, a4: shared, a5: fd}); got != at {
		t.Fatalf("result %d", int64(got))
	}
	copy(b[5000:], "hello")
	var in [6]byte
	if _, err := unix.Pread(int(fd), in[:], 5000); err != nil || string(in[:5]) != "hello" || b[0] != 0 {
		t.Errorf("the file has %q, %v", in, err)
	}
	// What is released is private and zero, and the file keeps what it has.
	const anon = unix.MAP_PRIVATE | unix.MAP_ANON | unix.MAP_FIXED
	if got := r.mmap(&call{a1: at, a2: 2 * abi.PageSize, a3: rw, a4: anon}); got != at {
		t.Fatalf("release: %d", int64(got))
	}
	if !bytes.Equal(b[:2*abi.PageSize], make([]byte, 2*abi.PageSize)) {
		t.Error("what was released is not zero")
	}
	copy(b[5000:], "again")
	copy(b[2*abi.PageSize:], "still")
	unix.Pread(int(fd), in[:5], 5000)
	if string(in[:5]) != "hello" {
		t.Errorf("after the release the file has %q", in)
	}
	if unix.Pread(int(fd), in[:5], 2*abi.PageSize); string(in[:5]) != "still" {
		t.Errorf("the rest is not shared any more: %q", in)
	}
}

// TestNothingAllocates: a forked runner has nobody to ask for memory.
func TestNothingAllocates(t *testing.T) {
	const d = abi.RegionBase
	r := forkable(t)
	p, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(p[0])
	defer unix.Close(p[1])
	h := uint64(p[0])
	r.handles.add(h)
	fd := memory(t, abi.PageSize, unix.F_SEAL_SHRINK)
	r.handles.add(fd)
	const rw = unix.PROT_READ | unix.PROT_WRITE
	for _, c := range []call{
		{nr: abi.CallSend, a1: h, a2: d, a3: 8},
		{nr: abi.CallRecv, a1: h, a2: d, a3: 64},
		{nr: abi.CallRecv, a1: h, a2: d, a3: 64, a5: d + 100, a6: d + 96},
		{nr: abi.CallAccept, a1: h, a2: d + 100, a3: d + 96},
		{nr: abi.CallPread, a1: fd, a2: d, a3: 64},
		{nr: abi.CallPwrite, a1: fd, a2: d, a3: 64},
		{nr: abi.CallWatch, a1: abi.HandlePoll, a2: unix.EPOLL_CTL_ADD, a3: h, a4: d},
		{nr: abi.CallMap, a1: d + 1<<20, a2: 1 << 20, a3: rw, a4: unix.MAP_PRIVATE | unix.MAP_ANON | unix.MAP_FIXED},
		{nr: abi.CallMap, a1: d + 1<<20, a2: abi.PageSize, a3: rw, a4: unix.MAP_SHARED | unix.MAP_FIXED, a5: fd},
		{nr: abi.CallClose, a1: 999},
		{nr: 500},
	} {
		if n := testing.AllocsPerRun(100, func() { r.do(&c) }); n != 0 {
			t.Errorf("call %d allocates %v times", c.nr, n)
		}
	}
	for name, f := range map[string]func(){
		"a tick":          r.interrupt,
		"the clock":       func() { take() },
		"a fork":          func() { r.fork(&call{a1: abi.ForkFlags, a3: d}) },
		"the child's":     func() { r.ring.child(1024); r.forks.watched.each(1024, func(uint64) {}) },
		"the queue":       r.ring.flush,
		"saving a vCPU":   func() { r.m.Save() },
		"delivery":        func() { r.sig.deliver(r.m, &siginfo{sig: 11}) },
		"a tick's return": func() { r.sig.sigreturn(r.m) },
	} {
		if n := testing.AllocsPerRun(100, f); n != 0 {
			t.Errorf("%s allocates %v times", name, n)
		}
	}
}
