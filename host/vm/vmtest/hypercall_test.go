package vmtest

import (
	"encoding/binary"
	"fmt"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"noyau.dev/abi"
)

// callCase is a host call and the result that it must have.
type callCase struct {
	name string
	nr   uint64
	args []uint64
	want int64
}

const (
	badPtr    = 0xdead0000
	superPtr  = 0xffff800000000000
	regionPtr = abi.RegionBase
	beyondPtr = abi.RegionBase + 1<<30
	textPtr   = Text + 0x1000
	lastPtr   = ^uint64(0) - 3
	dataEnd   = Data + DataSize
)

func errno(e unix.Errno) int64 { return -int64(e) }

// TestForgedPointers passes addresses that are not the guest's memory to every
// host call that takes one.
func TestForgedPointers(t *testing.T) {
	efault := errno(unix.EFAULT)
	cases := []callCase{
		{"send beyond the data", abi.CallSend, []uint64{1, dataEnd - 4, 8, 0, 0, 0}, efault},
		{"send across segments", abi.CallSend, []uint64{1, Text, Data - Text + 8, 0, 0, 0}, efault},
		{"send huge", abi.CallSend, []uint64{1, Data, 1 << 63, 0, 0, 0}, efault},
		{"send wrapping", abi.CallSend, []uint64{1, lastPtr, 64, 0, 0, 0}, efault},
		{"send page tables", abi.CallSend, []uint64{1, abi.VMStackBase + abi.VMStackSize, 4096, 0, 0, 0}, efault},
		{"send hypercall page", abi.CallSend, []uint64{1, abi.VMHypercallPage, 8, 0, 0, 0}, efault},
		{"send below the stack", abi.CallSend, []uint64{1, abi.VMStackBase - 8, 16, 0, 0, 0}, efault},
		{"recv into text", abi.CallRecv, []uint64{0, textPtr, 8, 0, 0, 0}, efault},
		{"recv into info page", abi.CallRecv, []uint64{0, abi.VMInfoPage, 8, 0, 0, 0}, efault},
		{"recv address bad", abi.CallRecv, []uint64{0, Data, 8, 0, badPtr, Data + 64}, efault},
		{"recv length bad", abi.CallRecv, []uint64{0, Data, 8, 0, Data, badPtr}, efault},
		{"pread into text", abi.CallPread, []uint64{4, textPtr, 8, 0}, efault},
		{"pwrite to boot", abi.CallPwrite, []uint64{4, Data, 8, 0}, errno(unix.EPERM)},
		{"accept address bad", abi.CallAccept, []uint64{0, badPtr, Data + 64, 0}, efault},
		{"accept length bad", abi.CallAccept, []uint64{0, Data, badPtr, 0}, efault},
		{"watch event bad", abi.CallWatch, []uint64{5, 1, 0, badPtr}, efault},
		{"poll events bad", abi.CallPoll, []uint64{5, badPtr, 8, 0, 0, 8}, efault},
		{"poll events beyond", abi.CallPoll, []uint64{5, dataEnd - 12, 2, 0, 0, 8}, efault},
		{"poll none", abi.CallPoll, []uint64{5, Data, 0, 0, 0, 8}, errno(unix.EINVAL)},
		{"poll negative", abi.CallPoll, []uint64{5, Data, 1 << 31, 0, 0, 8}, errno(unix.EINVAL)},
		{"recv handles bad", abi.CallRecv, []uint64{3, Data, 64, 0, badPtr, Data + 64}, efault},
		{"recv handles in text", abi.CallRecv, []uint64{3, Data, 64, 0, textPtr, Data + 64}, efault},
		{"recv handles, size bad", abi.CallRecv, []uint64{3, Data, 64, 0, Data + 128, badPtr}, efault},
		{"recv handles, size in text", abi.CallRecv, []uint64{3, Data, 64, 0, Data + 128, textPtr}, efault},
		{"recv handles, data bad", abi.CallRecv, []uint64{3, badPtr, 64, 0, Data + 128, Data + 64}, efault},
		{"send handles bad", abi.CallSend, []uint64{3, Data, 64, 0, badPtr, 4}, efault},
		{"send handles, data bad", abi.CallSend, []uint64{3, badPtr, 64, 0, Data, 4}, efault},
		{"send no handles", abi.CallSend, []uint64{3, Data, 64, 0, Data, 0}, errno(unix.EINVAL)},
		{"send half a handle", abi.CallSend, []uint64{3, Data, 64, 0, Data, 6}, errno(unix.EINVAL)},
		{"send too many handles", abi.CallSend, []uint64{3, Data, 64, 0, Data, 4*abi.MaxRights + 4}, errno(unix.EINVAL)},
		{"send a handle of nobody", abi.CallSend, []uint64{3, Data, 64, 0, Data + 64, 4}, errno(unix.EBADF)},
		{"map below", abi.CallMap, []uint64{regionPtr - 4096, 8192, 3, 0x4032, ^uint64(0), 0}, errno(unix.ENOMEM)},
		{"map image", abi.CallMap, []uint64{Text, 4096, 3, 0x4032, ^uint64(0), 0}, errno(unix.ENOMEM)},
		{"map beyond", abi.CallMap, []uint64{regionPtr, 1 << 30, 3, 0x4032, ^uint64(0), 0}, errno(unix.ENOMEM)},
		{"map wrapping", abi.CallMap, []uint64{regionPtr, ^uint64(0), 3, 0x4032, ^uint64(0), 0}, errno(unix.EINVAL)},
		{"map wrapping 2", abi.CallMap, []uint64{regionPtr + 4096, ^uint64(0) - 8191, 3, 0x4032, ^uint64(0), 0}, errno(unix.ENOMEM)},
		{"map executable", abi.CallMap, []uint64{regionPtr, 4096, 7, 0x4032, ^uint64(0), 0}, errno(unix.EINVAL)},
		{"map odd address", abi.CallMap, []uint64{regionPtr + 8, 4096, 3, 0x4032, ^uint64(0), 0}, errno(unix.EINVAL)},
		{"map nothing", abi.CallMap, []uint64{regionPtr, 0, 3, 0x4032, ^uint64(0), 0}, errno(unix.EINVAL)},
		{"map anywhere", abi.CallMap, []uint64{0, 4096, 3, 0x4022, ^uint64(0), 0}, errno(unix.EINVAL)},
		{"map a file", abi.CallMap, []uint64{regionPtr, 4096, 1, 0x11, 4, 0}, errno(unix.ENODEV)},
		{"send to an address", abi.CallSend, []uint64{1, Data, 8, 0, Data, 16}, errno(unix.EACCES)},
	}
	for _, p := range []uint64{0, badPtr, superPtr, beyondPtr, lastPtr, 1 << 62} {
		cases = append(cases,
			callCase{fmt.Sprintf("send from %#x", p), abi.CallSend, []uint64{1, p, 8, 0, 0, 0}, efault},
			callCase{fmt.Sprintf("recv to %#x", p), abi.CallRecv, []uint64{0, p, 8, 0, 0, 0}, efault},
			callCase{fmt.Sprintf("pread to %#x", p), abi.CallPread, []uint64{4, p, 8, 0}, efault})
	}
	runCalls(t, cases)
}

// TestForgedHandles names descriptors that are the runner's own or nobody's.
func TestForgedHandles(t *testing.T) {
	var cases []callCase
	ebadf := errno(unix.EBADF)
	for _, h := range []uint64{6, 7, 8, 100, 1<<20 - 8, 1<<20 - 1, 1 << 31, 1 << 32, 1<<32 + 1, 1 << 63, ^uint64(0)} {
		cases = append(cases,
			callCase{fmt.Sprint("recv ", h), abi.CallRecv, []uint64{h, Data, 8, 0, 0, 0}, ebadf},
			callCase{fmt.Sprint("send ", h), abi.CallSend, []uint64{h, Data, 8, 0, 0, 0}, ebadf},
			callCase{fmt.Sprint("pread ", h), abi.CallPread, []uint64{h, Data, 8, 0}, ebadf},
			callCase{fmt.Sprint("pwrite ", h), abi.CallPwrite, []uint64{h, Data, 8, 0}, ebadf},
			callCase{fmt.Sprint("accept ", h), abi.CallAccept, []uint64{h, 0, 0, 0}, ebadf},
			callCase{fmt.Sprint("close ", h), abi.CallClose, []uint64{h}, ebadf},
			callCase{fmt.Sprint("watch ", h), abi.CallWatch, []uint64{5, 1, h, Data}, ebadf},
			callCase{fmt.Sprint("poll ", h), abi.CallPoll, []uint64{h, Data, 1, 0, 0, 8}, ebadf})
	}
	runCalls(t, cases)
}

// TestAllNumbers makes every call of 0 to 512 that has no meaning. At most 12 have one
// for a guest that may not fork.
func TestAllNumbers(t *testing.T) {
	known := map[uint64]bool{}
	for _, n := range []uint64{abi.CallRecv, abi.CallSend, abi.CallPread, abi.CallPwrite, abi.CallAccept, abi.CallClose,
		abi.CallWatch, abi.CallPoll, abi.CallMap, abi.CallExit, abi.CallSigreturn} {
		known[n] = true
	}
	if len(known) > 12 {
		t.Errorf("%d numbers have a meaning", len(known))
	}
	var cases []callCase
	for n := uint64(0); n <= 512; n++ {
		if !known[n] {
			cases = append(cases, callCase{fmt.Sprint("call ", n), n, []uint64{Data, Data, Data, Data, Data, Data}, errno(unix.ENOSYS)})
		}
	}
	for _, n := range []uint64{1 << 31, 1 << 32, 1<<32 + abi.CallExit, 1 << 63, ^uint64(0)} {
		cases = append(cases, callCase{fmt.Sprint("call ", n), n, nil, errno(unix.ENOSYS)})
	}
	runCalls(t, cases)
}

// runCalls makes all calls in one guest and compares the results, which the
// guest sends as they are.
func runCalls(t *testing.T, cases []callCase) {
	t.Helper()
	runCallsOf(t, cases, make([]byte, 128), Options{})
}

// runCallsOf is runCalls for a guest with options, and with data at the beginning of its
// own, of which bytes 64 to 67 are the length of a socket address.
func runCallsOf(t *testing.T, cases []callCase, data []byte, o Options) {
	t.Helper()
	a := NewAsm()
	const results = Data + 0x9000
	for i, c := range cases {
		a.CallN(c.nr, c.args...)
		a.Mov(RBX, results+8*uint64(i)).Store(RBX, 0, RAX)
	}
	a.Print(results, 8*uint64(len(cases))).Exit(0)
	data[64] = 16 // the length of a socket address
	r := run(t, a, data, o)
	if r.Code != 0 || len(r.Out) < 8*len(cases) {
		t.Fatalf("code %d, %d bytes of output, stderr %q", r.Code, len(r.Out), r.Err)
	}
	// What forged calls may have sent to stdout comes before.
	out := r.Out[len(r.Out)-8*len(cases):]
	for i, c := range cases {
		if got := int64(binary.LittleEndian.Uint64(out[8*i:])); got != c.want {
			t.Errorf("%s: result %d, want %d", c.name, got, c.want)
		}
	}
}

// TestForgedStores touches the hypercall page in ways that are no host call.
func TestForgedStores(t *testing.T) {
	for _, c := range []struct {
		name string
		do   func(a *Asm)
	}{
		{"load", func(a *Asm) { a.Load(RAX, RBX, 0) }},
		{"8-byte store", func(a *Asm) { a.Store(RBX, 0, RAX) }},
		{"1-byte store", func(a *Asm) { a.Raw(0x88, 0x03) }},
		{"2-byte store", func(a *Asm) { a.Raw(0x66, 0x89, 0x03) }},
		{"exchange", func(a *Asm) { a.Raw(0x87, 0x03) }},
		{"locked add", func(a *Asm) { a.Raw(0xf0, 0x01, 0x03) }},
		{"rep movsd", func(a *Asm) { a.MovR(RDI, RBX).Mov(RSI, Data).Mov(RCX, 64).Raw(0xf3, 0x48, 0xa5) }},
		{"SSE store", func(a *Asm) { a.Raw(0x0f, 0x29, 0x03) }},
		{"AVX store", func(a *Asm) { a.Raw(0xc5, 0xfc, 0x11, 0x03) }},
		{"push", func(a *Asm) { a.MovR(RSP, RBX).Raw(0x48, 0x81, 0xc4, 0x80, 0, 0, 0, 0x50) }},
		{"cmpxchg16b", func(a *Asm) { a.Raw(0x48, 0x0f, 0xc7, 0x0b) }},
		{"fxsave", func(a *Asm) { a.Raw(0x0f, 0xae, 0x03) }},
		{"across the end", func(a *Asm) { a.Mov(RBX, abi.VMHypercallPage+4094).Store32(RBX, 0, RAX) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := NewAsm().Mov(RBX, abi.VMHypercallPage).Mov(RAX, 0x1000)
			c.do(a)
			r := run(t, a.Exit(99), nil, Options{})
			if r.Code <= 128 || !strings.Contains(string(r.Err), "noyau: vm: ") {
				t.Errorf("code %d, stderr %q; want an end by a signal and a report", r.Code, r.Err)
			}
			t.Logf("%d %s", r.Code, r.Err)
		})
	}
}
