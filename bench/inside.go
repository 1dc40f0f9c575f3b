package main

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
	return lines(unit, ns, b.loads, b.ways(p, subjects, args...))
}
