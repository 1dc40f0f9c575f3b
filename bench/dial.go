package main

import (
	"fmt"
	"net"
	"strconv"
	"strings"

	"noyau.dev/bench/dials"
)

// dial looks for wake-ups that are lost. The figures of interest are the hangs.
func (b *Bench) dial() ([]Result, error) {
	p, err := b.program("dial")
	if err != nil {
		return nil, err
	}
	var results []Result
	subjects := b.beside(native1)
	// Beside a loop that never yields, every wake-up waits for the preemption
	// tick: many dials at a time, so that they share the ticks.
	for _, x := range []struct {
		what     string
		outside  bool
		busy     bool
		parallel int
	}{
		{"loopback inside, idle", false, false, 1},
		{"loopback inside, beside a busy loop", false, true, 64},
		{"from outside, idle", true, false, 2},
		{"from outside, beside a busy loop", true, true, 64},
	} {
		rate, longest := make([][]float64, len(subjects)), make([][]float64, len(subjects))
		var notes []string
		var bad int64
		for i, s := range subjects {
			var r dials.Result
			if x.outside {
				r, err = b.dialOutside(s, p, x.busy, x.parallel)
			} else {
				var out string
				out, err = b.output(s, p, "-n", strconv.Itoa(b.dials), "-parallel", strconv.Itoa(x.parallel), "-busy="+strconv.FormatBool(x.busy))
				if err == nil {
					r, err = dials.Parse(strings.TrimSpace(out))
				}
			}
			if err != nil {
				return results, fmt.Errorf("%s, %s: %w", x.what, s.Name, err)
			}
			rate[i] = []float64{float64(r.Dials) / r.Took.Seconds()}
			longest[i] = []float64{ms(r.Longest)}
			notes = append(notes, fmt.Sprintf("%s: %d dials, %d HANGS of more than %v, %d failed", s.Name, r.Dials, r.Hangs, dials.Hang, r.Failed))
			if r.First != nil {
				notes = append(notes, "first failure: "+r.First.Error())
			}
			bad += r.Hangs + r.Failed
		}
		results = append(results,
			newResult(x.what, fmt.Sprintf("dials/s, %d at a time", x.parallel), names(subjects), rate, notes...),
			newResult(x.what+", the longest dial", "ms", names(subjects), longest))
		if bad > 0 {
			err = fmt.Errorf("%s: %d dials hung or failed", x.what, bad)
			return results, err
		}
	}
	return results, nil
}

// dialOutside dials a server in a pVM from this process.
func (b *Bench) dialOutside(s Subject, p *Program, busy bool, parallel int) (dials.Result, error) {
	srv, err := b.serve(s, p, "-serve", "-busy="+strconv.FormatBool(busy))
	if err != nil {
		return dials.Result{}, err
	}
	defer srv.Stop()
	return dials.Dial(srv.Addr, b.dials, parallel, func(i int64) net.Addr {
		return &net.TCPAddr{IP: net.IPv4(127, 0, 0, byte(2+i%200))}
	}), nil
}
