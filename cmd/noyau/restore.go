package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"

	"noyau.dev/host/build"
	"noyau.dev/host/image"
	"noyau.dev/host/monitor"
	"noyau.dev/host/snapshot"
)

// restoreFlags are what restore and clone have in common.
type restoreFlags struct {
	runFlags
	image, files string
}

func (f *restoreFlags) add(fs *pflag.FlagSet) {
	f.runFlags.add(fs)
	for _, name := range ofSnapshot() {
		fs.MarkHidden(name)
	}
	fs.StringVar(&f.image, "image", "", "the `image`, if it is not where it was")
	fs.StringVar(&f.files, "files", "refuse", "what becomes of `files` of volumes that were open and are not as they were: refuse, reopen, close")
}

// ofSnapshot are flags of noyau run that mean nothing here: what they say is in the snapshot, or
// in the image that it was made of.
func ofSnapshot() []string {
	list := []string{"env", "env-file", "memory", "workdir", "user", "ulimit"}
	for _, f := range goBuildFlags {
		list = append(list, f.name)
	}
	return list
}

// A frozen is a snapshot and the image that it was made of.
type frozen struct {
	path  string
	meta  snapshot.Meta
	image *image.Image
}

// open reads what name says of itself, and has ports published as it says if the command
// line does not, and leaves the pVM a network. Its content is checked by the monitor.
func (f *restoreFlags) open(cmd *cobra.Command, name string) (*frozen, error) {
	for _, flag := range ofSnapshot() {
		if cmd.Flags().Changed(flag) {
			return nil, &exitCode{exitError, fmt.Errorf("--%s cannot be said again: arguments, environment, user, limits and image of what is restored are those of the snapshot", flag)}
		}
	}
	path, err := filepath.Abs(name)
	if err != nil {
		return nil, err
	}
	file, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0) // a FIFO is refused, not waited for
	if err != nil {
		return nil, err
	}
	t := &frozen{path: path}
	t.meta, err = snapshot.Read(file)
	file.Close()
	if err != nil {
		return nil, err
	}
	img := f.image
	if img == "" {
		img = t.meta.Image
	}
	// A detached monitor stands in another directory.
	if img, err = filepath.Abs(img); err != nil {
		return nil, err
	}
	if t.image, err = image.Open(img); err != nil {
		return nil, &exitCode{exitError, fmt.Errorf("%w\n%s needs the image that it was made of; say with --image where it is", err, name)}
	}
	build.Used(img)
	if t.meta.Memory != 0 { // for the entry
		f.memory = strconv.FormatUint(t.meta.Memory, 10)
	}
	if !cmd.Flags().Changed("publish") && f.net != "none" {
		f.publish = t.meta.Publish
	}
	return t, nil
}

func (t *frozen) target() *target { return &target{t.image, t.image.Path, t.meta.Arg0} }

// config is that of a pVM made of t.
func (f *restoreFlags) config(cmd *cobra.Command, t *frozen) (monitor.Config, error) {
	c, err := f.runFlags.config(t.meta.Arg0, t.meta.Args)
	if err != nil {
		return c, err
	}
	switch f.files {
	case "refuse":
	case "reopen":
		c.Reopen = monitor.ReopenAny
	case "close":
		c.Reopen = monitor.ReopenClose
	default:
		return c, fmt.Errorf("--files %q is not known (known: refuse, reopen, close)", f.files)
	}
	c.Image, c.ImageFile, c.Restore = t.image.Path, t.image.File, t.path
	c.Env, c.Dir, c.UID, c.GID, c.Memory = t.meta.Env, t.meta.Dir, t.meta.UID, t.meta.GID, t.meta.Memory
	if !cmd.Flags().Changed("fork") {
		c.Forks = t.meta.Forks
	}
	if c.Exec, err = f.images(cmd.Context()); err == nil && !cmd.Flags().Changed("exec") && t.meta.Family != nil {
		c.Exec = familyExecs(t.meta.Family)
	}
	return c, err
}

// familyExecs are the images of a family where they were.
func familyExecs(f *snapshot.Family) (list []monitor.Exec) {
	if f.ExecSelf {
		list = append(list, monitor.Exec{Name: monitor.ExecSelf})
	}
	for _, x := range f.Execs {
		list = append(list, monitor.Exec{Name: x.Name, Image: x.Image})
	}
	return list
}

func newRestore() *cobra.Command {
	var f restoreFlags
	cmd := &cobra.Command{
		Use:   "restore [flags] SNAPSHOT",
		Short: "Make a pVM of a snapshot",
		Long: `Restore makes a pVM that goes on where the snapshot was made: memory, goroutines and
timers are as they were, open connections are closed, listeners and UDP ports are made
again as -p says (by default as for the original; none with --net none). Arguments, environment and memory
limit are those of the original; where it may connect to is not in the file, and --net,
--allow-out and --channel say it anew. Any number of pVMs can be made of one file, which must
not change while they run. The image must be the same one.

Volumes of the original must be given with -v, as their directories are now. Files that
were open are opened again, if they have the size and the time of modification that
they had; --files says what to do with others: refuse them all, reopen what is there now,
or close those.`,
		Example: "  noyau restore web.snap\n  noyau restore -d --name web2 -p 8081:80 web.snap\n  noyau restore -v ./data:/data --files close db.snap",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return runCode(restore(cmd, &f, args[0]))
		},
	}
	f.add(cmd.Flags())
	cmd.RegisterFlagCompletionFunc("files", cobra.FixedCompletions([]string{"refuse", "reopen", "close"}, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

func restore(cmd *cobra.Command, f *restoreFlags, name string) error {
	t, err := f.open(cmd, name)
	if err != nil {
		return err
	}
	defer t.image.Close()
	if f.detach {
		defer untilInterrupted(cmd)()
	}
	l, err := register(&f.runFlags, t.target(), t.meta.Args)
	if err != nil {
		return &exitCode{exitError, err}
	}
	c, err := f.config(cmd, t)
	if err == nil {
		if f.detach {
			err = detach(cmd.Context(), l, c)
		} else {
			err = foreground(l, c)
		}
	}
	if err != nil {
		l.discard()
	}
	return err
}
