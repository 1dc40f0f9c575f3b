package vm_test

import (
	"fmt"
	"io"
	"syscall"
	"testing"
	"time"

	"noyau.dev/host/monitor"
)

// TestStopped stops the runner for a while, as pause does, with its guest asleep: the
// guest's clocks go on as the host's.
func TestStopped(t *testing.T) {
	in, ask := io.Pipe()
	said := make(lines, 10)
	inst, _ := startConfig(t, monitor.Config{Image: image(t, "clock"), Stdin: in, Stdout: said})
	t.Cleanup(func() { ask.Close() })
	type reading struct {
		before, after time.Time // on the host
		mono, wall    int64
	}
	read := func(stopped time.Duration) (r reading) {
		r.before = time.Now()
		if stopped != 0 {
			syscall.Kill(inst.Info().Pid, syscall.SIGSTOP)
		}
		fmt.Fprintln(ask, "now")
		if stopped != 0 {
			time.Sleep(stopped)
			r.before = time.Now()
			syscall.Kill(inst.Info().Pid, syscall.SIGCONT)
		}
		select {
		case l := <-said:
			r.after = time.Now()
			if _, err := fmt.Sscan(l, &r.mono, &r.wall); err != nil {
				t.Fatalf("%q: %v", l, err)
			}
		case <-time.After(time.Minute):
			t.Fatal("no answer")
		}
		return r
	}
	<-said // it has started
	last := read(0)
	for n, stopped := range []time.Duration{time.Millisecond, 20 * time.Millisecond, 1500 * time.Millisecond, 0} {
		r := read(stopped)
		// The guest answered between before and after, then as now.
		least, most := r.before.Sub(last.after), r.after.Sub(last.before)
		slack := most/1000 + 2*time.Millisecond // a clock that is ahead is slowed down
		if d := time.Duration(r.mono - last.mono); d < least-slack || d > most+slack {
			t.Errorf("%d: stopped for %v: %v passed for the guest, %v to %v for the host", n, stopped, d, least, most)
		}
		if w := time.Unix(0, r.wall); w.Before(r.before.Add(-slack)) || w.After(r.after.Add(slack)) {
			t.Errorf("%d: stopped for %v: the guest's time is %v, the host's %v to %v", n, stopped, w, r.before, r.after)
		}
		last = r
	}
}
