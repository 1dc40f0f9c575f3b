package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/docker/go-units"
	"github.com/spf13/cobra"

	"noyau.dev/host/image"
	"noyau.dev/host/monitor"
	"noyau.dev/host/state"
)

// inspected is what noyau inspect prints of a pVM.
type inspected struct {
	state.Meta
	Status state.Status  `json:"status"`
	Info   *monitor.Info `json:"info,omitempty"` // while it runs
	Log    string        `json:"log,omitempty"`
}

func newInspect() *cobra.Command {
	cmd := &cobra.Command{
		Use:               "inspect PVM...",
		Short:             "Print all that is known about pVMs, or about an image",
		Long:              "Inspect prints what pVMs were started as, what became of them, and which\nprotections are in force for those that run, as JSON.",
		Example:           "  noyau inspect web\n  noyau inspect image server.img",
		Args:              somePVMs,
		ValidArgsFunction: pvmNames(anyPVM),
		RunE: func(_ *cobra.Command, args []string) error {
			d, err := state.Open()
			if err != nil {
				return err
			}
			all := []inspected{}
			var errs []error
			for _, ref := range args {
				e, err := d.Find(ref)
				if err != nil {
					errs = append(errs, err)
					continue
				}
				x := inspected{Meta: e.Meta, Status: e.Status}
				if e.Meta.Detached {
					x.Log = e.Path("log")
				}
				if e.Status.Phase == state.Running {
					info := new(monitor.Info)
					if err := e.Control().Info(context.Background(), info); err == nil {
						x.Info = info
					} else if !errors.Is(err, state.ErrGone) {
						errs = append(errs, err)
					}
				}
				all = append(all, x)
			}
			if err := printJSON(all); err != nil {
				return err
			}
			return errors.Join(errs...)
		},
	}
	cmd.AddCommand(newInspectImage())
	return cmd
}

func newInspectImage() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "image IMAGE",
		Short:   "Print an image's manifest",
		Example: "  noyau inspect image server.img\n  noyau inspect image --json server.img",
		Args:    cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			img, err := image.Inspect(args[0])
			if err != nil {
				return err
			}
			defer img.Close()
			if asJSON {
				return printJSON(struct {
					image.Manifest
					ELF image.Facts `json:"elf"`
				}{img.Manifest, img.ELF})
			}
			return printImage(os.Stdout, img)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func printImage(out io.Writer, img *image.Image) error {
	m := img.Manifest
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	row := func(k, format string, args ...any) { fmt.Fprintf(w, "%s:\t%s\n", k, fmt.Sprintf(format, args...)) }
	row("Package", "%s", m.Path)
	if m.Module.Path != "" {
		row("Module", "%s %s", m.Module.Path, m.Module.Version)
	}
	row("Go", "%s", m.Go)
	row("Host ABI", "%d", m.ABI)
	if m.Noyau != "" {
		row("Built by", "noyau %s", m.Noyau)
	}
	row("Bricks", "%s", strings.Join(m.Bricks, " "))
	var keys []string
	for k := range m.Settings {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	for i, k := range keys {
		label := ""
		if i == 0 {
			label = "Settings:"
		}
		fmt.Fprintf(w, "%s\t%s=%s\n", label, k, m.Settings[k])
	}
	if err := w.Flush(); err != nil {
		return err
	}
	return printSizes(out, m.Sizes)
}

func printSizes(out io.Writer, s image.Sizes) error {
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', tabwriter.AlignRight)
	table := func(title string, total int64, rows ...any) {
		fmt.Fprintf(w, "\n%s\n", title)
		for i := 0; i < len(rows); i += 2 {
			n := rows[i+1].(int64)
			fmt.Fprintf(w, "%s\t%s\t%.1f %%\t\n", rows[i], units.BytesSize(float64(n)), 100*float64(n)/float64(max(total, 1)))
		}
		w.Flush()
	}
	table(fmt.Sprintf("Size of the file: %s", units.BytesSize(float64(s.File))), s.File,
		"text", s.Text, "rodata", s.Rodata, "data", s.Data, "pclntab", s.Pclntab, "symbols", s.Symbols)
	sp := s.Split
	what := "code and data"
	if sp.Of == "text" {
		what = "code"
	}
	total := sp.App + sp.Modules + sp.LibOS + sp.Runtime + sp.Std + sp.Other
	table(fmt.Sprintf("Whose %s: %s", what, units.BytesSize(float64(total))), total,
		"app", sp.App, "modules", sp.Modules, "libOS", sp.LibOS, "runtime", sp.Runtime, "std", sp.Std, "other", sp.Other)
	return nil
}
