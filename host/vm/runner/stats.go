package runner

import (
	"fmt"
	"strings"
)

// Stats describes the counts and the timing in one line.
func (r *Runner) Stats() string {
	var b strings.Builder
	exits := r.Counts.Other
	for _, n := range r.Counts.Calls {
		exits += n
	}
	exits += r.Counts.Touches + 2*r.Counts.Faults + 2*r.Counts.Ticks
	fmt.Fprintf(&b, "exits %d touches %d faults %d ticks %d kicks %d spins %d sleeps %d sent %d filled %d calls", exits, r.Counts.Touches,
		r.Counts.Faults, r.Counts.Ticks, r.Counts.Kicks, r.Counts.Spins, r.Counts.Sleeps, r.Counts.Sent, r.Counts.Filled)
	for i, n := range r.Counts.Calls {
		if n != 0 {
			fmt.Fprintf(&b, " %d:%d", i, n)
		}
	}
	t := &r.Timing
	us := func(ns int64) float64 { return float64(ns) / 1e3 }
	fmt.Fprintf(&b, "; µs: machine %.0f load %.0f seal %.0f run %.0f", us(t.Machine-t.Begin), us(t.Loaded-max(t.Machine, t.Order)), us(t.Sealed-t.Loaded), us(t.End-t.Sealed))
	return b.String()
}
