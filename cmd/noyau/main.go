// Command noyau builds unmodified Go programs into images and runs them as pVMs.
package main

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"noyau.dev/host/image"
	"noyau.dev/host/process"
	"noyau.dev/host/snapshot"
	"noyau.dev/host/state"
	"noyau.dev/host/vm"
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
	begin(args)
	root := newRoot(args)
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

// begin has begun what takes longest of commands that run a pVM in this process: the
// namespaces that it will be in, and a runner if it may be a virtual machine. An error is said
// by the isolation that needs them.
func begin(args []string) {
	if len(args) == 0 {
		return
	}
	switch args[0] {
	case "run", "restore":
		for _, a := range args[1:] {
			if a == "-d" || a == "--detach" { // the monitor does it; should the guess be wrong, it was in vain
				return
			}
		}
		process.Prepare()
		if mayBeVM(args[1:]) {
			vm.Early()
		}
	case "monitor":
		process.Prepare()
	}
}

// mayBeVM guesses from the arguments of a command whether it will start a virtual machine
// for which a runner can be launched before more is known.
func mayBeVM(args []string) bool {
	for i, a := range args {
		switch name, value, set := strings.Cut(a, "="); name {
		case "--isolation":
			if !set && i+1 < len(args) {
				value = args[i+1]
			}
			if value == "process" {
				return false
			}
		case "-m", "--memory", "--cpus", "--pids-limit", "--fork":
			return false
		case "--":
			return true
		}
	}
	return true
}

// complain prints an error the way all of them are printed.
func complain(err error) { fmt.Fprintf(os.Stderr, "noyau: %v\n", err) }

// A command is one of noyau's.
type command struct {
	name, group string // without a group: not for users, or about noyau itself
	make        func() *cobra.Command
}

// commands returns all of them; the help text sorts them.
func commands() []command {
	return []command{
		{"build", "run", newBuild},
		{"run", "run", newRun},
		{"test", "run", newTest},
		{"ps", "manage", newPs},
		{"logs", "manage", newLogs},
		{"stop", "manage", newStop},
		{"kill", "manage", newKill},
		{"fork", "manage", newFork},
		{"snapshot", "manage", newSnapshot},
		{"restore", "manage", newRestore},
		{"clone", "manage", newClone},
		{"pause", "manage", func() *cobra.Command { return newPause(true) }},
		{"resume", "manage", func() *cobra.Command { return newPause(false) }},
		{"rm", "manage", newRm},
		{"wait", "manage", newWait},
		{"inspect", "manage", newInspect},
		{"stats", "manage", newStats},
		{"version", "", newVersion},
		{"monitor", "", newMonitor},
		{"test-exec", "", newTestExec},
	}
}

// newRoot makes the command that knows all others, or only the one that args begin with:
// to make the flags of all takes longer than most commands.
func newRoot(args []string) *cobra.Command {
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
		// Of SuggestionsFor.
		SuggestionsMinimumDistance: 2,
		Args:                       noCommand,
		RunE:                       func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return &exitCode{exitError, fmt.Errorf("%w\nSee '%s --help'", err, cmd.CommandPath())}
	})
	root.AddGroup(
		&cobra.Group{ID: "run", Title: "Build and run:"},
		&cobra.Group{ID: "manage", Title: "Manage pVMs:"},
	)
	list := commands()
	if len(args) > 0 {
		if i := slices.IndexFunc(list, func(c command) bool { return c.name == args[0] }); i >= 0 {
			list = list[i : i+1]
			root.CompletionOptions.DisableDefaultCmd = true // it is a command too
		}
	}
	for _, c := range list {
		cmd := c.make()
		cmd.GroupID = c.group
		cmd.Args = usage(cmd.Args)
		for _, sub := range cmd.Commands() {
			sub.Args = usage(sub.Args)
		}
		root.AddCommand(cmd)
	}
	return root
}

// usage makes wrong arguments what wrong flags are.
func usage(check cobra.PositionalArgs) cobra.PositionalArgs {
	if check == nil {
		return nil
	}
	return func(cmd *cobra.Command, args []string) error {
		err := check(cmd, args)
		if code := new(exitCode); err == nil || errors.As(err, &code) {
			return err
		}
		return &exitCode{exitError, fmt.Errorf("%w\nSee '%s --help'", err, cmd.CommandPath())}
	}
}

// noCommand is the error of a name that no command has.
func noCommand(root *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	said := ""
	for _, s := range root.SuggestionsFor(args[0]) {
		said += fmt.Sprintf("\nDid you mean '%s %s'?", root.Name(), s)
	}
	return &exitCode{exitError, fmt.Errorf("unknown command %q%s\nSee '%s --help'", args[0], said, root.Name())}
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
