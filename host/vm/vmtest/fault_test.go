package vmtest

import (
	"bytes"
	"encoding/binary"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"noyau.dev/abi"
)

// A handler that stores what it got at Data and prints 32 bytes of it: signal,
// code, address, RIP; then exits with 7.
func reporter(a *Asm) *Asm {
	return a.Label("handler").Mov(RBX, Data+0x100).
		Store(RBX, 0, RDI).
		Raw(0x48, 0x63, 0x46, 0x08).Store(RBX, 8, RAX). // movslq 8(%rsi),%rax: si_code
		Load(RAX, RSI, 16).Store(RBX, 16, RAX).
		Load(RAX, RDX, 40+16*8).Store(RBX, 24, RAX).
		Print(Data+0x100, 32).Exit(7).Restorer()
}

type faultCase struct {
	name   string
	sig    unix.Signal
	code   int64
	addr   uint64 // ignored if anyAddr
	report string // part of the report without a handler
	do     func(a *Asm)
}

const anyAddr = 0xfefefefefefefefe

var faults = []faultCase{
	{"nil read", unix.SIGSEGV, 1, 0, "read of unmapped address 0x0", func(a *Asm) { a.Mov(RBX, 0).Load(RAX, RBX, 0) }},
	{"nil field write", unix.SIGSEGV, 1, 8, "write to unmapped address 0x8", func(a *Asm) { a.Mov(RBX, 0).Store(RBX, 8, RAX) }},
	{"write to text", unix.SIGSEGV, 2, Text + 0x1000, "write to protected address 0x401000", func(a *Asm) { a.Mov(RBX, Text+0x1000).Store(RBX, 0, RAX) }},
	{"execute data", unix.SIGSEGV, 2, Data, "jump to protected address 0x500000", func(a *Asm) { a.Mov(RBX, Data).JmpR(RBX) }},
	{"execute read-only data", unix.SIGSEGV, 2, Const, "jump to protected address 0x4c0000", func(a *Asm) { a.Mov(RBX, Const).JmpR(RBX) }},
	{"write to read-only data", unix.SIGSEGV, 2, Const, "write to protected address 0x4c0000", func(a *Asm) { a.Mov(RBX, Const).Store(RBX, 0, RAX) }},
	{"execute stack", unix.SIGSEGV, 2, anyAddr, "jump to protected", func(a *Asm) { a.JmpR(RSP) }},
	{"execute hypercall page", unix.SIGSEGV, 2, abi.VMHypercallPage, "jump to protected", func(a *Asm) { a.Mov(RBX, abi.VMHypercallPage).JmpR(RBX) }},
	{"execute info page", unix.SIGSEGV, 2, abi.VMInfoPage, "jump to protected", func(a *Asm) { a.Mov(RBX, abi.VMInfoPage).JmpR(RBX) }},
	{"write info page", unix.SIGSEGV, 2, abi.VMInfoPage, "write to protected", func(a *Asm) { a.Mov(RBX, abi.VMInfoPage).Store(RBX, 0, RAX) }},
	{"wild jump", unix.SIGSEGV, 1, 0x123456789000, "jump to unmapped address 0x123456789000", func(a *Asm) { a.Mov(RBX, 0x123456789000).JmpR(RBX) }},
	{"jump to nil", unix.SIGSEGV, 1, 0, "jump to unmapped address 0x0", func(a *Asm) { a.Mov(RBX, 0).JmpR(RBX) }},
	{"not canonical", unix.SIGSEGV, 0x80, 0, "general protection", func(a *Asm) { a.Mov(RBX, 0x8000000000000000).Load(RAX, RBX, 0) }},
	{"supervisor read", unix.SIGSEGV, 1, 0xffff800000000000, "read of unmapped address 0xffff800000000000", func(a *Asm) { a.Mov(RBX, 0xffff800000000000).Load(RAX, RBX, 0) }},
	{"supervisor write", unix.SIGSEGV, 1, 0xffff800000003ff8, "unmapped", func(a *Asm) { a.Mov(RBX, 0xffff800000003ff8).Store(RBX, 0, RAX) }},
	{"supervisor jump", unix.SIGSEGV, 1, 0xffff800000002000, "unmapped", func(a *Asm) { a.Mov(RBX, 0xffff800000002000).JmpR(RBX) }},
	{"below the stack", unix.SIGSEGV, 1, abi.VMStackBase - 8, "unmapped", func(a *Asm) { a.Mov(RBX, abi.VMStackBase-8).Store(RBX, 0, RAX) }},
	{"stack overflow", unix.SIGSEGV, 1, abi.VMStackBase - 8, "unmapped", func(a *Asm) { a.Label("deep").Call("deep") }},
	{"beyond the region", unix.SIGSEGV, 1, abi.RegionBase + 1<<30, "unmapped", func(a *Asm) { a.Mov(RBX, abi.RegionBase+1<<30).Load(RAX, RBX, 0) }},
	{"gap of the image", unix.SIGSEGV, 1, 0x480000, "unmapped", func(a *Asm) { a.Mov(RBX, 0x480000).Load(RAX, RBX, 0) }},
	{"divide by zero", unix.SIGFPE, 1, anyAddr, "divide error", func(a *Asm) { a.Mov(RCX, 0).Mov(RDX, 0).Mov(RAX, 1).Raw(0x48, 0xf7, 0xf1) }},
	{"ud2", unix.SIGILL, 2, anyAddr, "invalid instruction", func(a *Asm) { a.Raw(0x0f, 0x0b) }},
	{"int3", unix.SIGTRAP, 0x80, 0, "breakpoint", func(a *Asm) { a.Raw(0xcc) }},
	{"hlt", unix.SIGSEGV, 0x80, 0, "general protection", func(a *Asm) { a.Raw(0xf4) }},
	{"cli", unix.SIGSEGV, 0x80, 0, "general protection", func(a *Asm) { a.Raw(0xfa) }},
	{"sti", unix.SIGSEGV, 0x80, 0, "general protection", func(a *Asm) { a.Raw(0xfb) }},
	{"out", unix.SIGSEGV, 0x80, 0, "general protection", func(a *Asm) { a.Raw(0xe6, 14) }},
	{"out dx", unix.SIGSEGV, 0x80, 0, "general protection", func(a *Asm) { a.Mov(RDX, 0x3f8).Raw(0xee) }},
	{"in", unix.SIGSEGV, 0x80, 0, "general protection", func(a *Asm) { a.Raw(0xe4, 0x60) }},
	{"rep outsb", unix.SIGSEGV, 0x80, 0, "general protection", func(a *Asm) { a.Mov(RSI, Data).Mov(RCX, 4).Mov(RDX, 14).Raw(0xf3, 0x6e) }},
	{"rdmsr", unix.SIGSEGV, 0x80, 0, "general protection", func(a *Asm) { a.Mov(RCX, 0xc0000082).Raw(0x0f, 0x32) }},
	{"wrmsr", unix.SIGSEGV, 0x80, 0, "general protection", func(a *Asm) { a.Mov(RCX, 0xc0000082).Raw(0x0f, 0x30) }},
	{"rdpmc", unix.SIGSEGV, 0x80, 0, "general protection", func(a *Asm) { a.Mov(RCX, 0).Raw(0x0f, 0x33) }},
	{"mov cr3", unix.SIGSEGV, 0x80, 0, "general protection", func(a *Asm) { a.Raw(0x0f, 0x22, 0xd8) }},
	{"read cr0", unix.SIGSEGV, 0x80, 0, "general protection", func(a *Asm) { a.Raw(0x0f, 0x20, 0xc0) }},
	{"mov dr7", unix.SIGSEGV, 0x80, 0, "general protection", func(a *Asm) { a.Raw(0x0f, 0x23, 0xf8) }},
	{"lgdt", unix.SIGSEGV, 0x80, 0, "general protection", func(a *Asm) { a.Mov(RBX, Data).Raw(0x0f, 0x01, 0x13) }},
	{"lidt", unix.SIGSEGV, 0x80, 0, "general protection", func(a *Asm) { a.Mov(RBX, Data).Raw(0x0f, 0x01, 0x1b) }},
	{"lldt", unix.SIGSEGV, 0x80, 0, "general protection", func(a *Asm) { a.Mov(RAX, 0).Raw(0x0f, 0x00, 0xd0) }},
	{"ltr", unix.SIGSEGV, 0x80, 0, "general protection", func(a *Asm) { a.Mov(RAX, 0x30).Raw(0x0f, 0x00, 0xd8) }},
	{"invlpg", unix.SIGSEGV, 0x80, 0, "general protection", func(a *Asm) { a.Mov(RBX, Data).Raw(0x0f, 0x01, 0x3b) }},
	{"swapgs", unix.SIGSEGV, 0x80, 0, "general protection", func(a *Asm) { a.Raw(0x0f, 0x01, 0xf8) }},
	{"wbinvd", unix.SIGSEGV, 0x80, 0, "general protection", func(a *Asm) { a.Raw(0x0f, 0x09) }},
	{"clts", unix.SIGSEGV, 0x80, 0, "general protection", func(a *Asm) { a.Raw(0x0f, 0x06) }},
	{"xsetbv", unix.SIGSEGV, 0x80, 0, "general protection", func(a *Asm) { a.Mov(RCX, 0).Mov(RDX, 0).Mov(RAX, 1).Raw(0x0f, 0x01, 0xd1) }},
	{"load SS of CPL 0", unix.SIGSEGV, 0x80, 0, "general protection", func(a *Asm) { a.Mov(RAX, 0x10).Raw(0x8e, 0xd0) }},
	{"load FS beyond the GDT", unix.SIGSEGV, 0x80, 0, "general protection", func(a *Asm) { a.Mov(RAX, 0x4b).Raw(0x8e, 0xe0) }},
}

// TestFaultReachesHandler checks for each fault that the handler gets the signal,
// code and address that Linux gives.
func TestFaultReachesHandler(t *testing.T) {
	for _, f := range faults {
		t.Run(f.name, func(t *testing.T) {
			a := NewAsm().Handle(uint64(f.sig), "handler")
			f.do(a)
			r := run(t, reporter(a.Exit(99)), nil, Options{})
			if r.Code != 7 || len(r.Out) != 32 {
				t.Fatalf("code %d, out %d bytes, stderr %q", r.Code, len(r.Out), r.Err)
			}
			word := func(i int) uint64 { return binary.LittleEndian.Uint64(r.Out[8*i:]) }
			if word(0) != uint64(f.sig) || int64(word(1)) != f.code || f.addr != anyAddr && word(2) != f.addr {
				t.Errorf("signal %d code %#x addr %#x rip %#x, want %d %#x %#x", word(0), word(1), word(2), word(3), f.sig, f.code, f.addr)
			}
		})
	}
}

// TestFaultEndsVM checks that the same faults without a handler end the VM with
// a report and the signal, told to the monitor.
func TestFaultEndsVM(t *testing.T) {
	for _, f := range faults {
		t.Run(f.name, func(t *testing.T) {
			a := NewAsm()
			f.do(a)
			r := run(t, a.Exit(99), nil, Options{})
			if r.Code != 128+int(f.sig) || !strings.Contains(string(r.Err), f.report) {
				t.Errorf("code %d, stderr %q; want %d and %q", r.Code, r.Err, 128+int(f.sig), f.report)
			}
			if len(r.Messages) != 1 || r.Messages[0].Op != abi.OpKilled || r.Messages[0].A != uint64(f.sig) {
				t.Errorf("messages %+v, want one OpKilled of signal %d", r.Messages, f.sig)
			}
		})
	}
}

// TestLargePages: text and read-only data in pages of 2 MiB. What returns when it is
// called is in both; text can be run to its last byte, and data nowhere.
func TestLargePages(t *testing.T) {
	const text, data, size = 0x800000, 0xa00000, 4 << 20
	rets := bytes.Repeat([]byte{0xc3}, size)
	parts := []Part{{5, text, rets[:size/2]}, {4, data, rets}}
	for _, c := range []struct {
		name   string
		addr   uint64
		call   bool // else a store
		report string
	}{
		{"run text", text, true, ""},
		{"run the end of text", data - 1, true, ""},
		{"write text", text + 0x1000, false, "write to protected address 0x801000"},
		{"run data", data, true, "jump to protected address 0xa00000"},
		{"run the middle of data", data + size/2 + 8, true, "jump to protected address 0xc00008"},
		{"run the end of data", data + size - 1, true, "jump to protected address 0xdfffff"},
		{"write data", data + 0x1000, false, "write to protected address 0xa01000"},
		{"run beyond", data + size, true, "jump to unmapped address 0xe00000"},
	} {
		t.Run(c.name, func(t *testing.T) {
			// Data can be read, whatever else.
			a := NewAsm().Mov(RBX, data+size-8).Load(RAX, RBX, 0).Mov(RCX, 0xc3c3c3c3c3c3c3c3).Cmp(RAX, RCX).Jnz("bad").Mov(RBX, c.addr)
			if c.call {
				a.CallR(RBX)
			} else {
				a.Store(RBX, 0, RAX)
			}
			r := runELF(t, ELF(a.Exit(7).Label("bad").Exit(1), nil, parts...), Options{})
			if c.report == "" && r.Code != 7 || c.report != "" && (r.Code != 128+int(unix.SIGSEGV) || !strings.Contains(string(r.Err), c.report)) {
				t.Errorf("code %d, stderr %q; want %q", r.Code, r.Err, c.report)
			}
		})
	}
}

// Some instructions are refused in different ways by different back-ends of KVM;
// what they must not do is work.
func TestRefused(t *testing.T) {
	for _, c := range []struct {
		name string
		code []byte
	}{
		{"int 14", []byte{0xcd, 14}},
		{"int 0x80", []byte{0xcd, 0x80}},
		{"syscall", []byte{0x0f, 0x05}},
		{"sysenter", []byte{0x0f, 0x34}},
		{"sysret", []byte{0x48, 0x0f, 0x07}},
		{"vmcall", []byte{0x0f, 0x01, 0xc1, 0xf4}}, // VMCALL may answer an error: HLT ends it
		{"vmmcall", []byte{0x0f, 0x01, 0xd9, 0xf4}},
		{"vmrun", []byte{0x0f, 0x01, 0xd8}},
		{"vmxon", []byte{0xf3, 0x0f, 0xc7, 0x34, 0x24}},
		{"monitor", []byte{0x0f, 0x01, 0xc8}},
		{"mwait", []byte{0x0f, 0x01, 0xc9}},
		{"rsm", []byte{0x0f, 0xaa}},
		{"xrstors", []byte{0x48, 0x0f, 0xc7, 0x1c, 0x24}},
		{"invpcid", []byte{0x66, 0x0f, 0x38, 0x82, 0x04, 0x24}},
		{"clac", []byte{0x0f, 0x01, 0xca}},
		{"wrpkru", []byte{0x31, 0xc0, 0x31, 0xd2, 0x31, 0xc9, 0x0f, 0x01, 0xef}},
		{"iret to CPL 0", []byte{0x6a, 0, 0x6a, 0, 0x6a, 2, 0x6a, 8, 0x6a, 0, 0x48, 0xcf}}, // push SS RSP RFLAGS CS RIP; iretq
		{"far return to CPL 0", []byte{0x6a, 8, 0x6a, 0, 0x48, 0xcb}},
		{"jump to 32-bit code", []byte{0x6a, 0x1b, 0x68, 0, 0x10, 0x40, 0, 0x48, 0xcb}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := run(t, NewAsm().Raw(c.code...).Exit(99), nil, Options{})
			switch unix.Signal(r.Code - 128) {
			case unix.SIGSEGV, unix.SIGILL, unix.SIGSYS, unix.SIGBUS:
			default:
				t.Errorf("code %d, stderr %q", r.Code, r.Err)
			}
			t.Logf("%s", r.Err)
		})
	}
}
