package main

import (
	"fmt"
	"strconv"
	"strings"
)

// calls measures system calls, which are function calls inside a pVM.
func (b *Bench) calls() ([]Result, error) {
	return b.inside("calls", "ns", 1, b.beside(native1, native2), []string{"-t", b.short("200ms", "20ms")})
}

// cpu measures work that makes no system calls but those of the runtime.
func (b *Bench) cpu() ([]Result, error) {
	return b.inside("cpu", "ms", 1e6, b.beside(native1, native2), []string{"-t", b.short("500ms", "100ms")})
}

func (b *Bench) short(full, quick string) string {
	if b.quick {
		return quick
	}
	return full
}

// inside runs a program that measures itself and prints lines "what: ns".
func (b *Bench) inside(program, unit string, ns float64, subjects []Subject, args []string) ([]Result, error) {
	p, err := b.program(program)
	if err != nil {
		return nil, err
	}
	var order []string
	samples := map[string][][]float64{}
	for range b.loads {
		for i, s := range subjects {
			out, err := b.output(s, p, args...)
			if err != nil {
				return nil, err
			}
			for line := range strings.Lines(out) {
				what, value, _ := strings.Cut(strings.TrimSpace(line), ": ")
				v, err := strconv.ParseFloat(value, 64)
				if err != nil {
					return nil, fmt.Errorf("%s %s printed %q, want \"what: figure\"", program, s.Name, line)
				}
				if samples[what] == nil {
					samples[what] = make([][]float64, len(subjects))
					order = append(order, what)
				}
				samples[what][i] = append(samples[what][i], v/ns)
			}
		}
	}
	var results []Result
	for _, what := range order {
		results = append(results, newResult(what, unit, names(subjects), samples[what]))
	}
	return results, nil
}
