package main

import (
	"fmt"
	"io"
	"time"

	"golang.org/x/sys/unix"

	"noyau.dev/host/monitor"
)

// timing collects the stages of this command's one pVM. begun is the first that
// this program can know; the CPU time until then is what the kernel and the Go
// runtime took before it.
var (
	timing monitor.Timing
	begun  = monitor.Monotonic()
	before = cpuTime()
)

func cpuTime() time.Duration {
	var ts unix.Timespec
	unix.ClockGettime(unix.CLOCK_PROCESS_CPUTIME_ID, &ts)
	return time.Duration(ts.Nano())
}

// printTiming prints the stages, each with the time since the stage before.
func printTiming(w io.Writer) {
	ms := func(ns int64) float64 { return float64(ns) / 1e6 }
	fmt.Fprintf(w, "noyau: timing, ms: since the command, of the stage\n")
	fmt.Fprintf(w, "%18.3f  processor time of noyau's own start\n", ms(int64(before)))
	last := begun
	for _, s := range timing.Stages() {
		fmt.Fprintf(w, "%8.3f  %8.3f  %s\n", ms(s.At-begun), ms(s.At-last), s.Name)
		last = s.At
	}
}
