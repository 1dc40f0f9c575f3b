package process

import (
	"fmt"
	"os"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestTiming prints what each step of a launch costs (NOYAU_TIMING=1): a reading
// of the clock is put between all steps.
func TestTiming(t *testing.T) {
	if os.Getenv("NOYAU_TIMING") == "" {
		t.Skip("set NOYAU_TIMING=1 to see the cost of each step")
	}
	const rounds = 300
	s := Spec{Image: new(code).exit(0).file(t), Args: []string{"guest"}, Files: testFiles(t), Tick: 10e6, Allow: Allow{Clock: true}}
	if err := check(&s); err != nil {
		t.Fatal(err)
	}
	j, err := theJail()
	if err != nil {
		t.Fatal(err)
	}
	g, _ := newGroup(&s)
	src, done, err := openSources(&s, g)
	if err != nil {
		t.Fatal(err)
	}
	defer done()
	src, free, err := j.window.place(src)
	if err != nil {
		t.Fatal(err)
	}
	defer free()
	var names []string
	var costs [][]time.Duration
	var total, handoff []time.Duration
	for range rounds {
		plan := newPlan(&s, j, src)
		slots := make([]unix.Timespec, len(plan.steps)+1)
		timed := &plan.program
		steps, list := timed.steps, timed.names
		timed.steps, timed.names = nil, nil
		for i, st := range steps {
			if i > 0 {
				timed.add("clock", 0, unix.SYS_CLOCK_GETTIME, unix.CLOCK_MONOTONIC, ptr(&slots[i]))
			}
			timed.steps, timed.names = append(timed.steps, st), append(timed.names, list[i])
		}
		now := func() (ts unix.Timespec) { unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); return }
		begin := time.Now()
		slots[0] = now()
		if err := plan.launch(); err != nil {
			t.Fatal(err)
		}
		slots[len(steps)] = now() // when the launcher has gone on
		handoff = append(handoff, time.Since(begin))
		p := newProcess(&s, j, g, plan)
		p.Wait()
		total = append(total, time.Since(begin))
		if names == nil {
			names, costs = list, make([][]time.Duration, len(list))
		}
		for i := range steps {
			costs[i] = append(costs[i], time.Duration(slots[i+1].Nano()-slots[i].Nano()))
		}
	}
	show := func(name string, d []time.Duration) {
		if slices.Sort(d); len(d) > 0 {
			sum := time.Duration(0)
			for _, x := range d {
				sum += x
			}
			us := func(d time.Duration) float64 { return float64(d) / 1e3 }
			fmt.Printf("%-32s %7.1f %7.1f %7.1f %7.1f\n", name, us(d[len(d)/4]), us(d[len(d)/2]), us(d[len(d)*9/10]), us(sum)/float64(len(d)))
		}
	}
	fmt.Printf("%-32s %7s %7s %7s %7s\n", "µs", "p25", "p50", "p90", "mean")
	for i, n := range names {
		show(n, costs[i])
	}
	show("until launched", handoff)
	show("until waited for", total)
}

// TestJailTiming does the same for what the first launch of a monitor pays.
func TestJailTiming(t *testing.T) {
	if os.Getenv("NOYAU_TIMING") == "" {
		t.Skip("set NOYAU_TIMING=1 to see the cost of each step")
	}
	var total, root []time.Duration
	for range 50 {
		begin := time.Now()
		fd := emptyDirectory()
		root = append(root, time.Since(begin))
		unix.Close(fd)
		begin = time.Now()
		j, err := makeJail()
		if err != nil {
			t.Fatal(err)
		}
		total = append(total, time.Since(begin))
		j.close()
	}
	slices.Sort(total)
	slices.Sort(root)
	fmt.Println("empty directory", root[25], "all", total[25])
}
