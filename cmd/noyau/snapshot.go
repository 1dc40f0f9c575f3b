package main

import (
	"errors"
	"fmt"
	"path/filepath"

	"github.com/spf13/cobra"

	"noyau.dev/host/state"
)

func newSnapshot() *cobra.Command {
	var out string
	var q state.SnapshotRequest
	cmd := &cobra.Command{
		Use:   "snapshot [flags] PVM",
		Short: "Write a running pVM to a file",
		Long: `Snapshot writes a pVM as it is now to a file, and lets it go on. Restore makes pVMs
of the file. With forks, or programs that it has started, all of them stop at one moment
and are in the file; --alone leaves them out.`,
		Example:           "  noyau snapshot web -o web.snap\n  noyau restore -d -p 8081:80 web.snap",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: pvmNames((*state.Entry).Alive),
		RunE: func(cmd *cobra.Command, args []string) error {
			if out == "-" {
				return &exitCode{exitError, errors.New("a snapshot cannot go to standard output: it must be a file, which is mapped when it is restored (-o ./- is one of that name)")}
			}
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
	cmd.Flags().BoolVar(&q.Alone, "alone", false, "leave out the forks that the pVM has, and what connects it with them")
	return cmd
}
