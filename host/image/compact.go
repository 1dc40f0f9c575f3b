package image

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"golang.org/x/sys/unix"
)

// filePage is the granularity at which loaders map a file.
const filePage = 4096

// A stretch is a part of an ELF file that something refers to.
type stretch struct {
	off, end uint64 // in the source
	align    uint64 // of its place in the copy
	to       uint64 // its place in the copy
}

// Compact writes a copy of the ELF executable at src to dst without the gaps between
// its parts. Linkers make a file's offsets congruent to addresses modulo the alignment
// of segments, which for segments that begin at multiples of 2 MiB is megabytes of zeros;
// loaders need it modulo 4096 only. Addresses, contents and order stay as they are.
func Compact(dst, src string) error {
	f, e, err := openELF(src)
	if err != nil {
		return err
	}
	defer f.Close()
	if e.Class != elf.ELFCLASS64 || e.ByteOrder != binary.LittleEndian {
		return &NotImageError{src, "it is not a 64-bit ELF file of x86-64"}
	}
	var h elf.Header64
	if err := readStruct(f, 0, &h); err != nil {
		return err
	}
	parts, err := stretches(e, &h)
	if err != nil {
		return fmt.Errorf("%s: %w", src, err)
	}
	size := place(parts)
	out := make([]byte, size)
	for _, p := range parts {
		if _, err := f.ReadAt(out[p.to:p.to+p.end-p.off], int64(p.off)); err != nil && err != io.EOF {
			return err
		}
	}
	if err := rewrite(out, e, &h, parts); err != nil {
		return fmt.Errorf("%s: %w", src, err)
	}
	return os.WriteFile(dst, out, 0o755)
}

// Sparse gives back the disk space of the gaps that Compact leaves out. The file's
// content stays as it is. An error does not matter: not every file system can.
func Sparse(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	e, err := elf.NewFile(f)
	if err != nil {
		return err
	}
	var h elf.Header64
	if err := readStruct(f, 0, &h); err != nil {
		return err
	}
	parts, err := stretches(e, &h)
	if err != nil {
		return err
	}
	for i, p := range parts[1:] {
		lo, hi := (parts[i].end+filePage-1)&^(filePage-1), p.off&^(filePage-1)
		if hi <= lo {
			continue
		}
		if err := unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, int64(lo), int64(hi-lo)); err != nil {
			return err
		}
	}
	return nil
}

// stretches returns what the headers refer to, by offset and without overlaps.
func stretches(e *elf.File, h *elf.Header64) ([]stretch, error) {
	all := []stretch{
		{0, 64, filePage, 0},
		{h.Phoff, h.Phoff + uint64(h.Phnum)*uint64(h.Phentsize), 8, 0},
		{h.Shoff, h.Shoff + uint64(h.Shnum)*uint64(h.Shentsize), 8, 0},
	}
	for _, p := range e.Progs {
		if p.Filesz == 0 {
			continue
		}
		s := stretch{p.Off, p.Off + p.Filesz, 8, 0}
		if p.Type == elf.PT_LOAD {
			s.off, s.align = p.Off&^(filePage-1), filePage
		}
		all = append(all, s)
	}
	for _, s := range e.Sections {
		if s.Type != elf.SHT_NULL && s.Type != elf.SHT_NOBITS && s.FileSize != 0 {
			all = append(all, stretch{s.Offset, s.Offset + s.FileSize, max(s.Addralign, 1), 0})
		}
	}
	for _, s := range all {
		if s.end < s.off || s.align&(s.align-1) != 0 || s.align > 1<<21 {
			return nil, errors.New("its ELF headers are damaged")
		}
	}
	slices.SortFunc(all, func(a, b stretch) int {
		if a.off != b.off {
			if a.off < b.off {
				return -1
			}
			return 1
		}
		return int(b.align) - int(a.align)
	})
	joined := all[:1]
	for _, s := range all[1:] {
		last := &joined[len(joined)-1]
		if s.off < last.end {
			last.end = max(last.end, s.end)
		} else {
			joined = append(joined, s)
		}
	}
	return joined, nil
}

// place says where each stretch goes, no later than where it was, and returns the size of the copy.
func place(parts []stretch) (size uint64) {
	for i := range parts {
		p := &parts[i]
		p.to = (size + p.align - 1) &^ (p.align - 1)
		p.to = min(p.to, p.off)
		size = p.to + p.end - p.off
	}
	return size
}

// rewrite changes the offsets in the headers of the copy.
func rewrite(out []byte, e *elf.File, h *elf.Header64, parts []stretch) error {
	moved := func(off uint64) (uint64, bool) {
		for _, p := range parts {
			if off >= p.off && off < p.end {
				return p.to + off - p.off, true
			}
		}
		return 0, false
	}
	ph, ok1 := moved(h.Phoff)
	sh, ok2 := moved(h.Shoff)
	if !ok1 || !ok2 && h.Shnum != 0 {
		return errors.New("its ELF headers are damaged")
	}
	le := binary.LittleEndian
	le.PutUint64(out[32:], ph)
	if h.Shnum != 0 {
		le.PutUint64(out[40:], sh)
	}
	for i, p := range e.Progs {
		b := out[ph+uint64(i)*uint64(h.Phentsize):]
		to, ok := moved(p.Off)
		if !ok && p.Filesz != 0 {
			return errors.New("its program headers are damaged")
		}
		if ok {
			le.PutUint64(b[8:], to)
		}
		if p.Type == elf.PT_LOAD && (to-p.Vaddr)%max(p.Align, 1) != 0 {
			if (to-p.Vaddr)%filePage != 0 {
				return fmt.Errorf("its segment at %#x is not at the same place of a page in file and memory", p.Vaddr)
			}
			le.PutUint64(b[48:], filePage)
		}
	}
	for i, s := range e.Sections {
		b := out[sh+uint64(i)*uint64(h.Shentsize):]
		to, ok := moved(s.Offset)
		switch {
		case s.Type == elf.SHT_NULL:
		case s.Type == elf.SHT_NOBITS || s.FileSize == 0:
			// It has no place in the file; its offset is where it would be.
			if to, ok = besides(e, parts, s.Addr); ok {
				le.PutUint64(b[24:], to)
			} else {
				le.PutUint64(b[24:], 0)
			}
		case !ok:
			return errors.New("its section headers are damaged")
		default:
			le.PutUint64(b[24:], to)
		}
	}
	return nil
}

// besides is where an address of a segment would be in the copy, if the segment's part
// that is not in the file were.
func besides(e *elf.File, parts []stretch, addr uint64) (uint64, bool) {
	for _, p := range e.Progs {
		if p.Type != elf.PT_LOAD || addr < p.Vaddr || addr-p.Vaddr > p.Memsz {
			continue
		}
		for _, s := range parts {
			if p.Off >= s.off && p.Off < s.end {
				return s.to + p.Off - s.off + min(addr-p.Vaddr, p.Filesz), true
			}
		}
	}
	return 0, false
}

func readStruct(r io.ReaderAt, off int64, v any) error {
	b := make([]byte, binary.Size(v))
	if _, err := r.ReadAt(b, off); err != nil {
		return err
	}
	return binary.Read(bytes.NewReader(b), binary.LittleEndian, v)
}
