package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/docker/go-units"
	"github.com/spf13/cobra"

	"noyau.dev/host/build"
)

func newBuild() *cobra.Command {
	var o build.Options
	var goFlags func() []string
	var verbose, commands bool
	cmd := &cobra.Command{
		Use:   "build [flags] [PACKAGE]",
		Short: "Build an image of a main package",
		Long: `Build compiles a main package with the stock Go toolchain and links it with the
library OS into an image.

PACKAGE is a directory, an import path of the current module, a Go file, or
path@version, a package that the go command fetches. The default is the current
directory. The flags of go build have the meaning that they have there and may
be written with one dash.`,
		Example: `  noyau build ./cmd/server                  makes server.img
  noyau build -o web -tags netgo ./cmd/server
  noyau build -ldflags "-s -w" -trimpath .
  noyau build example.org/tool@latest`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.Package = "."
			if len(args) == 1 {
				o.Package = args[0]
			}
			o.GoFlags = goFlags()
			if verbose {
				o.GoFlags = append(o.GoFlags, "-v")
			}
			if commands {
				o.GoFlags = append(o.GoFlags, "-x")
			}
			if o.Output == "" {
				o.Output = build.DefaultName(o.Package, o.Dir) + ".img"
			}
			res, err := buildImage(cmd.Context(), o)
			if code := new(exitCode); errors.As(err, &code) {
				code.code = 1 // as go build
			}
			if err != nil {
				return err
			}
			if verbose {
				fmt.Fprintf(os.Stderr, "noyau: %s (%s)\n", res.Path, units.BytesSize(float64(res.Manifest.Sizes.File)))
			}
			return nil
		},
	}
	fs := cmd.Flags()
	fs.SortFlags = false
	fs.StringVarP(&o.Output, "output", "o", "", "the image's `file`")
	fs.StringVarP(&o.Dir, "chdir", "C", "", "`directory` to build in")
	fs.BoolVarP(&verbose, "verbose", "v", false, "print the packages as they are compiled, and the image")
	fs.BoolVarP(&commands, "commands", "x", false, "print the commands of the go command")
	goFlags = addGoFlags(fs)
	return cmd
}
