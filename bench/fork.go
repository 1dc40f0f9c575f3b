package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
)

// forkSource is the program that fork and the round trips are compared with.
const forkSource = "bench/beside/fork.c"

// fork compares fork and what forks share with the same in a C program.
func (b *Bench) fork() ([]Result, error) {
	p, err := b.program("fork")
	if err != nil {
		return nil, err
	}
	beside := filepath.Join(b.dir, "fork-c")
	if out, err := exec.CommandContext(b.ctx, "gcc", "-O2", "-o", beside, filepath.Join(b.root, forkSource)).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("gcc is needed for what fork is compared with: %w\n%s", err, out)
	}
	cli, err := b.noyau()
	if err != nil {
		return nil, err
	}
	samples := map[string][][]float64{}
	var order []string
	for range b.rounds {
		for i, argv := range [][]string{{beside}, {cli, "run", "--isolation", "process", p.Image}} {
			cmd := exec.CommandContext(b.ctx, argv[0], append(argv[1:], b.short("50", "10"))...)
			cmd.Stderr = os.Stderr
			out, err := cmd.Output()
			if err != nil {
				return nil, fmt.Errorf("%s: %w", argv[0], err)
			}
			for line := range strings.Lines(string(out)) {
				what, value, _ := strings.Cut(strings.TrimSpace(line), ": ")
				v, err := strconv.ParseFloat(value, 64)
				if err != nil {
					return nil, fmt.Errorf("%s printed %q, want \"what: figure\"", argv[0], line)
				}
				if samples[what] == nil {
					samples[what] = make([][]float64, 2)
					order = append(order, what)
				}
				samples[what][i] = append(samples[what][i], v/1e3)
			}
		}
	}
	var results []Result
	for _, what := range order {
		results = append(results, newResult(what, "µs", []string{"C program", "pVM process"}, samples[what]))
	}
	return results, nil
}
