package main

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
	"golang.org/x/term"

	"noyau.dev/host/image"
	"noyau.dev/host/monitor"
	"noyau.dev/host/state"
)

func newRun() *cobra.Command {
	var f runFlags
	cmd := &cobra.Command{
		Use:   "run [flags] PACKAGE|IMAGE [args...]",
		Short: "Run a package or an image as a pVM",
		Long: `Run starts a pVM. An image is run as it is; a main package (a directory, an
import path, a Go file, or path@version) is built first, into a cache.

What follows PACKAGE or IMAGE are the app's arguments. The app has the standard
streams of this command, and its exit code becomes that of this command: 128+n
if signal n killed it, 125 if noyau failed, 126 if the file is no image, 127 if
there is no such file. Ctrl-C is delivered to the app; the third one kills it.

The app sees no file and no environment variable of the host but those given
with -v and -e. It can listen on published ports only, and connect to anything
but the host's own loopback and link-local addresses unless --net and
--allow-out say otherwise.`,
		Example: `  noyau run ./hello
  noyau run -p 8080:80 -v ./data:/data ./server -verbose
  noyau run -d --name web -p 127.0.0.1:8080:80 -m 64m server.img
  noyau run --allow-out api.example.org:443 -e TOKEN ./client
  noyau run --trace example.org/tool@latest`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return &exitCode{exitError, fmt.Errorf("%q needs a PACKAGE or an IMAGE\nSee '%s --help'", cmd.CommandPath(), cmd.CommandPath())}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			return runCode(runPVM(cmd, &f, args[0], args[1:]))
		},
	}
	cmd.Flags().SetInterspersed(false) // the app's flags are the app's
	f.add(cmd.Flags())
	cmd.RegisterFlagCompletionFunc("isolation", cobra.FixedCompletions([]string{"auto", "process", "vm"}, cobra.ShellCompDirectiveNoFileComp))
	cmd.RegisterFlagCompletionFunc("net", cobra.FixedCompletions([]string{"default", "none", "host-loopback", "unrestricted"}, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

func runPVM(cmd *cobra.Command, f *runFlags, arg string, args []string) error {
	if f.name != "" {
		if err := state.CheckName(f.name); err != nil {
			return &exitCode{exitError, err}
		}
	}
	// What can be wrong with the flags is said before a build is begun.
	if _, err := f.config("pvm", args); err != nil {
		return &exitCode{exitError, err}
	}
	t, err := openTarget(cmd.Context(), arg, f.goFlags())
	if err != nil {
		return err
	}
	defer t.image.Close()
	execs, err := f.images(cmd.Context())
	if err != nil {
		return err
	}
	if f.detach {
		defer untilInterrupted(cmd)()
	}
	l, err := register(f, t, args)
	if err != nil {
		return &exitCode{exitError, err}
	}
	c, err := f.config(t.base, args)
	if err != nil {
		l.discard()
		return &exitCode{exitError, err}
	}
	// A detached monitor stands in another directory.
	if c.Image, err = filepath.Abs(t.image.Path); err != nil {
		l.discard()
		return &exitCode{exitError, err}
	}
	c.ImageFile, c.Exec = t.image.File, execs
	c.Timing.Mark("image found and registered")
	if f.forks < 0 && slices.Contains(t.image.Manifest.Bricks, image.BrickFork) {
		c.Forks = monitor.DefaultForks
	}
	if f.detach {
		err = detach(cmd.Context(), l, c)
	} else {
		err = foreground(l, c)
	}
	var code *exitCode
	if err != nil && !(errors.As(err, &code) && code.err == nil) {
		l.discard()
	}
	return err
}

// meta is what an entry says of a pVM of these flags.
func (f *runFlags) meta(t *target, args []string) state.Meta {
	shown := t.shown
	if abs, err := filepath.Abs(shown); err == nil && isPath(shown) {
		shown = abs
	}
	memory, _ := memorySize(f.memory)
	return state.Meta{
		Name:        f.name,
		Image:       shown,
		Package:     t.image.Manifest.Path,
		Base:        t.base,
		Args:        args,
		Detached:    f.detach,
		AutoRemove:  f.remove,
		Isolation:   f.isolation,
		Publish:     f.publish,
		Volumes:     f.volumes,
		Memory:      int64(memory),
		StopTimeout: f.stopAfter(),
	}
}

// foreground runs the pVM in this process, on our standard streams.
func foreground(l *listing, c monitor.Config) error {
	c.Stdin, c.Stdout, c.Stderr = os.Stdin, os.Stdout, os.Stderr
	c.Terminal = terminal()
	if c.Terminal.In != nil && c.Terminal.Out != nil {
		if v := os.Getenv("TERM"); v != "" {
			c.Env = addEnv(c.Env, "TERM", v)
		}
	}
	// The Go runtime hands each signal from thread to thread when it is asked for it, which
	// together takes as long as the launch. Until it is done a signal ends us, and a pVM
	// that runs already with us; its program has not come to its main function then.
	caught := make(chan chan os.Signal)
	go func() {
		catch(unix.SIGPIPE) // a reader that goes away is the app's affair
		caught <- notify(unix.SIGINT, unix.SIGTERM, unix.SIGHUP, unix.SIGQUIT, unix.SIGUSR1, unix.SIGUSR2, unix.SIGWINCH)
	}()
	s, err := startSession(c, l)
	signals := <-caught
	if err != nil {
		return startError(err)
	}
	go forward(signals, s.inst)
	exit, err := s.wait()
	if c.Timing != nil {
		printTiming(os.Stderr)
	}
	signal.Stop(signals)
	if err != nil {
		complain(err)
	}
	return ended(exit)
}

// ended says why a pVM ended and makes its exit code ours.
func ended(exit monitor.Exit) error {
	if exit.Reason != "" {
		complain(errors.New(exit.Reason))
	}
	if exit.Code != 0 {
		return &exitCode{exit.Code, nil}
	}
	return nil
}

// startError is the failure to start an image: it is ours, whatever it wraps.
func startError(err error) error {
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, os.ErrPermission) {
		return &exitCode{exitError, err}
	}
	return runCode(err)
}

// notify catches signals, but those that our maker ignores (nohup, a background
// job of a script): they stay ignored, as in any program.
func notify(sigs ...os.Signal) chan os.Signal {
	c := make(chan os.Signal, 16)
	for _, s := range sigs {
		if !signal.Ignored(s) {
			signal.Notify(c, s)
		}
	}
	return c
}

// catch makes signals harmless to us. What we start has them by default again,
// which it would not if we ignored them.
func catch(sigs ...os.Signal) { signal.Notify(make(chan os.Signal, 1), sigs...) }

// forward delivers our signals to the app. A third SIGINT kills it: by then it
// has had its chances.
func forward(signals <-chan os.Signal, inst *monitor.Instance) {
	interrupts := 0
	for s := range signals {
		sig := s.(unix.Signal)
		switch sig {
		case unix.SIGWINCH:
			if w, h, err := windowSize(); err == nil {
				inst.Resize(uint16(h), uint16(w))
			}
			continue
		case unix.SIGINT:
			interrupts++
			if interrupts == 2 && term.IsTerminal(2) {
				fmt.Fprintln(os.Stderr, "\nnoyau: Ctrl-C once more kills the app")
			}
			if interrupts >= 3 {
				inst.Kill()
				continue
			}
		}
		inst.Signal(sig)
	}
}

// terminal finds out which of our standard streams are terminals.
func terminal() monitor.Terminal {
	var t monitor.Terminal
	for _, x := range []struct {
		f  *os.File
		to **os.File
	}{{os.Stdin, &t.In}, {os.Stdout, &t.Out}, {os.Stderr, &t.Err}} {
		if term.IsTerminal(int(x.f.Fd())) {
			*x.to = x.f
		}
	}
	if w, h, err := windowSize(); err == nil {
		t.Rows, t.Cols = uint16(h), uint16(w)
	}
	return t
}

func windowSize() (width, height int, err error) {
	for fd := range 3 {
		if width, height, err = term.GetSize(fd); err == nil {
			return
		}
	}
	return
}
