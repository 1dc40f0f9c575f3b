// Command bench measures pVMs beside the same programs built natively, in one
// run and in turn, and prints medians with the smallest and largest sample. It
// asserts nothing: times belong to the machine they were measured on.
//
//	go run ./bench                 everything, some ten minutes
//	go run ./bench -quick          a look at everything, about a minute
//	go run ./bench -only start,http -json out.json
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"time"
)

// A Bench is one run: what was asked for and what was built for it.
type Bench struct {
	ctx       context.Context
	quick     bool
	isolation []string      // of the pVMs
	rounds    int           // starts of each kind
	loads     int           // loads of each kind
	load      time.Duration // of one load
	pvms      int
	dials     int

	dir      string // for binaries and images, removed at the end
	root     string // of the module
	cli      string
	programs map[string]*Program
}

// measures are the measurements by name, in the order in which they are made.
var measures = []struct {
	name string
	what string
	run  func(*Bench) ([]Result, error)
}{
	{"size", "image and native binary", (*Bench).size},
	{"start", "exec to exit", (*Bench).start},
	{"calls", "system calls", (*Bench).calls},
	{"cpu", "work without system calls", (*Bench).cpu},
	{"idle", "an idle HTTP server", (*Bench).idle},
	{"http", "HTTP under load", (*Bench).http},
	{"exits", "exits of virtual machines", (*Bench).exits},
	{"dials", "lost wake-ups", (*Bench).dial},
	{"many", "many at once", (*Bench).many},
	{"clones", "pVMs made of one snapshot", (*Bench).clones},
	{"restore", "one pVM made of a snapshot", (*Bench).restore},
	{"fork", "fork", (*Bench).fork},
	{"parallel", "one job on several processors, by forks", (*Bench).parallel},
	{"ipc", "what members of a family say to each other", (*Bench).ipc},
	{"sockets", "what they say by unix sockets", (*Bench).sockets},
}

func main() {
	if len(os.Args) > 1 && roles[os.Args[1]] != nil {
		if err := roles[os.Args[1]](os.Args[2:]); err != nil {
			fmt.Fprintln(os.Stderr, "bench:", err)
			os.Exit(1)
		}
		return
	}
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run() error {
	var names []string
	for _, m := range measures {
		names = append(names, m.name)
	}
	b := &Bench{programs: map[string]*Program{}}
	only := flag.String("only", "", "measure these only, separated by commas: "+strings.Join(names, ", "))
	jsonFile := flag.String("json", "", "write the results as JSON to this `file` too")
	flag.BoolVar(&b.quick, "quick", false, "fewer and shorter measurements, for a look")
	isolation := flag.String("isolation", "process", "isolations of the pVMs, separated by commas: process, vm")
	flag.IntVar(&b.rounds, "rounds", 0, "starts of each kind (100, quick 10)")
	flag.IntVar(&b.loads, "loads", 0, "loads of each kind (5, quick 1)")
	flag.DurationVar(&b.load, "load", 0, "time of one load (3s, quick 1s)")
	flag.IntVar(&b.pvms, "n", 0, "pVMs for \"many\" and \"clones\" (1000, quick 20)")
	flag.IntVar(&b.dials, "dials", 0, "dials of each kind (100000, quick 2000)")
	flag.Parse()
	if flag.NArg() > 0 {
		return fmt.Errorf("%q is not a flag; the flags are shown by -help", flag.Arg(0))
	}
	b.defaults()
	b.isolation = strings.Split(*isolation, ",")
	var wanted []string
	if *only != "" {
		wanted = strings.Split(*only, ",")
	}
	for _, w := range wanted {
		if !slices.Contains(names, w) {
			return fmt.Errorf("there is no measurement %q (there are %s)", w, strings.Join(names, ", "))
		}
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	b.ctx = ctx
	if err := b.prepare(); err != nil {
		return err
	}
	defer os.RemoveAll(b.dir)

	report := Report{Command: strings.Join(os.Args[1:], " "), Facts: facts(b)}
	report.Facts.print(os.Stdout)
	failed := false
	for _, m := range measures {
		if wanted != nil && !slices.Contains(wanted, m.name) || ctx.Err() != nil {
			continue
		}
		fmt.Printf("\n# %s: %s\n", m.name, m.what)
		results, err := m.run(b)
		for i := range results {
			results[i].Measure = m.name
			results[i].print(os.Stdout)
		}
		report.Results = append(report.Results, results...)
		if err != nil {
			// The other measurements may still work.
			failed = true
			fmt.Printf("FAILED: %v\n", err)
			report.Failed = append(report.Failed, m.name+": "+err.Error())
		}
	}
	report.Facts.end()
	fmt.Println()
	printLimits(os.Stdout)
	if *jsonFile != "" {
		if err := report.write(*jsonFile); err != nil {
			return err
		}
	}
	if failed || ctx.Err() != nil {
		return fmt.Errorf("not everything could be measured; see above")
	}
	return nil
}

// defaults fills in what was not given.
func (b *Bench) defaults() {
	set := func(v *int, full, quick int) {
		if *v <= 0 {
			*v = full
			if b.quick {
				*v = quick
			}
		}
	}
	set(&b.rounds, 100, 10)
	set(&b.loads, 5, 1)
	set(&b.pvms, 1000, 20)
	set(&b.dials, 100000, 2000)
	if b.load <= 0 {
		b.load = 3 * time.Second
		if b.quick {
			b.load = time.Second
		}
	}
}
