package image

import (
	"debug/buildinfo"
	"debug/elf"
	"debug/gosym"
	"os"
	"strings"
)

// Measure computes the sizes of the parts of the Go executable at path.
func Measure(path string) (Sizes, error) {
	f, e, err := openELF(path)
	if err != nil {
		return Sizes{}, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return Sizes{}, err
	}
	facts, err := readELF(f, st.Size())
	if err != nil {
		return Sizes{}, &NotImageError{path, err.Error()}
	}
	s := Sizes{File: facts.Size}
	for _, sec := range e.Sections {
		n := int64(sec.Size)
		switch {
		case sec.Name == ".gopclntab":
			s.Pclntab += n
		case sec.Flags&elf.SHF_ALLOC == 0:
			if sec.Type != elf.SHT_NULL {
				s.Symbols += int64(sec.FileSize) // may be compressed
			}
		case sec.Flags&elf.SHF_EXECINSTR != 0:
			s.Text += n
		case sec.Type == elf.SHT_NOBITS:
			s.Bss += n
		case sec.Flags&elf.SHF_WRITE != 0:
			s.Data += n
		default:
			s.Rodata += n
		}
	}
	s.Split, err = split(f, e)
	return s, err
}

// split attributes text, and data if there is a symbol table, to their origin.
func split(f *os.File, e *elf.File) (Split, error) {
	owner := classifier(f)
	var sp Split
	funcs, err := functions(e)
	if err != nil {
		return sp, &NotImageError{f.Name(), err.Error()}
	}
	for _, fn := range funcs {
		*owner(&sp, fn.Name) += int64(fn.End - fn.Start)
	}
	sp.Of = "text"
	syms, err := e.Symbols()
	if err != nil {
		return sp, nil // linked with -s: nothing more is known
	}
	sp.Of = "symbols"
	for _, sym := range syms {
		if elf.ST_TYPE(sym.Info) != elf.STT_OBJECT || int(sym.Section) >= len(e.Sections) {
			continue
		}
		sec := e.Sections[sym.Section]
		if sec.Type == elf.SHT_NOBITS || sec.Name == ".gopclntab" || sec.Flags&elf.SHF_ALLOC == 0 {
			continue
		}
		*owner(&sp, sym.Name) += int64(sym.Size)
	}
	return sp, nil
}

// classifier returns a function that finds the counter for a linker symbol.
func classifier(f *os.File) func(*Split, string) *int64 {
	var app string
	var mods []string
	if info, err := buildinfo.Read(f); err == nil {
		app = info.Main.Path
		for _, d := range info.Deps {
			mods = append(mods, d.Path)
		}
	}
	return func(sp *Split, symbol string) *int64 {
		s := gosym.Sym{Name: symbol}
		pkg := strings.ReplaceAll(s.PackageName(), "%2e", ".")
		switch {
		case pkg == "" || strings.HasPrefix(symbol, "type:") || strings.HasPrefix(symbol, "go:"):
			return &sp.Other
		case pkg == "main" || app != "" && beneath(pkg, app):
			return &sp.App
		case beneath(pkg, "internal/noyau"):
			return &sp.LibOS
		case beneath(pkg, "runtime") && !beneath(pkg, "runtime/pprof") && !beneath(pkg, "runtime/trace"),
			beneath(pkg, "internal/runtime"), pkg == "internal/abi", pkg == "internal/cpu", pkg == "internal/bytealg",
			pkg == "internal/chacha8rand", strings.HasPrefix(pkg, "internal/goarch"):
			return &sp.Runtime
		}
		for _, m := range mods {
			if beneath(pkg, m) {
				return &sp.Modules
			}
		}
		// What remains has no dot in its first element: the standard library
		// and its vendored packages.
		return &sp.Std
	}
}

// beneath reports whether pkg is root or a package below it.
func beneath(pkg, root string) bool {
	return pkg == root || strings.HasPrefix(pkg, root) && pkg[len(root)] == '/'
}
