package image

import (
	"debug/elf"
	"debug/gosym"
	"errors"
	"fmt"
	"sort"
)

// A function is a Go function of the image as its pclntab has it, which is
// there even when the symbol table was stripped. The range includes padding.
type function struct {
	name       string
	start, end uint64
}

// functions returns all functions in order of address.
func functions(e *elf.File) ([]function, error) {
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
	funcs := make([]function, 0, len(t.Funcs))
	for i := range t.Funcs {
		f := &t.Funcs[i]
		funcs = append(funcs, function{f.Name, f.Entry, f.End})
	}
	sort.Slice(funcs, func(i, j int) bool { return funcs[i].start < funcs[j].start })
	return funcs, nil
}

// find returns the function that holds addr, or nil.
func find(funcs []function, addr uint64) *function {
	i := sort.Search(len(funcs), func(i int) bool { return funcs[i].end > addr })
	if i == len(funcs) || addr < funcs[i].start {
		return nil
	}
	return &funcs[i]
}
