package image

import (
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
)

// Facts are what a launcher has to know about the ELF file.
type Facts struct {
	Entry    uint64    `json:"entry"` // virtual address of the first instruction
	Size     int64     `json:"size"`  // bytes of the ELF file; the manifest begins here
	Segments []Segment `json:"segments"`
}

// A Segment is a part of the file that is mapped at start.
type Segment struct {
	Addr   uint64       `json:"addr"`   // virtual
	Memory uint64       `json:"memory"` // bytes in memory
	Offset uint64       `json:"offset"` // in the file
	File   uint64       `json:"file"`   // bytes in the file
	Flags  elf.ProgFlag `json:"flags"`
}

// Writable reports whether a program may write to the segment.
func (s *Segment) Writable() bool { return s.Flags&elf.PF_W != 0 }

// ReadFacts reads the headers of an open image or other executable.
func ReadFacts(f *os.File) (*Facts, error) {
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	facts, err := readELF(f, st.Size())
	if err != nil {
		return nil, &NotImageError{f.Name(), err.Error()}
	}
	return facts, nil
}

// maxHeaders bounds what a hostile file can make us read.
const maxHeaders = 4096

// readELF parses the headers and finds where the ELF file ends. Errors read as
// the reason of a NotImageError.
func readELF(r io.ReaderAt, size int64) (*Facts, error) {
	var ident [4]byte
	if _, err := r.ReadAt(ident[:], 0); err != nil || string(ident[:]) != elf.ELFMAG {
		return nil, errors.New("it is not an ELF file; images are made by noyau build")
	}
	f, err := elf.NewFile(r)
	if err != nil {
		return nil, fmt.Errorf("its ELF headers are damaged (%v)", err)
	}
	if f.Class != elf.ELFCLASS64 || f.Machine != elf.EM_X86_64 {
		return nil, fmt.Errorf("it is for %v, images are for EM_X86_64", f.Machine)
	}
	if f.Type == elf.ET_DYN {
		return nil, errors.New("it is position independent or a shared object, images have fixed addresses; use noyau build")
	}
	if f.Type != elf.ET_EXEC {
		return nil, fmt.Errorf("it is an ELF file of type %v, not an executable", f.Type)
	}
	if len(f.Progs) > maxHeaders || len(f.Sections) > maxHeaders {
		return nil, fmt.Errorf("it has %d segments and %d sections, at most %d are allowed", len(f.Progs), len(f.Sections), maxHeaders)
	}
	facts := &Facts{Entry: f.Entry}
	end := func(off, n uint64) error {
		if off+n < off || off+n > uint64(size) {
			return fmt.Errorf("it is cut short: %d bytes are needed, it has %d", off+n, size)
		}
		facts.Size = max(facts.Size, int64(off+n))
		return nil
	}
	for _, p := range f.Progs {
		switch p.Type {
		case elf.PT_INTERP, elf.PT_DYNAMIC:
			return nil, errors.New("it is dynamically linked, images are static; use noyau build")
		case elf.PT_LOAD:
			facts.Segments = append(facts.Segments, Segment{p.Vaddr, p.Memsz, p.Off, p.Filesz, p.Flags})
		}
		if err := end(p.Off, p.Filesz); err != nil {
			return nil, err
		}
	}
	for _, s := range f.Sections {
		if s.Type == elf.SHT_NOBITS || s.Type == elf.SHT_NULL {
			continue
		}
		if err := end(s.Offset, s.FileSize); err != nil {
			return nil, err
		}
	}
	if err := headerEnd(r, end); err != nil {
		return nil, err
	}
	return facts, nil
}

// headerEnd accounts for the header tables themselves, which package elf does
// not report.
func headerEnd(r io.ReaderAt, end func(off, n uint64) error) error {
	var h elf.Header64
	b := make([]byte, 64)
	if _, err := r.ReadAt(b, 0); err != nil {
		return err
	}
	if _, err := binary.Decode(b, binary.LittleEndian, &h); err != nil {
		return err
	}
	if err := end(h.Phoff, uint64(h.Phnum)*uint64(h.Phentsize)); err != nil {
		return err
	}
	return end(h.Shoff, uint64(h.Shnum)*uint64(h.Shentsize))
}

// check holds what Open promises about segments.
func (f *Facts) check() error {
	entry := false
	for _, s := range f.Segments {
		if s.Flags&elf.PF_W != 0 && s.Flags&elf.PF_X != 0 {
			return fmt.Errorf("the segment at %#x is both writable and executable", s.Addr)
		}
		if s.Addr+s.Memory < s.Addr || s.File > s.Memory {
			return fmt.Errorf("the segment at %#x has impossible sizes (%d in file, %d in memory)", s.Addr, s.File, s.Memory)
		}
		if s.Flags&elf.PF_X != 0 && f.Entry >= s.Addr && f.Entry < s.Addr+s.File {
			entry = true
		}
	}
	if !entry {
		return fmt.Errorf("its entry point %#x is in no executable segment", f.Entry)
	}
	return nil
}

// openELF opens path for a deep look. The caller closes the file.
func openELF(path string) (*os.File, *elf.File, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, nil, err
	}
	e, err := elf.NewFile(f)
	if err != nil {
		f.Close()
		return nil, nil, &NotImageError{path, fmt.Sprintf("its ELF headers are damaged (%v)", err)}
	}
	return f, e, nil
}
