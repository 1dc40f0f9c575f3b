package main

import (
	"fmt"
	"time"

	"noyau.dev/host/vm"
)

// start measures the time from the start of a program until its end and all its
// output are known to whoever started it.
func (b *Bench) start() ([]Result, error) {
	var subjects []Subject
	for _, s := range append(b.beside(native, native1), b.byCommand()...) {
		if s.Isolation != "vm" || s.CLI {
			subjects = append(subjects, s)
			continue
		}
		for _, a := range []string{launched, zygote, shell} {
			v := s
			v.Ahead, v.Name = a, s.Name+", "+a
			subjects = append(subjects, v)
		}
	}
	defer makeAhead(zygote) // as monitors have it that start many
	defer vm.Keep(0, "")
	var results []Result
	for _, x := range []struct{ program, what string }{
		{"hello", "hello"},
		{"listen", "net/http program that ends when it listens"},
	} {
		p, err := b.program(x.program)
		if err != nil {
			return results, err
		}
		samples := make([][]float64, len(subjects))
		for round := range b.rounds + 1 {
			for i, s := range subjects {
				if err := makeAhead(s.Ahead); err != nil {
					return results, err
				}
				begin := time.Now()
				out, err := b.output(s, p)
				took := time.Since(begin)
				if err != nil {
					return results, err
				}
				if out != "hello\n" {
					return results, fmt.Errorf("%s %s printed %q", x.program, s.Name, out)
				}
				if round > 0 { // the first fills caches
					samples[i] = append(samples[i], ms(took))
				}
			}
		}
		results = append(results, newResult(x.what, "ms", names(subjects), samples,
			"native: os/exec; pVM: host/monitor in this process; vm launched: nothing is made before; zygote: a process that has begun, without a virtual machine; shell: with one, without the image; noyau run: a process that starts the monitor, which starts the image"))
	}
	return results, nil
}

// What Subject.Ahead may be.
const (
	launched = "launched"
	zygote   = "from a zygote"
	shell    = "from a shell"
)

// makeAhead makes what this process has before a start under vm, and nothing else.
func makeAhead(what string) error {
	if what == "" {
		return nil
	}
	n := 0
	if what == shell {
		n = 1
	}
	if err := vm.Zygote(what == zygote); err != nil {
		return err
	}
	return vm.Keep(n, "")
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
