package main

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/docker/go-units"
	"github.com/spf13/cobra"

	"noyau.dev/host/state"
)

// psRow is a line of noyau ps, and an object of its JSON.
type psRow struct {
	ID        string
	Image     string
	Command   string
	Created   time.Time
	Status    string
	Ports     string
	Name      string
	Phase     state.Phase
	ExitCode  int
	Isolation string
	PID       int
}

func newPs() *cobra.Command {
	var all, quiet, full, tree bool
	var spec string
	cmd := &cobra.Command{
		Use:   "ps",
		Short: "List pVMs",
		Long: `Ps lists this user's running pVMs. With -a also detached ones that have ended;
"dead" is one whose monitor was killed.`,
		Example: "  noyau ps -a\n  noyau ps --format '{{.Name}} {{.Ports}}'\n  noyau rm $(noyau ps -aq)",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			f, err := parseFormat(spec)
			if err != nil {
				return err
			}
			if tree && (all || quiet || full || spec != "table") {
				return &exitCode{exitError, errors.New("--tree has a form of its own: -a, -q, --no-trunc and --format cannot be used with it")}
			}
			d, err := state.Open()
			if err != nil {
				return err
			}
			entries, err := d.List()
			if tree {
				printTree(cmd.Context(), entries)
				return err
			}
			var rows []psRow
			for _, e := range entries {
				if !all && !e.Alive() {
					continue
				}
				if quiet {
					fmt.Println(e.Meta.ID)
					continue
				}
				rows = append(rows, newPsRow(e, time.Now(), full || spec != "table"))
			}
			if quiet {
				return err
			}
			if e := printRows(os.Stdout, f, rows,
				[]string{"PVM ID", "IMAGE", "COMMAND", "CREATED", "STATUS", "PORTS", "NAME"},
				func(r psRow) []string {
					return []string{r.ID, r.Image, r.Command, ago(time.Since(r.Created)), r.Status, r.Ports, r.Name}
				}); e != nil {
				return e
			}
			return err
		},
	}
	cmd.Flags().BoolVarP(&all, "all", "a", false, "also those that have ended")
	cmd.Flags().BoolVarP(&quiet, "quiet", "q", false, "print ids only")
	cmd.Flags().BoolVar(&full, "no-trunc", false, "do not shorten images and commands")
	cmd.Flags().BoolVar(&tree, "tree", false, "show pVMs with their forks")
	addFormat(cmd, &spec)
	return cmd
}

func newPsRow(e *state.Entry, now time.Time, full bool) psRow {
	r := psRow{
		ID: e.Meta.ID, Image: e.Meta.Image, Created: e.Meta.Created, Status: statusText(e, now),
		Ports: strings.Join(e.Status.Ports, ", "), Name: e.Meta.Name, Phase: e.Status.Phase,
		ExitCode: e.Status.ExitCode, Isolation: e.Status.Isolation, PID: e.Status.PID,
	}
	if !e.Alive() {
		r.Ports, r.PID = "", 0
	}
	r.Command = strings.Join(append([]string{e.Meta.Base}, e.Meta.Args...), " ")
	if !full {
		r.Image = shorten(imageName(r.Image), 30)
		r.Command = strconv.Quote(shorten(r.Command, 20))
	}
	return r
}

// statusText says what docker says: "Up 3 minutes", "Exited (0) 2 hours ago".
func statusText(e *state.Entry, now time.Time) string {
	s := e.Status
	switch s.Phase {
	case state.Running:
		up := "Up " + strings.ToLower(units.HumanDuration(now.Sub(s.Started)))
		if s.Paused {
			up += " (Paused)"
		}
		return up
	case state.Exited:
		return fmt.Sprintf("Exited (%d) %s", s.ExitCode, ago(now.Sub(s.Finished)))
	case state.Dead:
		return "Dead"
	}
	return "Created"
}

func ago(d time.Duration) string { return units.HumanDuration(d) + " ago" }

func shorten(s string, n int) string {
	r := []rune(s)
	if len(r) <= n {
		return s
	}
	return string(r[:n-1]) + "…"
}
