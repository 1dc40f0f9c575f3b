package main

import (
	"fmt"
	"time"
)

// start measures the time from the start of a program until its end and all its
// output are known to whoever started it.
func (b *Bench) start() ([]Result, error) {
	subjects := append(b.beside(native, native1), b.byCommand()...)
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
			"native: os/exec; pVM: host/monitor in this process; noyau run: a process that starts the monitor, which starts the image"))
	}
	return results, nil
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
