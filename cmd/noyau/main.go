// Command noyau builds unmodified Go programs into images and runs them as pVMs.
package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"noyau.dev/host/image"
	"noyau.dev/host/snapshot"
	"noyau.dev/host/state"
)

// Exit codes of our own, as docker has them.
const (
	exitError    = 125 // noyau failed
	exitNoExec   = 126 // what was to be run is no image
	exitNotFound = 127 // what was to be run does not exist
)

// An exitCode ends the program with a code. A nil err prints nothing: all was
// said already, or the code is an app's.
type exitCode struct {
	code int
	err  error
}

func (e *exitCode) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit code %d", e.code)
	}
	return e.err.Error()
}

func (e *exitCode) Unwrap() error { return e.err }

func main() { os.Exit(run(os.Args[1:])) }

// run is main with arguments and exit code.
func run(args []string) int {
	root := newRoot()
	root.SetArgs(goStyle(root, args))
	err := root.Execute()
	if err == nil {
		return 0
	}
	var code *exitCode
	if errors.As(err, &code) {
		if code.err != nil {
			complain(code.err)
		}
		return code.code
	}
	complain(err)
	return 1
}

// complain prints an error the way all of them are printed.
func complain(err error) { fmt.Fprintf(os.Stderr, "noyau: %v\n", err) }

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:   "noyau",
		Short: "Run unmodified Go programs as pVMs",
		Long: `Noyau compiles an unmodified Go program into an image and runs it as a pVM: it
starts like a process and is isolated like a virtual machine.

  noyau run -p 8080:8080 ./myserver       build and run a package
  noyau build -o myserver.img ./myserver  build an image
  noyau run -d --name web myserver.img    run an image in the background
  noyau ps                                see what runs`,
		SilenceUsage:  true,
		SilenceErrors: true,
		Args:          cobra.NoArgs,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return &exitCode{exitError, fmt.Errorf("%w\nSee '%s --help'", err, cmd.CommandPath())}
	})
	root.AddGroup(
		&cobra.Group{ID: "run", Title: "Build and run:"},
		&cobra.Group{ID: "manage", Title: "Manage pVMs:"},
	)
	add := func(group string, cmds ...*cobra.Command) {
		for _, c := range cmds {
			c.GroupID = group
			root.AddCommand(c)
		}
	}
	add("run", newBuild(), newRun(), newTest())
	add("manage", newPs(), newLogs(), newStop(), newKill(), newFork(), newSnapshot(), newRestore(), newClone(), newPause(true), newPause(false), newRm(), newWait(), newInspect(), newStats())
	root.AddCommand(newVersion(), newMonitor(), newTestExec())
	return root
}

// runCode gives an error of `noyau run` the exit code that docker users expect.
func runCode(err error) error {
	var code *exitCode
	var abi *image.ABIError
	switch {
	case err == nil || errors.As(err, &code):
		return err
	case errors.Is(err, image.ErrNotImage), errors.Is(err, snapshot.ErrBad), errors.As(err, &abi), errors.Is(err, os.ErrPermission):
		return &exitCode{exitNoExec, err}
	case errors.Is(err, os.ErrNotExist):
		return &exitCode{exitNotFound, err}
	}
	return &exitCode{exitError, err}
}

// pvmNames completes the names of pVMs that keep accepts.
func pvmNames(keep func(*state.Entry) bool) cobra.CompletionFunc {
	return func(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		d, err := state.Open()
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		all, _ := d.List()
		var names []string
		for _, e := range all {
			if keep(e) {
				names = append(names, e.Meta.Name)
			}
		}
		return names, cobra.ShellCompDirectiveNoFileComp
	}
}

func anyPVM(*state.Entry) bool { return true }
