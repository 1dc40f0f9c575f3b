package build

import (
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"noyau.dev/host/image"
)

// hostCallSites are the functions of an image that may hold SYSCALL instructions.
// All are in the patched runtime.
var hostCallSites = []string{
	"runtime.noyauHostcall",
	"runtime.noyauRaw",
	"runtime.noyauNotHosted",
	"runtime.noyauResume",
	"runtime.sigreturn__sigaction",
}

// redirected are functions of other modules that are known to make system calls in
// assembly, and whose frames are those of syscall.noyauNoError: func(trap, a1, a2,
// a3 uintptr) (r1, r2 uintptr), arguments on the stack.
var redirected = []string{
	"golang.org/x/sys/unix.SyscallNoError",
	"golang.org/x/sys/unix.RawSyscallNoError",
}

// account refuses a linked file that holds SYSCALL instructions other than those of
// hostCallSites, after it has sent the functions in redirected to the library OS.
func account(file string) error {
	_, err := image.Scan(file, hostCallSites)
	var stray *image.ScanError
	if !errors.As(err, &stray) {
		return err
	}
	if err := redirect(file, stray.Findings); err != nil {
		return err
	}
	_, err = image.Scan(file, hostCallSites)
	return err
}

// redirect overwrites the entry of each known function among the findings with a jump
// to the library OS's own, and its SYSCALL with a trap.
func redirect(file string, findings []image.Finding) error {
	var target uint64
	f, e, err := openWritable(file)
	if err != nil {
		return err
	}
	defer f.Close()
	for _, x := range findings {
		if !known(x.Func) {
			continue
		}
		if target == 0 {
			if target, err = lookup(file, "syscall.noyauNoError"); err != nil {
				return err
			}
		}
		entry := x.Addr - x.Offset
		if err := poke(f, e, entry, jump(entry, target)); err != nil {
			return err
		}
		if err := poke(f, e, x.Addr, []byte{0xcc, 0xcc}); err != nil {
			return err
		}
	}
	return f.Close()
}

func openWritable(file string) (*os.File, *elf.File, error) {
	f, err := os.OpenFile(file, os.O_RDWR, 0)
	if err != nil {
		return nil, nil, err
	}
	e, err := elf.NewFile(f)
	if err != nil {
		f.Close()
		return nil, nil, err
	}
	return f, e, nil
}

// jump is a JMP instruction at one address to another.
func jump(at, to uint64) []byte {
	b := []byte{0xe9, 0, 0, 0, 0}
	binary.LittleEndian.PutUint32(b[1:], uint32(int32(int64(to)-int64(at)-int64(len(b)))))
	return b
}

// known reports whether name is one of redirected, also where a module is vendored.
func known(name string) bool {
	for _, r := range redirected {
		if name == r || strings.HasSuffix(name, "/vendor/"+r) {
			return true
		}
	}
	return false
}

func lookup(file, name string) (uint64, error) {
	funcs, err := image.Functions(file)
	if err != nil {
		return 0, err
	}
	for _, fn := range funcs {
		if fn.Name == name {
			return fn.Start, nil
		}
	}
	return 0, fmt.Errorf("%s: no function %s: the image was not linked against the library OS", file, name)
}

func poke(f *os.File, e *elf.File, addr uint64, b []byte) error {
	for _, p := range e.Progs {
		if p.Type == elf.PT_LOAD && addr >= p.Vaddr && addr+uint64(len(b)) <= p.Vaddr+p.Filesz {
			_, err := f.WriteAt(b, int64(p.Off+addr-p.Vaddr))
			return err
		}
	}
	return fmt.Errorf("address %#x is in no segment of the file", addr)
}

// lockFile takes an exclusive lock on a file, waiting for it.
func lockFile(name string) (unlock func(), err error) {
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		f.Close()
		return nil, fmt.Errorf("lock %s: %w", name, err)
	}
	return func() { f.Close() }, nil
}
