// Package vmtest builds tiny guests for the tests of isolation=vm, instruction
// by instruction, and runs them in a runner process. A guest is a static ELF
// file of some hundred bytes that proves one thing.
package vmtest

import "encoding/binary"

// Reg is a 64-bit register by its number in instruction encodings.
type Reg uint8

// The registers.
const (
	RAX Reg = iota
	RCX
	RDX
	RBX
	RSP
	RBP
	RSI
	RDI
	R8
	R9
	R10
	R11
	R12
	R13
	R14
	R15
)

// Asm is machine code under construction.
type Asm struct {
	b      []byte
	labels map[string]int
	fixups []fixup
}

type fixup struct {
	at    int // of a 32-bit displacement, or of a 64-bit address if abs
	label string
	abs   bool
}

// NewAsm begins an empty program.
func NewAsm() *Asm { return &Asm{labels: map[string]int{}} }

// Raw appends instruction bytes as they are.
func (a *Asm) Raw(b ...byte) *Asm { a.b = append(a.b, b...); return a }

// Label names the next instruction.
func (a *Asm) Label(name string) *Asm { a.labels[name] = len(a.b); return a }

// Mov loads a 64-bit constant.
func (a *Asm) Mov(r Reg, v uint64) *Asm {
	a.Raw(0x48|byte(r>>3), 0xb8|byte(r&7))
	a.b = binary.LittleEndian.AppendUint64(a.b, v)
	return a
}

// Lea loads the address of a label.
func (a *Asm) Lea(r Reg, label string) *Asm {
	a.Raw(0x48|byte(r>>3), 0xb8|byte(r&7))
	a.fixups = append(a.fixups, fixup{len(a.b), label, true})
	a.b = append(a.b, make([]byte, 8)...)
	return a
}

func (a *Asm) rm(rexW byte, op byte, reg, base Reg, disp int32) *Asm {
	a.Raw(0x40|rexW|byte(reg>>3)<<2|byte(base>>3), op, 0x80|byte(reg&7)<<3|byte(base&7))
	if base&7 == RSP {
		a.Raw(0x24)
	}
	a.b = binary.LittleEndian.AppendUint32(a.b, uint32(disp))
	return a
}

// Store writes a 64-bit register to memory, Store32 its lower half; Load reads 64 bits.
func (a *Asm) Store(base Reg, disp int32, r Reg) *Asm   { return a.rm(8, 0x89, r, base, disp) }
func (a *Asm) Store32(base Reg, disp int32, r Reg) *Asm { return a.rm(0, 0x89, r, base, disp) }
func (a *Asm) Load(r, base Reg, disp int32) *Asm        { return a.rm(8, 0x8b, r, base, disp) }

// op2 is an instruction with two registers, dst first.
func (a *Asm) op2(op byte, dst, src Reg) *Asm {
	return a.Raw(0x48|byte(src>>3)<<2|byte(dst>>3), op, 0xc0|byte(src&7)<<3|byte(dst&7))
}

// Arithmetic on registers: dst op= src. Cmp sets the flags only.
func (a *Asm) MovR(dst, src Reg) *Asm { return a.op2(0x89, dst, src) }
func (a *Asm) Add(dst, src Reg) *Asm  { return a.op2(0x01, dst, src) }
func (a *Asm) Sub(dst, src Reg) *Asm  { return a.op2(0x29, dst, src) }
func (a *Asm) And(dst, src Reg) *Asm  { return a.op2(0x21, dst, src) }
func (a *Asm) Cmp(dst, src Reg) *Asm  { return a.op2(0x39, dst, src) }

// Jmp, Jz, Jnz, Jb and Call go to a label; CallR to the address in r.
func (a *Asm) Jmp(label string) *Asm  { return a.rel(label, 0xe9) }
func (a *Asm) Jz(label string) *Asm   { return a.rel(label, 0x0f, 0x84) }
func (a *Asm) Jnz(label string) *Asm  { return a.rel(label, 0x0f, 0x85) }
func (a *Asm) Jb(label string) *Asm   { return a.rel(label, 0x0f, 0x82) }
func (a *Asm) Call(label string) *Asm { return a.rel(label, 0xe8) }
func (a *Asm) CallR(r Reg) *Asm       { return a.Raw(0x40|byte(r>>3), 0xff, 0xd0|byte(r&7)) }
func (a *Asm) JmpR(r Reg) *Asm        { return a.Raw(0x40|byte(r>>3), 0xff, 0xe0|byte(r&7)) }
func (a *Asm) Ret() *Asm              { return a.Raw(0xc3) }

func (a *Asm) rel(label string, op ...byte) *Asm {
	a.Raw(op...)
	a.fixups = append(a.fixups, fixup{at: len(a.b), label: label})
	return a.Raw(0, 0, 0, 0)
}

// Bytes returns the code for address base.
func (a *Asm) Bytes(base uint64) []byte {
	for _, f := range a.fixups {
		at, ok := a.labels[f.label]
		if !ok {
			panic("vmtest: no label " + f.label)
		}
		if f.abs {
			binary.LittleEndian.PutUint64(a.b[f.at:], base+uint64(at))
		} else {
			binary.LittleEndian.PutUint32(a.b[f.at:], uint32(at-f.at-4))
		}
	}
	return a.b
}
