package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"sync"
	"time"

	"github.com/docker/go-units"
	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
	"golang.org/x/term"

	"noyau.dev/host/monitor"
	"noyau.dev/host/state"
)

// statsRow is a line of noyau stats, and an object of its JSON.
type statsRow struct {
	ID          string
	Name        string
	CPUPercent  float64
	CPU         time.Duration // since the start
	Memory      uint64        // private dirty, bytes
	MemoryLimit int64         // 0: none
	RSS         uint64
	Handles     int
	Requests    uint64
	Connections uint64
	Pending     int
}

// A sample is what a pVM's counters were at a time.
type sample struct {
	at  time.Time
	cpu time.Duration
}

// statsEvery is the time between two measurements.
const statsEvery = time.Second

func newStats() *cobra.Command {
	var once, all bool
	var spec string
	cmd := &cobra.Command{
		Use:   "stats [flags] [PVM...]",
		Short: "Show what running pVMs use",
		Long: `Stats shows CPU time, memory that exists for the pVM alone (private dirty
pages), resident memory, handles and requests to the monitor, every second.`,
		Example:           "  noyau stats\n  noyau stats --no-stream --format json web",
		ValidArgsFunction: pvmNames((*state.Entry).Alive),
		RunE: func(_ *cobra.Command, args []string) error {
			f, err := parseFormat(spec)
			if err != nil {
				return err
			}
			d, err := state.Open()
			if err != nil {
				return err
			}
			ctx, cancel := signal.NotifyContext(context.Background(), unix.SIGINT, unix.SIGTERM)
			defer cancel()
			return streamStats(ctx, d, args, f, once)
		},
	}
	cmd.Flags().BoolVar(&once, "no-stream", false, "measure once, over a second, and end")
	cmd.Flags().BoolVarP(&all, "all", "a", false, "")
	cmd.Flags().MarkHidden("all")
	addFormat(cmd, &spec)
	return cmd
}

func streamStats(ctx context.Context, d *state.Dir, refs []string, f *format, once bool) error {
	before := map[string]sample{}
	clear := f.spec == "table" && term.IsTerminal(1) && !once
	for round := 0; ; round++ {
		entries, err := statsEntries(d, refs)
		if err != nil {
			return err
		}
		rows := measure(ctx, entries, before)
		if ctx.Err() != nil {
			return nil
		}
		// The first measurement is of no time span, so it has no percentage.
		if round > 0 || len(entries) == 0 {
			if clear {
				fmt.Print("\x1b[H\x1b[2J")
			}
			if err := printStats(f, rows); err != nil {
				return err
			}
			if once {
				return nil
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(statsEvery):
		}
	}
}

// statsEntries returns the pVMs to measure: those named, which must run, or all
// that run.
func statsEntries(d *state.Dir, refs []string) ([]*state.Entry, error) {
	var out []*state.Entry
	if len(refs) == 0 {
		all, err := d.List()
		for _, e := range all {
			if e.Status.Phase == state.Running {
				out = append(out, e)
			}
		}
		return out, err
	}
	for _, ref := range refs {
		e, err := d.Find(ref)
		if err != nil {
			return nil, err
		}
		if e.Status.Phase != state.Running {
			return nil, notRunning(e)
		}
		out = append(out, e)
	}
	return out, nil
}

// measure asks all monitors at once. Those whose pVM has just ended are left out.
func measure(ctx context.Context, entries []*state.Entry, before map[string]sample) []statsRow {
	rows := make([]*statsRow, len(entries))
	var wg sync.WaitGroup
	var mu sync.Mutex
	for i, e := range entries {
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
			defer cancel()
			var s monitor.Stats
			if err := e.Control().Stats(ctx, &s); err != nil {
				return
			}
			now := sample{time.Now(), s.CPU}
			r := &statsRow{
				ID: e.Meta.ID, Name: e.Meta.Name, CPU: s.CPU, Memory: s.PrivateDirty, MemoryLimit: e.Meta.Memory,
				RSS: s.RSS, Handles: s.Handles, Requests: s.Requests, Connections: s.Connections, Pending: s.Pending,
			}
			mu.Lock()
			if b, ok := before[r.ID]; ok {
				if d := now.at.Sub(b.at); d > 0 {
					r.CPUPercent = 100 * float64(now.cpu-b.cpu) / float64(d)
				}
			}
			before[r.ID] = now
			mu.Unlock()
			rows[i] = r
		})
	}
	wg.Wait()
	var out []statsRow
	for _, r := range rows {
		if r != nil {
			out = append(out, *r)
		}
	}
	return out
}

func printStats(f *format, rows []statsRow) error {
	return printRows(os.Stdout, f, rows,
		[]string{"PVM ID", "NAME", "CPU %", "MEM PRIVATE / LIMIT", "RSS", "HANDLES", "REQUESTS", "CONNS OUT"},
		func(r statsRow) []string {
			limit := "-"
			if r.MemoryLimit > 0 {
				limit = units.BytesSize(float64(r.MemoryLimit))
			}
			return []string{
				r.ID, r.Name, fmt.Sprintf("%.2f%%", r.CPUPercent),
				units.BytesSize(float64(r.Memory)) + " / " + limit, units.BytesSize(float64(r.RSS)),
				fmt.Sprint(r.Handles), fmt.Sprint(r.Requests), fmt.Sprint(r.Connections),
			}
		})
}
