package main

import (
	"fmt"
	"strconv"
	"strings"
)

// A Way is one way to run a program that measures itself and prints lines "what: figure",
// as often for each what as it likes: every line is a sample.
type Way struct {
	Name   string
	Output func() (string, error)
}

// lines runs all ways in turn, so many rounds, and gives a Result for each what in the
// order of its first line. The first way is what the others are compared with; a way
// that does not print a what has no samples of it. Figures are divided by scale.
func lines(unit string, scale float64, rounds int, ways []Way) ([]Result, error) {
	var order, subjects []string
	for _, w := range ways {
		subjects = append(subjects, w.Name)
	}
	samples := map[string][][]float64{}
	for range rounds {
		for i, w := range ways {
			out, err := w.Output()
			if err != nil {
				return nil, err
			}
			for line := range strings.Lines(out) {
				what, value, _ := strings.Cut(strings.TrimSpace(line), ": ")
				v, err := strconv.ParseFloat(value, 64)
				if err != nil {
					return nil, fmt.Errorf("%s printed %q, want \"what: figure\"", w.Name, line)
				}
				if samples[what] == nil {
					samples[what] = make([][]float64, len(ways))
					order = append(order, what)
				}
				samples[what][i] = append(samples[what][i], v/scale)
			}
		}
	}
	var results []Result
	for _, what := range order {
		results = append(results, newResult(what, unit, subjects, samples[what]))
	}
	return results, nil
}

// ways are the ways to run a program with these arguments on each subject.
func (b *Bench) ways(p *Program, subjects []Subject, args ...string) (list []Way) {
	for _, s := range subjects {
		list = append(list, Way{s.Name, func() (string, error) { return b.output(s, p, args...) }})
	}
	return list
}
