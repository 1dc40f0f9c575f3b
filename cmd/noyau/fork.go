package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/docker/go-units"
	"github.com/spf13/cobra"

	"noyau.dev/host/monitor"
	"noyau.dev/host/state"
)

// forkTime is how long an app may take to fork: it must run for that.
const forkTime = 10 * time.Second

func newFork() *cobra.Command {
	return &cobra.Command{
		Use:   "fork PVM",
		Short: "Make a copy of a running pVM",
		Long: `Fork copies a pVM as it is now, and prints the id of the copy inside the family.
Both go on: a server then answers with one process more, from the same queue of
connections. Open connections stay with the original. The pVM must have been started
with --fork N, or use package pvm.`,
		Example:           "  noyau run -d --name web --fork 8 -p 8080:80 ./server\n  noyau fork web\n  noyau ps --tree",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: pvmNames((*state.Entry).Alive),
		RunE: func(cmd *cobra.Command, args []string) error {
			e, err := findRunning(args[0])
			if err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), forkTime)
			defer cancel()
			pid, err := e.Control().Fork(ctx)
			if err != nil {
				return err
			}
			fmt.Println(pid)
			return nil
		},
	}
}

func newPause(on bool) *cobra.Command {
	use, short := "pause PVM...", "Stop pVMs where they are"
	if !on {
		use, short = "resume PVM...", "Let paused pVMs go on"
	}
	return &cobra.Command{
		Use:               use,
		Short:             short,
		Args:              somePVMs,
		ValidArgsFunction: pvmNames((*state.Entry).Alive),
		RunE: func(cmd *cobra.Command, args []string) error {
			return each(args, func(_ *state.Dir, e *state.Entry) error {
				if err := mustRun(e); err != nil {
					return err
				}
				err := e.Control().Pause(cmd.Context(), on)
				if errors.Is(err, state.ErrGone) {
					return notRunning(e)
				}
				return err
			})
		},
	}
}

// printTree shows pVMs with the members of their families below them.
func printTree(ctx context.Context, entries []*state.Entry) {
	for _, e := range entries {
		if !e.Alive() {
			continue
		}
		paused := ""
		if e.Status.Paused {
			paused = "  (Paused)"
		}
		fmt.Fprintf(os.Stdout, "%s  %s  %s%s\n", e.Meta.ID, e.Meta.Name, strings.Join(e.Status.Ports, ", "), paused)
		var list []monitor.Member
		if e.Control().Members(ctx, &list) != nil {
			continue // it has just ended
		}
		known := map[int]bool{}
		for _, m := range list {
			known[m.PID] = true
		}
		var show func(parent int, indent string)
		show = func(parent int, indent string) {
			for _, m := range list {
				// Orphans stand at the top.
				if m.Parent != parent && (parent != 0 || known[m.Parent]) {
					continue
				}
				fmt.Fprintf(os.Stdout, "%s%d  host process %d, %s of its own\n", indent, m.PID, m.Pid, units.HumanSize(float64(m.Stats.PrivateDirty)))
				show(m.PID, indent+"  ")
			}
		}
		show(0, "  ")
	}
}
