package runner

import (
	"encoding/binary"
	"errors"
	"fmt"

	"noyau.dev/abi"
	"noyau.dev/host/vm/machine"
)

// program is what the loader needs of an image's ELF file.
type program struct {
	entry    uint64
	phdr     uint64 // address of the program headers in memory, 0 if not loaded
	phnum    int
	segments []machine.Segment
}

const (
	ehdrSize = 64
	phdrSize = 56
	maxPhdr  = 32

	ptLoad, ptInterp = 1, 3
	pfX, pfW         = 1, 2
)

var errNotImage = errors.New("vm: not an image: want a static ELF executable for amd64")

// parseELF reads the headers of an image. read fills b from a file offset, as
// pread does. Every number in the file is taken for hostile.
func parseELF(read func(b []byte, off int64) error, size int64) (*program, error) {
	var h [ehdrSize]byte
	if err := read(h[:], 0); err != nil {
		return nil, errNotImage
	}
	le := binary.LittleEndian
	if string(h[:7]) != "\x7fELF\x02\x01\x01" || le.Uint16(h[16:]) != 2 || le.Uint16(h[18:]) != 62 {
		return nil, errNotImage
	}
	p := &program{entry: le.Uint64(h[24:]), phnum: int(le.Uint16(h[56:]))}
	phoff := le.Uint64(h[32:])
	if le.Uint16(h[54:]) != phdrSize || p.phnum == 0 || p.phnum > maxPhdr || phoff > uint64(size) {
		return nil, fmt.Errorf("vm: the image has %d program headers at %#x; want 1 to %d", p.phnum, phoff, maxPhdr)
	}
	b := make([]byte, p.phnum*phdrSize)
	if err := read(b, int64(phoff)); err != nil {
		return nil, fmt.Errorf("vm: the image's program headers are cut off: %w", err)
	}
	p.segments = make([]machine.Segment, 0, p.phnum)
	started := false
	for ; len(b) > 0; b = b[phdrSize:] {
		kind, flags := le.Uint32(b), le.Uint32(b[4:])
		off, va := le.Uint64(b[8:]), le.Uint64(b[16:])
		filesz, memsz := le.Uint64(b[32:]), le.Uint64(b[40:])
		if kind == ptInterp {
			return nil, errors.New("vm: the image wants a dynamic linker; only static executables are images")
		}
		if kind != ptLoad || memsz == 0 {
			continue
		}
		skew := va % abi.PageSize
		const most = 1 << 40
		if off%abi.PageSize != skew || filesz > memsz || memsz > most || va > most || off > uint64(size) || filesz > uint64(size)-off {
			return nil, fmt.Errorf("vm: the image's segment at %#x is malformed", va)
		}
		s := machine.Segment{Addr: va - skew, Offset: int64(off - skew), File: filesz + skew, Size: memsz + skew}
		if filesz == 0 {
			s.File = 0
		}
		if flags&pfW != 0 {
			s.Prot |= machine.Write
		}
		if flags&pfX != 0 {
			s.Prot |= machine.Exec
		}
		if phoff >= off && phoff+uint64(p.phnum*phdrSize) <= off+filesz {
			p.phdr = va + phoff - off
		}
		if s.Prot&machine.Exec != 0 && p.entry >= va && p.entry-va < filesz {
			started = true
		}
		p.segments = append(p.segments, s)
	}
	if !started {
		return nil, fmt.Errorf("vm: the image's entry point %#x is not in its text", p.entry)
	}
	return p, nil
}
