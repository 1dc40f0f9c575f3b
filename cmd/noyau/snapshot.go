package main

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"noyau.dev/host/image"
	"noyau.dev/host/snapshot"
	"noyau.dev/host/state"
)

func newSnapshot() *cobra.Command {
	var out string
	var q state.SnapshotRequest
	cmd := &cobra.Command{
		Use:   "snapshot [flags] PVM",
		Short: "Write a running pVM to a file",
		Long: `Snapshot writes a pVM as it is now to a file, and lets it go on. Restore makes pVMs
of the file. The pVM must have been started with --fork N, or use package pvm. A file
holds one pVM: with forks it is refused, or made of the first alone (--alone).`,
		Example:           "  noyau snapshot web -o web.snap\n  noyau restore -d -p 8081:80 web.snap",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: pvmNames((*state.Entry).Alive),
		RunE: func(cmd *cobra.Command, args []string) error {
			e, err := findRunning(args[0])
			if err != nil {
				return err
			}
			if out == "" {
				out = e.Meta.Name + ".snap"
			}
			q.Path, err = filepath.Abs(out)
			if err != nil {
				return err
			}
			if err := e.Control().Snapshot(cmd.Context(), q); err != nil {
				return err
			}
			fmt.Println(out)
			return nil
		},
	}
	cmd.Flags().StringVarP(&out, "output", "o", "", "`file` to write; NAME.snap by default")
	cmd.Flags().BoolVar(&q.Compress, "compress", false, "compress it by zstd: smaller, and slower to restore")
	cmd.Flags().BoolVar(&q.Alone, "alone", false, "leave out the forks that the pVM has")
	return cmd
}

func newRestore() *cobra.Command {
	var f runFlags
	var img string
	cmd := &cobra.Command{
		Use:   "restore [flags] SNAPSHOT",
		Short: "Make a pVM of a snapshot",
		Long: `Restore makes a pVM that goes on where the snapshot was made: memory, goroutines and
timers are as they were, open connections are closed, listeners are made again on the
ports of -p (by default those of the original). Arguments, environment and memory limit
are those of the original. Any number of pVMs can be made of one file, which must not
change while they run. The image must be the same one.`,
		Example: "  noyau restore web.snap\n  noyau restore -d --name web2 -p 8081:80 web.snap",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return runCode(restore(cmd, &f, args[0], img))
		},
	}
	f.add(cmd.Flags())
	cmd.Flags().StringVar(&img, "image", "", "the `image`, if it is not where it was")
	return cmd
}

func restore(cmd *cobra.Command, f *runFlags, name, img string) error {
	path, err := filepath.Abs(name)
	if err != nil {
		return err
	}
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	m, err := snapshot.Read(file)
	file.Close()
	if err != nil {
		return &exitCode{exitNoExec, err}
	}
	if img == "" {
		img = m.Image
	}
	if !cmd.Flags().Changed("publish") {
		f.publish = m.Publish
	}
	i, err := image.Open(img)
	if err != nil {
		return &exitCode{exitError, fmt.Errorf("%w\n%s needs the image that it was made of; say with --image where it is", err, name)}
	}
	defer i.Close()
	t := &target{i, img, m.Arg0}
	dir, entry, err := register(f, t, m.Args)
	if err != nil {
		return &exitCode{exitError, err}
	}
	if entry != nil && f.name == "" {
		f.name = entry.Meta.Name
	}
	c, err := f.config(t.base, m.Args)
	if err == nil {
		c.Image, c.ImageFile, c.Restore = i.Path, i.File, path
		c.Env, c.Dir, c.UID, c.GID, c.Memory = m.Env, m.Dir, m.UID, m.GID, m.Memory
		if !cmd.Flags().Changed("fork") {
			c.Forks = m.Forks
		}
		if f.detach {
			err = detach(dir, entry, c)
		} else {
			err = foreground(dir, entry, c)
		}
	}
	if err != nil && entry != nil {
		dir.Discard(entry)
	}
	return err
}
