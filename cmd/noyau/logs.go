package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"time"

	"github.com/fsnotify/fsnotify"
	"github.com/spf13/cobra"

	"noyau.dev/host/state"
)

type logFlags struct {
	follow, times bool
	tail, since   string
}

func newLogs() *cobra.Command {
	var f logFlags
	cmd := &cobra.Command{
		Use:   "logs [flags] PVM",
		Short: "Print what a detached pVM has written",
		Long: `Logs prints the app's output: what it wrote to standard output there, what it
wrote to standard error there. The newest 20 to 30 MB are kept.`,
		Example:           "  noyau logs -f web\n  noyau logs --tail 20 -t web\n  noyau logs --since 10m web",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: pvmNames(anyPVM),
		RunE: func(_ *cobra.Command, args []string) error {
			d, err := state.Open()
			if err != nil {
				return err
			}
			e, err := d.Find(args[0])
			if err != nil {
				return err
			}
			if !e.Meta.Detached {
				return fmt.Errorf("pVM %s is not detached: its output went to its terminal", e.Meta.Name)
			}
			return f.run(e)
		},
	}
	cmd.Flags().BoolVarP(&f.follow, "follow", "f", false, "go on printing until the pVM ends")
	cmd.Flags().StringVarP(&f.tail, "tail", "n", "all", "print the last `number` of lines only")
	cmd.Flags().BoolVarP(&f.times, "timestamps", "t", false, "print the time before each line")
	cmd.Flags().StringVar(&f.since, "since", "", "only what is newer than a `time` (RFC 3339) or duration (10m)")
	return cmd
}

func (f *logFlags) run(e *state.Entry) error {
	last := -1
	if f.tail != "all" {
		n, err := strconv.Atoi(f.tail)
		if err != nil || n < 0 {
			return &exitCode{exitError, fmt.Errorf("--tail %q is not a number of lines; want a number or all", f.tail)}
		}
		last = n
	}
	since, err := parseSince(f.since, time.Now())
	if err != nil {
		return err
	}
	r := e.ReadLog()
	defer r.Close()
	var watch *fsnotify.Watcher
	if f.follow { // before the first reading, so that nothing falls between
		if watch, err = fsnotify.NewWatcher(); err == nil {
			defer watch.Close()
			err = watch.Add(e.Path())
		}
		if err != nil {
			return fmt.Errorf("watch the log: %w", err)
		}
	}
	p := &logPrinter{out: os.Stdout, err: os.Stderr, times: f.times}
	var ring [][]state.Record // the last lines, each of one record or more
	for {
		rec, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		if rec.Time.Before(since) {
			continue
		}
		if last < 0 {
			if err := p.print(rec); err != nil {
				return err
			}
			continue
		}
		ring = lastLines(ring, rec, last)
	}
	for _, line := range ring {
		for _, rec := range line {
			if err := p.print(rec); err != nil {
				return err
			}
		}
	}
	if !f.follow {
		return nil
	}
	return follow(e, r, watch, p)
}

// follow prints what comes until the pVM has ended and all was read.
func follow(e *state.Entry, r *state.LogReader, watch *fsnotify.Watcher, p *logPrinter) error {
	// A monitor that is killed writes nothing any more: look now and then.
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		gone := false
		if err := e.Refresh(); err != nil {
			if !errors.Is(err, os.ErrNotExist) {
				return err
			}
			gone = true // removed; what is open can still be read
		}
		ended := gone || !e.Alive() // known before the last reading begins
		for {
			rec, err := r.Next()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				return err
			}
			if err := p.print(rec); err != nil {
				return err
			}
		}
		if ended {
			return nil
		}
		select {
		case _, ok := <-watch.Events:
			if !ok {
				return nil
			}
		case err := <-watch.Errors:
			if err != nil && !errors.Is(err, fsnotify.ErrEventOverflow) {
				return fmt.Errorf("watch the log: %w", err)
			}
		case <-tick.C:
		}
	}
}

// lastLines appends rec to the lines and keeps at most n.
func lastLines(lines [][]state.Record, rec state.Record, n int) [][]state.Record {
	if n == 0 {
		return nil
	}
	if k := len(lines); k > 0 {
		prev := lines[k-1]
		if end := prev[len(prev)-1]; end.Stream == rec.Stream && !bytes.HasSuffix(end.Data(), []byte("\n")) {
			lines[k-1] = append(prev, rec)
			return lines
		}
	}
	lines = append(lines, []state.Record{rec})
	if len(lines) > n {
		lines = lines[1:]
	}
	return lines
}

// A logPrinter writes records to the stream they came from.
type logPrinter struct {
	out, err io.Writer
	times    bool
	within   map[string]bool // stream → in the middle of a line
}

func (p *logPrinter) print(r state.Record) error {
	w := p.out
	if r.Stream == "stderr" {
		w = p.err
	}
	data := r.Data()
	if p.times && len(data) > 0 {
		if p.within == nil {
			p.within = map[string]bool{}
		}
		if !p.within[r.Stream] {
			if _, err := fmt.Fprintf(w, "%s ", r.Time.Format(time.RFC3339Nano)); err != nil {
				return err
			}
		}
		p.within[r.Stream] = data[len(data)-1] != '\n'
	}
	_, err := w.Write(data)
	return err
}

func parseSince(s string, now time.Time) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	if d, err := time.ParseDuration(s); err == nil {
		return now.Add(-d), nil
	}
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05", "2006-01-02"} {
		if t, err := time.ParseInLocation(layout, s, time.Local); err == nil {
			return t, nil
		}
	}
	return time.Time{}, &exitCode{exitError, fmt.Errorf("--since %q: want a time such as 2026-01-02T15:04:05Z or a duration such as 10m", s)}
}
