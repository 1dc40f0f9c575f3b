package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"noyau.dev/host/state"
)

func newStop() *cobra.Command {
	var timeout int
	cmd := &cobra.Command{
		Use:   "stop [flags] PVM...",
		Short: "Stop pVMs",
		Long: `Stop delivers the stop signal (SIGTERM, or what --stop-signal said) to the apps
and kills those that still run after the timeout.`,
		Example:           "  noyau stop web\n  noyau stop -t 1 web db",
		Args:              somePVMs,
		ValidArgsFunction: pvmNames((*state.Entry).Alive),
		RunE: func(cmd *cobra.Command, args []string) error {
			return each(args, func(d *state.Dir, e *state.Entry) error {
				t := e.Meta.StopTimeout
				if cmd.Flags().Changed("timeout") || cmd.Flags().Changed("time") {
					t = time.Duration(timeout) * time.Second
				}
				return stop(e, t)
			})
		},
	}
	cmd.Flags().IntVarP(&timeout, "timeout", "t", 10, "`seconds` to wait before killing")
	cmd.Flags().IntVar(&timeout, "time", 10, "")
	cmd.Flags().MarkHidden("time")
	return cmd
}

func newKill() *cobra.Command {
	var name string
	cmd := &cobra.Command{
		Use:               "kill [flags] PVM...",
		Short:             "Kill pVMs or send them a signal",
		Example:           "  noyau kill web\n  noyau kill -s HUP web",
		Args:              somePVMs,
		ValidArgsFunction: pvmNames((*state.Entry).Alive),
		RunE: func(_ *cobra.Command, args []string) error {
			sig, err := parseSignal(name)
			if err != nil {
				return &exitCode{exitError, err}
			}
			return each(args, func(_ *state.Dir, e *state.Entry) error {
				if err := mustRun(e); err != nil {
					return err
				}
				if sig == unix.SIGKILL {
					return kill(e)
				}
				err := e.Control().Signal(context.Background(), sig)
				if errors.Is(err, state.ErrGone) {
					return notRunning(e)
				}
				return err
			})
		},
	}
	cmd.Flags().StringVarP(&name, "signal", "s", "KILL", "`signal` to send, as a name or number")
	return cmd
}

func newRm() *cobra.Command {
	var force bool
	cmd := &cobra.Command{
		Use:               "rm [flags] PVM...",
		Short:             "Remove pVMs that have ended, with their logs",
		Example:           "  noyau rm web\n  noyau rm -f web",
		Args:              somePVMs,
		ValidArgsFunction: pvmNames(anyPVM),
		RunE: func(_ *cobra.Command, args []string) error {
			return each(args, func(d *state.Dir, e *state.Entry) error {
				if force && e.Alive() {
					if err := kill(e); err != nil {
						return err
					}
				}
				err := d.Remove(e)
				var gone *state.NotFoundError
				if force && errors.As(err, &gone) {
					return nil // it removed itself when it ended
				}
				return err
			})
		},
	}
	cmd.Flags().BoolVarP(&force, "force", "f", false, "kill those that still run")
	return cmd
}

func newWait() *cobra.Command {
	return &cobra.Command{
		Use:               "wait PVM...",
		Short:             "Wait until pVMs end and print their exit codes",
		Args:              somePVMs,
		ValidArgsFunction: pvmNames((*state.Entry).Alive),
		RunE: func(_ *cobra.Command, args []string) error {
			d, err := state.Open()
			if err != nil {
				return err
			}
			for _, ref := range args {
				e, err := d.Find(ref)
				if err != nil {
					return err
				}
				if err := waitEnd(e, 0); err != nil {
					return err
				}
				fmt.Println(e.Status.ExitCode)
			}
			return nil
		},
	}
}

func somePVMs(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return &exitCode{exitError, fmt.Errorf("%q needs at least one PVM\nSee '%s --help'", cmd.CommandPath(), cmd.CommandPath())}
	}
	return nil
}

// findRunning is the pVM that ref names, which must be running.
func findRunning(ref string) (*state.Entry, error) {
	d, err := state.Open()
	if err != nil {
		return nil, err
	}
	e, err := d.Find(ref)
	if err != nil {
		return nil, err
	}
	return e, mustRun(e)
}

// mustRun waits for a pVM that is being started, and is an error if it does not run.
func mustRun(e *state.Entry) error {
	settle(e)
	if !e.Alive() {
		return notRunning(e)
	}
	return nil
}

func notRunning(e *state.Entry) error { return fmt.Errorf("pVM %s is not running", e.Meta.Name) }

// expand puts names in the place of patterns such as "web-*".
func expand(d *state.Dir, refs []string) ([]string, error) {
	var names []string
	for _, ref := range refs {
		if !strings.ContainsAny(ref, "*?[") {
			names = append(names, ref)
			continue
		}
		found, err := d.Match(ref)
		if err == nil && len(found) == 0 {
			err = &state.NotFoundError{Ref: ref}
		}
		if err != nil {
			return nil, err
		}
		for _, e := range found {
			names = append(names, e.Meta.Name)
		}
	}
	return names, nil
}

// each does f for every pVM at once, and prints what the user called those for
// which it went well, in the order given. A pattern means all names that match.
func each(refs []string, f func(*state.Dir, *state.Entry) error) error {
	d, err := state.Open()
	if err != nil {
		return err
	}
	if refs, err = expand(d, refs); err != nil {
		return err
	}
	errs := make([]error, len(refs))
	var wg sync.WaitGroup
	for i, ref := range refs {
		e, err := d.Find(ref)
		if err != nil {
			errs[i] = err
			continue
		}
		wg.Go(func() { errs[i] = f(d, e) })
	}
	wg.Wait()
	failed := false
	for i, ref := range refs {
		if errs[i] != nil {
			complain(errs[i])
			failed = true
			continue
		}
		fmt.Fprintln(os.Stdout, ref)
	}
	if failed {
		return &exitCode{1, nil}
	}
	return nil
}

// A monitor that does not answer in this time after it should have stopped its
// pVM is killed, and the pVM with it.
const monitorGrace = 10 * time.Second

// settle waits while the pVM is being started: there is nobody to talk to yet.
func settle(e *state.Entry) {
	for end := time.Now().Add(monitorGrace); e.Status.Phase == state.Created && time.Now().Before(end); {
		time.Sleep(5 * time.Millisecond)
		if e.Refresh() != nil {
			return
		}
	}
}

// stop ends a pVM and returns when this is on record. One that has ended is no
// error.
func stop(e *state.Entry, timeout time.Duration) error {
	return end(e, timeout, func(ctx context.Context) error { return e.Control().Stop(ctx, timeout) })
}

// kill is stop without a warning.
func kill(e *state.Entry) error {
	return end(e, 0, func(ctx context.Context) error { return e.Control().Signal(ctx, unix.SIGKILL) })
}

// end asks the monitor to end its pVM, and kills the monitor if that does not
// help in time.
func end(e *state.Entry, timeout time.Duration, ask func(context.Context) error) error {
	settle(e)
	if !e.Alive() {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), timeout+monitorGrace)
	defer cancel()
	err := ask(ctx)
	if err == nil || errors.Is(err, state.ErrGone) {
		err = waitEnd(e, monitorGrace)
	}
	if err == nil {
		return nil
	}
	if kerr := e.Status.Monitor.Signal(unix.SIGKILL); kerr != nil && !errors.Is(kerr, os.ErrProcessDone) {
		return errors.Join(err, kerr)
	}
	return waitEnd(e, monitorGrace)
}

// waitEnd returns when the pVM is no longer alive; limit 0 is none.
func waitEnd(e *state.Entry, limit time.Duration) error {
	start := time.Now()
	for pause := time.Millisecond; ; pause = min(2*pause, 100*time.Millisecond) {
		if err := e.Refresh(); errors.Is(err, os.ErrNotExist) {
			return nil // removed at its end
		} else if err != nil {
			return err
		}
		if !e.Alive() {
			return nil
		}
		if limit > 0 && time.Since(start) > limit {
			return fmt.Errorf("pVM %s still runs after %s", e.Meta.Name, limit)
		}
		time.Sleep(pause)
	}
}
