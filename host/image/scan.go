package image

import (
	"debug/elf"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/arch/x86/x86asm"
)

// A Finding is an instruction that enters the host's kernel, or bytes that
// could be one.
type Finding struct {
	Addr   uint64 `json:"addr"`   // virtual address
	Func   string `json:"func"`   // the function it lies in; "" if in none
	Offset uint64 `json:"offset"` // from the function's start
	Inst   string `json:"inst"`   // SYSCALL, SYSENTER or INT 0x80
	// Unsure means that the function could not be decoded up to here, so that
	// the bytes were taken for an instruction.
	Unsure bool `json:"unsure,omitempty"`
}

func (f Finding) String() string {
	where := "outside any function"
	if f.Func != "" {
		where = fmt.Sprintf("%s+%#x", f.Func, f.Offset)
	}
	s := fmt.Sprintf("%s in %s (%#x)", f.Inst, where, f.Addr)
	if f.Unsure {
		s += ", perhaps: the code before it could not be decoded"
	}
	return s
}

// A ScanError lists what Scan found that is not allowed.
type ScanError struct {
	Path     string
	Findings []Finding
}

func (e *ScanError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %d instructions call the host's kernel past the library OS:", e.Path, len(e.Findings))
	for _, f := range e.Findings {
		b.WriteString("\n\t" + f.String())
	}
	b.WriteString("\nassembly of the program or its modules makes system calls of its own; build without it (often a build tag such as purego or noasm)")
	return b.String()
}

// Scan looks at all code sections of the ELF file at path for SYSCALL,
// SYSENTER and INT 0x80 instructions. Those in the functions named in allowed
// (linker symbols, as "internal/runtime/syscall/linux.Syscall6") are accounted
// for; any other makes the error a *ScanError. Functions are decoded from
// their start, so bytes inside immediates and displacements do not count.
//
// Scan finds what was linked in by accident or in ignorance. It is no defence
// against hostile code, which can jump into the middle of an instruction: the
// sandbox is.
func Scan(path string, allowed []string) ([]Finding, error) {
	f, e, err := openELF(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	funcs, err := functions(e)
	if err != nil {
		return nil, &NotImageError{path, err.Error()}
	}
	var all, stray []Finding
	for _, p := range e.Progs {
		if p.Type != elf.PT_LOAD || p.Flags&elf.PF_X == 0 {
			continue
		}
		if p.Flags&elf.PF_W != 0 {
			return nil, &NotImageError{path, fmt.Sprintf("the segment at %#x is both writable and executable", p.Vaddr)}
		}
	}
	// Of an executable segment only the sections of code are looked at: the file's
	// header and notes, which the linker puts before them, hold random numbers.
	for _, sec := range e.Sections {
		if sec.Flags&elf.SHF_EXECINSTR == 0 || sec.Type != elf.SHT_PROGBITS {
			continue
		}
		code, err := sec.Data()
		if err != nil {
			return nil, fmt.Errorf("%s: read section %s: %w", path, sec.Name, err)
		}
		all = append(all, scanCode(code, sec.Addr, funcs)...)
	}
	for _, x := range all {
		if !slices.Contains(allowed, x.Func) || x.Func == "" {
			stray = append(stray, x)
		}
	}
	if len(stray) > 0 {
		return all, &ScanError{path, stray}
	}
	return all, nil
}

// scanCode finds candidates by their bytes, then decodes the functions that
// they lie in. Functions without candidates, nearly all, are never decoded.
func scanCode(code []byte, base uint64, funcs []Function) []Finding {
	var found []Finding
	for i := 0; i+1 < len(code); i++ {
		inst := trap(code[i:])
		if inst == "" {
			continue
		}
		fn := find(funcs, base+uint64(i))
		// The file header and alignment of a segment are in no function.
		if fn == nil || fn.Start < base {
			found = append(found, Finding{Addr: base + uint64(i), Inst: inst})
			continue
		}
		start, end := int(fn.Start-base), min(int(fn.End-base), len(code))
		found = append(found, scanFunc(code[start:end], fn)...)
		i = max(i, end-1) // the whole function is done
	}
	return found
}

// trap names the kernel entry that b begins with, "" if none.
func trap(b []byte) string {
	switch {
	case len(b) < 2:
	case b[0] == 0x0f && b[1] == 0x05:
		return "SYSCALL"
	case b[0] == 0x0f && b[1] == 0x34:
		return "SYSENTER"
	case b[0] == 0xcd && b[1] == 0x80:
		return "INT 0x80"
	}
	return ""
}

// scanFunc decodes a function from its start. Where the decoder does not know
// an instruction it takes up again at the next byte and what it then finds is
// unsure.
func scanFunc(code []byte, fn *Function) []Finding {
	var found []Finding
	unsure := false
	for pc := 0; pc < len(code); {
		if vector(code[pc]) {
			if n := skip(code[pc:]); n > 0 {
				pc += n
				continue
			}
		}
		inst, err := x86asm.Decode(code[pc:], 64)
		if err != nil || inst.Len <= 0 {
			if n := skip(code[pc:]); n > 0 {
				pc += n
				continue
			}
			unsure = true
			if t := trap(code[pc:]); t != "" {
				found = append(found, Finding{fn.Start + uint64(pc), fn.Name, uint64(pc), t, true})
			}
			pc++
			continue
		}
		if t := entersKernel(inst); t != "" {
			found = append(found, Finding{fn.Start + uint64(pc), fn.Name, uint64(pc), t, unsure})
		} else if unsure {
			// Out of step, an instruction may seem to swallow a real one.
			for i := pc + 1; i < pc+inst.Len; i++ {
				if t := trap(code[i:]); t != "" {
					found = append(found, Finding{fn.Start + uint64(i), fn.Name, uint64(i), t, true})
				}
			}
		}
		pc += inst.Len
	}
	return found
}

func entersKernel(inst x86asm.Inst) string {
	switch inst.Op {
	case x86asm.SYSCALL:
		return "SYSCALL"
	case x86asm.SYSENTER:
		return "SYSENTER"
	case x86asm.INT:
		if imm, ok := inst.Args[0].(x86asm.Imm); ok && uint8(imm) == 0x80 {
			return "INT 0x80"
		}
	}
	return ""
}
