package main

import (
	"fmt"
	"runtime/debug"
	"strings"

	"github.com/spf13/cobra"

	"noyau.dev/abi"
	"noyau.dev/host/build"
)

// versionInfo is what noyau version prints.
type versionInfo struct {
	Version  string   `json:"version"`
	Revision string   `json:"revision,omitempty"`
	ABI      int      `json:"abi"`
	Go       []string `json:"go"` // releases that images can be built with
	BuiltBy  string   `json:"built_by"`
}

func getVersion() versionInfo {
	v := versionInfo{Version: "(unknown)", ABI: abi.Version, Go: build.Releases()}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return v
	}
	v.Version, v.BuiltBy = info.Main.Version, info.GoVersion
	for _, s := range info.Settings {
		switch {
		case s.Key == "vcs.revision":
			v.Revision = s.Value[:min(12, len(s.Value))] + v.Revision
		case s.Key == "vcs.modified" && s.Value == "true":
			v.Revision += "+changes"
		}
	}
	return v
}

func newVersion() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "version",
		Short: "Print the version, the host ABI and the supported Go releases",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			v := getVersion()
			if asJSON {
				return printJSON(v)
			}
			fmt.Printf("noyau %s", v.Version)
			if v.Revision != "" {
				fmt.Printf(" (%s)", v.Revision)
			}
			fmt.Printf("\nhost ABI %d\nGo releases for images: %s\n", v.ABI, strings.Join(v.Go, ", "))
			return nil
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}
