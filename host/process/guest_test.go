package process

import (
	"bytes"
	"encoding/binary"
	"os"
	"testing"
)

// Guests are emitted here as machine code in minimal static ELF files, so that a
// test knows every instruction that runs under the filter.

const guestBase = 0x400000

// code is x86-64 machine code under construction.
type code struct{ bytes.Buffer }

// argument registers of a system call, as encodings of "mov reg, imm64"
var argRegs = [6][2]byte{
	{0x48, 0xbf}, // rdi
	{0x48, 0xbe}, // rsi
	{0x48, 0xba}, // rdx
	{0x49, 0xba}, // r10
	{0x49, 0xb8}, // r8
	{0x49, 0xb9}, // r9
}

func (c *code) imm(op [2]byte, v uint64) {
	c.Write(op[:])
	binary.Write(c, binary.LittleEndian, v)
}

// load sets the number and the arguments of a system call.
func (c *code) load(nr uint64, args ...uint64) *code {
	for i, v := range args {
		c.imm(argRegs[i], v)
	}
	c.imm([2]byte{0x48, 0xb8}, nr) // rax
	return c
}

// sys makes a system call; its result is in rax.
func (c *code) sys(nr uint64, args ...uint64) *code {
	c.load(nr, args...)
	c.Write([]byte{0x0f, 0x05}) // syscall
	return c
}

// exit ends the guest with a code.
func (c *code) exit(n uint64) *code { return c.sys(231, n) }

// exitErrno ends the guest with the error number of the last call, 0 if it
// succeeded and had the result 0.
func (c *code) exitErrno() *code {
	c.Write([]byte{0x89, 0xc7, 0xf7, 0xdf, 0xb8, 231, 0, 0, 0, 0x0f, 0x05}) // edi = -eax; exit_group
	return c
}

// raw appends instructions as they are.
func (c *code) raw(b ...byte) *code { c.Write(b); return c }

// elf wraps c in a static ELF with one segment, readable and executable.
func (c *code) elf() []byte {
	const ehsize, phsize = 64, 56
	var b bytes.Buffer
	le := func(v any) { binary.Write(&b, binary.LittleEndian, v) }
	b.WriteString("\x7fELF\x02\x01\x01")
	b.Write(make([]byte, 9))
	le([]uint16{2, 62})
	le(uint32(1))
	le([]uint64{guestBase + ehsize + 2*phsize, ehsize, 0})
	le(uint32(0))
	le([]uint16{ehsize, phsize, 2, 0, 0, 0})
	size := uint64(ehsize + 2*phsize + c.Len())
	le([]uint32{1, 5}) // PT_LOAD, R|X
	le([]uint64{0, guestBase, guestBase, size, size, 4096})
	le([]uint32{0x6474e551, 6}) // PT_GNU_STACK, R|W
	le([]uint64{0, 0, 0, 0, 0, 16})
	b.Write(c.Bytes())
	return b.Bytes()
}

// file writes the guest to an executable file.
func (c *code) file(t testing.TB) *os.File {
	t.Helper()
	return imageFile(t, c.elf(), 0o755)
}

func imageFile(t testing.TB, content []byte, mode os.FileMode) *os.File {
	t.Helper()
	f, err := os.CreateTemp(t.TempDir(), "guest")
	if err != nil {
		t.Fatal(err)
	}
	name := f.Name()
	if _, err := f.Write(content); err != nil {
		t.Fatal(err)
	}
	f.Chmod(mode)
	f.Close()
	if f, err = os.Open(name); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}
