package image

import (
	"debug/elf"
	"debug/gosym"
	"errors"
	"fmt"
	"sort"
)

// A Function is a Go function as the file's pclntab has it, which is there even
// when the symbol table was stripped. The range, of virtual addresses, includes
// padding.
type Function struct {
	Name       string // linker symbol
	Start, End uint64
}

// Functions returns all functions of the Go executable at path, in order of
// address.
func Functions(path string) ([]Function, error) {
	f, e, err := openELF(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	funcs, err := functions(e)
	if err != nil {
		return nil, &NotImageError{path, err.Error()}
	}
	return funcs, nil
}

func functions(e *elf.File) ([]Function, error) {
	sec := e.Section(".gopclntab")
	text := e.Section(".text")
	if sec == nil || text == nil {
		return nil, errors.New("it has no Go function table (.gopclntab); was it linked by the Go linker?")
	}
	data, err := sec.Data()
	if err != nil {
		return nil, fmt.Errorf("read .gopclntab: %w", err)
	}
	t, err := gosym.NewTable(nil, gosym.NewLineTable(data, text.Addr))
	if err != nil {
		return nil, fmt.Errorf("decode .gopclntab: %w", err)
	}
	funcs := make([]Function, 0, len(t.Funcs))
	for i := range t.Funcs {
		f := &t.Funcs[i]
		funcs = append(funcs, Function{f.Name, f.Entry, f.End})
	}
	sort.Slice(funcs, func(i, j int) bool { return funcs[i].Start < funcs[j].Start })
	return funcs, nil
}

// find returns the function that holds addr, or nil.
func find(funcs []Function, addr uint64) *Function {
	i := sort.Search(len(funcs), func(i int) bool { return funcs[i].End > addr })
	if i == len(funcs) || addr < funcs[i].Start {
		return nil
	}
	return &funcs[i]
}
