package main

import (
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// goFlag is a flag of go build that build and run take too, with the meaning
// that it has there.
type goFlag struct {
	name, usage string
	isBool      bool
}

var goBuildFlags = []goFlag{
	{"tags", "build `tags`, comma-separated", false},
	{"ldflags", "`flags` for the linker", false},
	{"gcflags", "`flags` for the compiler", false},
	{"asmflags", "`flags` for the assembler", false},
	{"mod", "module download `mode`: readonly, vendor or mod", false},
	{"modfile", "another go.mod `file`", false},
	{"overlay", "overlay `file`", false},
	{"pgo", "profile `file` for profile-guided optimization", false},
	{"buildvcs", "stamp version control information: `when`, true, false or auto", false},
	{"trimpath", "remove file system paths from the image", true},
	{"race", "not supported: needs threads", true},
	{"msan", "not supported", true},
	{"asan", "not supported", true},
}

// addGoFlags adds the flags of go build. After parsing, the returned function
// gives those that were set, as the go command takes them.
func addGoFlags(fs *pflag.FlagSet) func() []string {
	for _, f := range goBuildFlags {
		if f.isBool {
			fs.Bool(f.name, false, f.usage)
		} else {
			fs.Var(list(new([]string)), f.name, f.usage)
		}
		if strings.HasPrefix(f.usage, "not supported") {
			fs.MarkHidden(f.name)
		}
		fs.SetAnnotation(f.name, "go", nil)
	}
	return func() []string {
		var out []string
		for _, f := range goBuildFlags {
			switch g := fs.Lookup(f.name); {
			case !g.Changed:
			case !f.isBool: // each, since the go command takes -gcflags for one package after the other
				for _, v := range *g.Value.(*stringList) {
					out = append(out, "-"+f.name+"="+v)
				}
			case g.Value.String() == "true":
				out = append(out, "-"+f.name)
			default:
				out = append(out, "-"+f.name+"=false")
			}
		}
		return out
	}
}

// goStyle lets users write go build's flags as they are used to, with one dash:
// -tags becomes --tags, before PACKAGE and only in commands that have it. Other
// arguments stay as they are.
func goStyle(root *cobra.Command, args []string) []string {
	cmd, rest, err := root.Find(args)
	if err != nil || cmd.Flags().Lookup("ldflags") == nil {
		return args
	}
	out := append([]string(nil), args[:len(args)-len(rest)]...)
	for i := 0; i < len(rest); i++ {
		a := rest[i]
		if a == "--" || len(a) < 2 || a[0] != '-' {
			return append(out, rest[i:]...)
		}
		name, _, hasValue := strings.Cut(strings.TrimLeft(a, "-"), "=")
		f := cmd.Flags().Lookup(name)
		if f != nil && a[1] != '-' {
			if _, ok := f.Annotations["go"]; ok && len(name) > 1 {
				a = "-" + a
			} else {
				f = nil
			}
		}
		if a[1] != '-' { // -p 80:80, -p80:80, -dp 80:80
			f, hasValue = shorthand(cmd.Flags(), a[1:])
		}
		out = append(out, a)
		if f != nil && f.NoOptDefVal == "" && !hasValue && i+1 < len(rest) {
			i++
			out = append(out, rest[i])
		}
	}
	return out
}

// shorthand finds the flag in a cluster of one-letter flags that takes a value,
// and whether the value is in the cluster.
func shorthand(fs *pflag.FlagSet, cluster string) (*pflag.Flag, bool) {
	for i := range len(cluster) {
		f := fs.ShorthandLookup(cluster[i : i+1])
		if f == nil || f.NoOptDefVal == "" {
			return f, i+1 < len(cluster)
		}
	}
	return nil, true
}
