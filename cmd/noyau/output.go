package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"text/template"

	"github.com/spf13/cobra"
)

// A format is how a command prints its rows: a table, JSON (one object a line)
// or a Go template for each row.
type format struct {
	spec string
	tmpl *template.Template
}

func addFormat(cmd *cobra.Command, f *string) {
	cmd.Flags().StringVar(f, "format", "table", "table, json, or a Go `template` for each line, as '{{.Name}}'")
	cmd.RegisterFlagCompletionFunc("format", cobra.FixedCompletions([]string{"table", "json"}, cobra.ShellCompDirectiveNoFileComp))
}

func parseFormat(spec string) (*format, error) {
	f := &format{spec: spec}
	switch {
	case spec == "table", spec == "json":
	case strings.Contains(spec, "{{"):
		t, err := template.New("format").Option("missingkey=error").Parse(spec)
		if err != nil {
			return nil, &exitCode{exitError, fmt.Errorf("--format: %w", err)}
		}
		f.tmpl = t
	default:
		return nil, &exitCode{exitError, fmt.Errorf("--format %q is not known; want table, json or a Go template such as '{{.Name}}'", spec)}
	}
	return f, nil
}

// printRows prints rows. For a table, header and cells say what goes where.
func printRows[T any](w io.Writer, f *format, rows []T, header []string, cells func(T) []string) error {
	switch {
	case f.tmpl != nil:
		for _, r := range rows {
			if err := f.tmpl.Execute(w, r); err != nil {
				return fmt.Errorf("--format: %w", err)
			}
			fmt.Fprintln(w)
		}
	case f.spec == "json":
		enc := json.NewEncoder(w)
		enc.SetEscapeHTML(false)
		for _, r := range rows {
			if err := enc.Encode(r); err != nil {
				return err
			}
		}
	default:
		tw := tabwriter.NewWriter(w, 0, 8, 3, ' ', 0)
		fmt.Fprintln(tw, strings.Join(header, "\t"))
		for _, r := range rows {
			fmt.Fprintln(tw, strings.Join(cells(r), "\t"))
		}
		return tw.Flush()
	}
	return nil
}

// printJSON prints one value for people and programs alike.
func printJSON(v any) error {
	enc := json.NewEncoder(os.Stdout)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}
