package runner

import (
	"encoding/binary"
	"slices"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"noyau.dev/abi"
	"noyau.dev/host/vm/kvm"
	"noyau.dev/host/vm/machine"
)

// checker stands in for the kernel: it looks at every address that the runner
// would pass, and fails if it is not guest memory or the runner's scratch.
type checker struct {
	t *testing.T
	r *Runner
	n uint32
}

func (c *checker) owned(p, n uintptr, what string) {
	if p == 0 || n == 0 {
		return
	}
	if !c.r.m.Owns(p, n) && !scratch(c.r, p, n) {
		c.t.Fatalf("%s: %d bytes at %#x are not the guest's", what, n, p)
	}
}

// scratch reports whether [p, p+n) lies in the Runner itself.
func scratch(r *Runner, p, n uintptr) bool {
	base, end := ptrOf(r), ptrOf(r)+sizeOfRunner
	return p >= base && p < end && n <= end-p
}

func (c *checker) call(nr, a1, a2, a3, a4, a5, a6 uintptr) uint64 {
	t := c.t
	fd := func(n uintptr) {
		if !c.r.handles.has(uint64(n)) {
			t.Fatalf("call %d on descriptor %d, which is not the guest's", nr, n)
		}
	}
	if nr == unix.SYS_CLONE {
		if a1 != abi.ForkFlags || a2|a3|a4|a5|a6 != 0 {
			t.Fatalf("clone with %#x, %#x, %#x, %#x", a1, a2, a3, a4)
		}
		for _, h := range c.r.forks.give {
			fd(uintptr(h))
		}
		return fail(unix.EAGAIN)
	}
	closing := slices.Contains(c.r.ring.closing, uint64(a1))
	if nr != unix.SYS_CLOSE && !closing { // is off the set by then
		fd(a1)
	}
	switch nr {
	case unix.SYS_RECVFROM, unix.SYS_SENDTO:
		c.owned(a2, a3, "data")
		c.owned(a5, maxAddr, "address")
		if nr == unix.SYS_RECVFROM {
			c.owned(a6, 4, "length of an address")
		} else if a6 > maxAddr {
			t.Fatalf("an address of %d bytes", a6)
		}
	case unix.SYS_PREAD64, unix.SYS_PWRITE64:
		c.owned(a2, a3, "data")
	case unix.SYS_ACCEPT4:
		c.owned(a2, maxAddr, "address")
		c.owned(a3, 4, "length of an address")
		return 1 << 19
	case unix.SYS_CLOSE:
		return 0
	case unix.SYS_FCNTL:
		if a2 != unix.F_GET_SEALS {
			t.Fatalf("fcntl %d", a2)
		}
		return unix.F_SEAL_SHRINK
	case unix.SYS_FSTAT:
		c.owned(a2, unsafe.Sizeof(unix.Stat_t{}), "status")
		return fail(unix.EIO) // nothing of the test's own is mapped
	case unix.SYS_EPOLL_CTL:
		fd(a3)
		c.owned(a4, 12, "event")
	case unix.SYS_EPOLL_PWAIT, unix.SYS_EPOLL_PWAIT2:
		if a3 == 0 || a3 > maxEvents {
			t.Fatalf("%d events", a3)
		}
		c.owned(a2, 12*a3, "events")
	case unix.SYS_RECVMSG, unix.SYS_SENDMSG:
		m := &c.r.msg
		if m.name != 0 || m.iov != ptrOf(&c.r.iov) || m.iovlen != 1 || m.control != ptrOf(&c.r.control) || m.controllen > maxControl {
			t.Fatalf("message header %+v", m)
		}
		c.owned(c.r.iov.base, uintptr(c.r.iov.n), "data")
		if nr == unix.SYS_RECVMSG { // as many descriptors as fit
			le := binary.LittleEndian
			le.PutUint64(c.r.control[:], maxControl)
			le.PutUint32(c.r.control[8:], unix.SOL_SOCKET)
			le.PutUint32(c.r.control[12:], unix.SCM_RIGHTS)
			for o := cmsgHdr; o < maxControl; o += 4 {
				le.PutUint32(c.r.control[o:], 1<<18+uint32(o))
			}
			break
		}
		for _, h := range c.r.rights() {
			fd(uintptr(h))
		}
	default:
		t.Fatalf("system call %d", nr)
	}
	// Sometimes all, sometimes less, sometimes nothing.
	c.n = c.n*1664525 + 1013904223
	switch c.n >> 16 % 4 {
	case 1:
		return fail(unix.EAGAIN)
	case 2:
		return uint64(a3) / 2
	}
	return uint64(a3)
}

// fuzzRunner is a runner whose guest has a stack, data at RegionBase, and
// handles 0 to 9.
func fuzzRunner(t *testing.T) *Runner {
	m, err := machine.Detached()
	if err != nil {
		t.Fatal(err)
	}
	if err := m.InitRegion(64 << 20); err != nil {
		t.Fatal(err)
	}
	r := &Runner{m: m, handles: newHandles(10)}
	r.boot.Flags = abi.BootNetOut | abi.BootFork
	r.forks.allowed, r.forks.watched = true, newHandles(0)
	r.sig.xsave = new(kvm.XSave)
	r.ring.start(r)
	for h := range uint64(8) {
		r.ring.added(h)
		r.ring.setBit(abi.VMRingBatched, h, true)
		r.ring.setBit(abi.VMRingDatagrams, h, h%2 != 0)
	}
	c := &checker{t: t, r: r}
	r.sys, r.block = c.call, c.call
	if e := m.MapRegion(abi.RegionBase, 8<<20, true); e != 0 {
		t.Fatal(e)
	}
	return r
}

// FuzzCalls makes calls with any numbers, any arguments and any guest memory.
// The input is the guest's memory; calls of 8 words are taken from its start.
func FuzzCalls(f *testing.F) {
	seed := func(calls ...[8]uint64) {
		var b []byte
		for _, c := range calls {
			for _, v := range c {
				b = binary.LittleEndian.AppendUint64(b, v)
			}
		}
		f.Add(append(b, make([]byte, 256)...))
	}
	const d = abi.RegionBase
	for _, nr := range []uint64{abi.CallRecv, abi.CallSend, abi.CallPread, abi.CallPwrite, abi.CallAccept, abi.CallClose,
		abi.CallWatch, abi.CallPoll, abi.CallMap} {
		seed([8]uint64{nr, 3, d, 64, 0, d, d}, [8]uint64{nr, 5, d, 8, d + 16, 0, 0}, [8]uint64{nr, 5, 1, 6, d, 0, 0}, [8]uint64{nr, 3, d, 64, 0, d + 64, 8})
	}
	seed([8]uint64{abi.CallMap, d, 32 << 20, 3, 0x4032, ^uint64(0), 0}, [8]uint64{abi.CallMap, d, 1 << 20, 0, 0x4032, ^uint64(0), 0})
	seed([8]uint64{abi.CallFork, abi.ForkFlags, 0, d + 128}, [8]uint64{abi.CallMap, d, 4096, 3, 0x11, 3},
		[8]uint64{6<<32 | 7, 8<<32 | 9, d, d, 4})
	f.Fuzz(func(t *testing.T, in []byte) {
		r := fuzzRunner(t)
		defer r.m.Unmap()
		copy(r.m.Bytes(abi.RegionBase, 1<<20, true), in)
		copy(r.ring.mem[abi.VMRingOut:], in)
		copy(r.m.Signals(), in)
		if len(in) > 0 {
			r.ring.setWord(abi.VMRingUsed, uint32(in[0])*300)
			copy(r.ring.mem[abi.VMRingHandles:], in)
		}
		g := r.m.VM.Regs()
		for n := 0; len(in) >= 64 && n < 32; n++ {
			w := func(i int) uint64 { return binary.LittleEndian.Uint64(in[8*i:]) }
			c := call{w(0), w(1), w(2), w(3), w(4), w(5), w(6)}
			g.RSP = w(7)
			in = in[64:]
			switch c.nr {
			case abi.CallSigreturn:
				r.sig.sigreturn(r.m)
			case abi.CallExit:
				r.sig.deliver(r.m, &siginfo{sig: int32(c.a1%64) + 1, addr: c.a2})
			case abi.CallPoll:
				c.a4 = 0 // the checker never waits
				r.do(&c)
			case abi.CallFork:
				r.fork(&c)
			default:
				r.do(&c)
			}
			r.ring.flush()
		}
	})
}
