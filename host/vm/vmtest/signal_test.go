package vmtest

import (
	"encoding/binary"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"noyau.dev/abi"
)

// TestReturnFromHandler skips a faulting instruction of two bytes and goes on,
// all registers as they were.
func TestReturnFromHandler(t *testing.T) {
	a := NewAsm().Handle(uint64(unix.SIGILL), "handler")
	for r := RAX; r <= R15; r++ {
		if r != RSP {
			a.Mov(r, 0x1111111111111111*uint64(r))
		}
	}
	a.Raw(0x0f, 0x0b) // UD2
	// Sum up all registers into RAX, then compare.
	want := uint64(0)
	for r := RCX; r <= R15; r++ {
		if r != RSP {
			a.Add(RAX, r)
			want += 0x1111111111111111 * uint64(r)
		}
	}
	a.Mov(RCX, want).Cmp(RAX, RCX).Jz("good").Exit(1).Label("good").Exit(33)
	a.Label("handler")
	for r := RAX; r <= R15; r++ {
		if r != RSP && r != RDX {
			a.Mov(r, 0xbad)
		}
	}
	a.Load(RAX, RDX, 40+16*8).Mov(RCX, 2).Add(RAX, RCX).Store(RDX, 40+16*8, RAX).Ret().Restorer()
	if r := run(t, a, nil, Options{}); r.Code != 33 {
		t.Errorf("code %d, stderr %q", r.Code, r.Err)
	}
}

// busy spins until the word at Data is not zero.
func busy(a *Asm) *Asm {
	return a.Label("spin").Mov(RBX, Data).Load(RAX, RBX, 0).Mov(RCX, 0).Cmp(RAX, RCX).Jz("spin")
}

// TestTightLoopIsTicked: a loop that makes no call is interrupted.
func TestTightLoopIsTicked(t *testing.T) {
	a := busy(NewAsm().Handle(uint64(unix.SIGPROF), "handler")).Exit(5)
	a.Label("handler").Mov(RBX, Data).Mov(RAX, 1).Store(RBX, 0, RAX).Ret().Restorer()
	if r := run(t, a, nil, Options{}); r.Code != 5 {
		t.Errorf("code %d, stderr %q", r.Code, r.Err)
	}
}

// TestStateOverTick: vector registers and MXCSR survive a tick whose handler
// spoils them.
func TestStateOverTick(t *testing.T) {
	a := NewAsm().Handle(uint64(unix.SIGPROF), "handler")
	a.Mov(RAX, 0x1122334455667788).Raw(0x66, 0x48, 0x0f, 0x6e, 0xc0) // movq %rax,%xmm0
	a.Mov(RAX, 0x8877665544332211).Raw(0x66, 0x4c, 0x0f, 0x6e, 0xf8) // movq %rax,%xmm15
	a.Raw(0xd9, 0xeb)                                                // fldpi
	busy(a)
	a.Raw(0x66, 0x48, 0x0f, 0x7e, 0xc0) // movq %xmm0,%rax
	a.Mov(RCX, 0x1122334455667788).Cmp(RAX, RCX).Jnz("bad")
	a.Raw(0x66, 0x4c, 0x0f, 0x7e, 0xf8) // movq %xmm15,%rax
	a.Mov(RCX, 0x8877665544332211).Cmp(RAX, RCX).Jnz("bad")
	a.Mov(RBX, Data).Raw(0xdd, 0x5b, 0x10) // fstpl 16(%rbx)
	a.Load(RAX, RBX, 16).Mov(RCX, 0x400921fb54442d18).Cmp(RAX, RCX).Jnz("bad").Exit(6)
	a.Label("bad").Exit(1)
	a.Label("handler").Mov(RAX, 0xbad).Raw(0x66, 0x48, 0x0f, 0x6e, 0xc0, 0x66, 0x4c, 0x0f, 0x6e, 0xf8, 0xdb, 0xe3) // …, fninit
	a.Mov(RBX, Data).Mov(RAX, 1).Store(RBX, 0, RAX).Ret().Restorer()
	if r := run(t, a, nil, Options{}); r.Code != 6 {
		t.Errorf("code %d, stderr %q", r.Code, r.Err)
	}
}

// TestNestedFault: a fault in a handler whose signal is blocked ends the VM.
func TestNestedFault(t *testing.T) {
	a := NewAsm().Handle(uint64(unix.SIGSEGV), "handler").Mov(RBX, 0).Load(RAX, RBX, 0).Exit(1)
	a.Label("handler").Mov(RBX, 16).Load(RAX, RBX, 0).Exit(2).Restorer()
	r := run(t, a, nil, Options{})
	if r.Code != 139 || !strings.Contains(string(r.Err), "in a signal handler") {
		t.Errorf("code %d, stderr %q", r.Code, r.Err)
	}
}

// TestBadSignalStack: faults whose handler cannot be entered end the VM.
func TestBadSignalStack(t *testing.T) {
	for _, sp := range []uint64{0, 0x1000, Text, superPtr, ^uint64(0) - 100000, abi.VMHypercallPage, abi.VMInfoPage, beyondPtr} {
		a := NewAsm().Handle(uint64(unix.SIGSEGV), "handler").SignalStack(sp, 16384)
		a.Mov(RBX, 0).Load(RAX, RBX, 0).Exit(1).Label("handler").Exit(2).Restorer()
		r := run(t, a, nil, Options{})
		if r.Code != 139 || !strings.Contains(string(r.Err), "signal stack") {
			t.Errorf("stack at %#x: code %d, stderr %q", sp, r.Code, r.Err)
		}
	}
}

// TestForgedSigreturn: a frame of the guest's own making gives it no more than
// user registers.
func TestForgedSigreturn(t *testing.T) {
	const frame = Data + 0x1000
	const regs = frame + 8 + 40
	put := func(a *Asm, addr, v uint64) { a.Mov(RBX, addr).Mov(RAX, v).Store(RBX, 0, RAX) }
	forge := func(a *Asm) {
		put(a, regs+15*8, abi.VMStackBase+abi.VMStackSize-4096) // RSP
		a.Mov(RBX, regs+16*8).Lea(RAX, "after").Store(RBX, 0, RAX)
		put(a, regs+17*8, 0xffffffffffffffff)    // RFLAGS with IOPL 3, IF, VM, NT …
		put(a, regs+18*8, 0x0010_0010_0010_0008) // CS, GS, FS, SS of CPL 0
	}
	t.Run("privilege", func(t *testing.T) {
		a := NewAsm()
		forge(a)
		put(a, regs+17*8, 0xfffffffffffbfeff) // all but TF and AC
		// IF IOPL NT VM VIF VIP ID must be as they were before.
		const privileged = 0x3a7200
		a.Raw(0x9c, 0x41, 0x5e).Mov(RCX, privileged).And(R14, RCX) // pushfq; pop %r14
		put(a, regs+6*8, 0)
		a.Mov(RBX, regs+6*8).Store(RBX, 0, R14)
		a.Mov(RSP, frame+8).Hyper(abi.CallSigreturn).Exit(1)
		a.Label("after").Raw(0x9c, 0x58) // pushfq; pop %rax
		a.Mov(RCX, privileged).And(RAX, RCX).Cmp(RAX, R14).Jnz("bad")
		a.Raw(0x66, 0x8c, 0xc8).Mov(RCX, 3).And(RAX, RCX) // mov %cs,%ax: CPL
		a.Cmp(RAX, RCX).Jnz("bad")
		a.Raw(0xfa).Exit(3) // CLI must fault
		a.Label("bad").Exit(4)
		r := run(t, a, nil, Options{})
		if r.Code != 139 || !strings.Contains(string(r.Err), "general protection") {
			t.Errorf("code %d, stderr %q; want the fault of CLI", r.Code, r.Err)
		}
	})
	t.Run("single step", func(t *testing.T) {
		a := NewAsm()
		forge(a)
		a.Mov(RSP, frame+8).Hyper(abi.CallSigreturn).Exit(1).Label("after").Raw(0x90, 0x90, 0x90).Exit(3)
		if r := run(t, a, nil, Options{}); r.Code != 128+int(unix.SIGTRAP) && r.Code != 3 {
			t.Errorf("code %d, stderr %q", r.Code, r.Err)
		}
	})
	for _, sp := range []uint64{0, 8, superPtr, ^uint64(0), abi.VMHypercallPage, Text - 64} {
		a := NewAsm().Mov(RSP, sp).Hyper(abi.CallSigreturn).Exit(1)
		if r := run(t, a, nil, Options{}); r.Code != 139 || !strings.Contains(string(r.Err), "rt_sigreturn") {
			t.Errorf("frame at %#x: code %d, stderr %q", sp, r.Code, r.Err)
		}
	}
	// Extended states: bad addresses end the VM, bad contents are cut down.
	for _, fp := range []uint64{badPtr, superPtr, ^uint64(0) - 8} {
		a := NewAsm()
		forge(a)
		put(a, regs+23*8, fp)
		a.Mov(RSP, frame+8).Hyper(abi.CallSigreturn).Label("after").Exit(3)
		if r := run(t, a, nil, Options{}); r.Code != 139 {
			t.Errorf("extended state at %#x: code %d, stderr %q", fp, r.Code, r.Err)
		}
	}
	t.Run("extended state of ones", func(t *testing.T) {
		a := NewAsm()
		forge(a)
		put(a, regs+17*8, 2)
		put(a, regs+23*8, Data+0x2000)
		for o := uint64(0); o < 640; o += 8 {
			put(a, Data+0x2000+o, ^uint64(0))
		}
		a.Mov(RSP, frame+8).Hyper(abi.CallSigreturn).Exit(1).Label("after").Exit(3)
		if r := run(t, a, nil, Options{}); r.Code != 3 && r.Code != 139 {
			t.Errorf("code %d, stderr %q", r.Code, r.Err)
		}
	})
	t.Run("RIP", func(t *testing.T) {
		for _, rip := range []uint64{0, superPtr + 0x2000, superPtr + 0x2070, 1 << 63, abi.VMHypercallPage} {
			a := NewAsm()
			forge(a)
			put(a, regs+16*8, rip)
			put(a, regs+17*8, 2)
			a.Mov(RSP, frame+8).Hyper(abi.CallSigreturn).Exit(1).Label("after").Exit(3)
			if r := run(t, a, nil, Options{}); r.Code <= 128 {
				t.Errorf("RIP %#x: code %d, stderr %q", rip, r.Code, r.Err)
			}
		}
	})
}

// TestSegmentBases: a guest may set its own FS and GS base, and they survive a
// signal.
func TestSegmentBases(t *testing.T) {
	a := NewAsm().Handle(uint64(unix.SIGILL), "handler")
	a.Mov(RAX, Data+64).Raw(0xf3, 0x48, 0x0f, 0xae, 0xd0)  // wrfsbase %rax
	a.Mov(RAX, Data+128).Raw(0xf3, 0x48, 0x0f, 0xae, 0xd8) // wrgsbase %rax
	a.Raw(0x0f, 0x0b)
	a.Mov(RCX, Data+64).Raw(0xf3, 0x48, 0x0f, 0xae, 0xc0).Cmp(RAX, RCX).Jnz("bad")  // rdfsbase
	a.Mov(RCX, Data+128).Raw(0xf3, 0x48, 0x0f, 0xae, 0xc8).Cmp(RAX, RCX).Jnz("bad") // rdgsbase
	a.Exit(8).Label("bad").Exit(1)
	a.Label("handler").Load(RAX, RDX, 40+16*8).Mov(RCX, 2).Add(RAX, RCX).Store(RDX, 40+16*8, RAX).Ret().Restorer()
	if r := run(t, a, nil, Options{}); r.Code != 8 {
		t.Errorf("code %d, stderr %q", r.Code, r.Err)
	}
}

// TestClock: the guest's clock by TSC is the host's: it is read between two moments of
// the host, that in which the runner was started and that in which it had ended.
func TestClock(t *testing.T) {
	a := NewAsm()
	a.Raw(0x0f, 0xae, 0xe8, 0x0f, 0x31) // lfence; rdtsc
	a.Mov(RBX, Data).Store(RBX, 0, RAX).Store(RBX, 8, RDX)
	a.Print(Data, 16).Print(abi.VMInfoPage, 64).Exit(0)
	before := now()
	r := run(t, a, nil, Options{})
	after := now()
	if len(r.Out) != 80 {
		t.Fatalf("%d bytes, stderr %q", len(r.Out), r.Err)
	}
	w := func(i int) uint64 { return binary.LittleEndian.Uint64(r.Out[8*i:]) }
	info := r.Out[16:]
	f := func(o int) uint64 { return binary.LittleEndian.Uint64(info[o:]) }
	if f(abi.VMInfoMagicAt) != abi.VMInfoMagic || f(abi.VMInfoHypercall) != abi.VMHypercallPage {
		t.Fatalf("info page %x", info)
	}
	tsc := w(0) | w(1)<<32
	d := tsc - f(abi.VMInfoTSCBase)
	got := int64(f(abi.VMInfoMonoBase)) + int64(mulShift(d, f(abi.VMInfoTSCMul)))
	if got < before || got > after {
		t.Errorf("clock %d, not within %d (%+d) and %d (%+d); tsc %d from base %d", got, before, got-before, after, got-after, tsc, f(abi.VMInfoTSCBase))
	}
}

// now is the host's monotonic clock, ns.
func now() int64 {
	var ts unix.Timespec
	unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts)
	return ts.Nano()
}

func mulShift(a, b uint64) uint64 {
	return uint64(float64(a) * float64(b) / (1 << 32))
}
