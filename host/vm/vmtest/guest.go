package vmtest

import (
	"bytes"
	"encoding/binary"

	"noyau.dev/abi"
)

// Where a guest's parts lie. Text is read-execute, Const is read-only, Data is read-write.
const (
	Text     = 0x400000
	Const    = 0x4c0000
	Data     = 0x500000
	DataSize = 64 << 10
)

// A Part is a further segment of a guest.
type Part struct {
	Flags   uint32 // of the program header: 4 read, 2 write, 1 execute
	Addr    uint64
	Content []byte
}

// Hyper makes a host call with number nr; arguments are already in registers.
// It uses R15 for the hypercall page.
func (a *Asm) Hyper(nr uint64) *Asm {
	return a.Mov(RAX, nr).Mov(R15, abi.VMHypercallPage).Store32(R15, 0, RAX)
}

// CallN loads the arguments and makes a host call.
func (a *Asm) CallN(nr uint64, args ...uint64) *Asm {
	for i, v := range args {
		a.Mov([]Reg{RDI, RSI, RDX, R10, R8, R9}[i], v)
	}
	return a.Hyper(nr)
}

// Exit ends the guest with a code, ExitR with the code in a register.
func (a *Asm) Exit(code uint64) *Asm { return a.CallN(abi.CallExit, code) }
func (a *Asm) ExitR(r Reg) *Asm      { return a.MovR(RDI, r).Hyper(abi.CallExit) }

// Print sends n bytes at an address to standard output.
func (a *Asm) Print(addr, n uint64) *Asm {
	return a.CallN(abi.CallSend, abi.HandleStdout, addr, n, 0, 0, 0)
}

// Handle registers the code at a label for a signal, on an alternate stack at
// the end of the data.
func (a *Asm) Handle(sig uint64, label string) *Asm {
	a.SignalStack(Data+DataSize-16384, 16384)
	a.Mov(RBX, abi.VMSignals+abi.VMSigActions+abi.VMSigAction*sig)
	a.Lea(RAX, label).Store(RBX, 0, RAX)
	a.Mov(RAX, 0x0c000004).Store(RBX, 8, RAX) // SA_ONSTACK SA_RESTORER SA_SIGINFO
	a.Lea(RAX, "restorer").Store(RBX, 16, RAX)
	return a.Mov(RAX, 0).Store(RBX, 24, RAX)
}

// SignalStack says where handlers run.
func (a *Asm) SignalStack(base, size uint64) *Asm {
	return a.Mov(RBX, abi.VMSignals).Mov(RAX, base).Store(RBX, abi.VMSigStack, RAX).Mov(RAX, size).Store(RBX, abi.VMSigSize, RAX)
}

// Restorer appends what a handler returns to.
func (a *Asm) Restorer() *Asm { return a.Label("restorer").Hyper(abi.CallSigreturn) }

// ELF returns the image of a guest: its code, data of DataSize bytes that
// begins with the given bytes, a page of read-only data, which is code that returns, and
// further parts, behind these by address.
func ELF(a *Asm, data []byte, parts ...Part) []byte {
	parts = append([]Part{{4, Const, bytes.Repeat([]byte{0xc3}, 0x1000)}}, parts...)
	code := a.Bytes(Text + 0x1000)
	le := binary.LittleEndian
	f := make([]byte, 0x1000, 0x3000+len(code)+len(data))
	copy(f, "\x7fELF\x02\x01\x01")
	le.PutUint16(f[16:], 2)
	le.PutUint16(f[18:], 62)
	le.PutUint32(f[20:], 1)
	le.PutUint64(f[24:], Text+0x1000)
	le.PutUint64(f[32:], 64)
	le.PutUint16(f[52:], 64)
	le.PutUint16(f[54:], 56)
	le.PutUint16(f[56:], uint16(2+len(parts)))
	f = append(f, code...)
	textSize := len(f)
	ph := func(i int, flags uint32, off, va, filesz, memsz uint64) {
		p := f[64+56*i:]
		le.PutUint32(p, 1)
		le.PutUint32(p[4:], flags)
		le.PutUint64(p[8:], off)
		le.PutUint64(p[16:], va)
		le.PutUint64(p[24:], va)
		le.PutUint64(p[32:], filesz)
		le.PutUint64(p[40:], memsz)
		le.PutUint64(p[48:], 0x1000)
	}
	ph(0, 5, 0, Text, uint64(textSize), uint64(textSize))
	add := func(i int, flags uint32, va uint64, content []byte, memsz int) {
		for len(f)%0x1000 != 0 {
			f = append(f, 0)
		}
		off := len(f)
		f = append(f, content...)
		ph(i, flags, uint64(off), va, uint64(len(content)), uint64(memsz))
	}
	add(1, parts[0].Flags, parts[0].Addr, parts[0].Content, len(parts[0].Content))
	add(2, 6, Data, data, DataSize)
	for i, p := range parts[1:] {
		add(3+i, p.Flags, p.Addr, p.Content, len(p.Content))
	}
	return f
}
