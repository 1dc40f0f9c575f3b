// Package build makes images: `noyau build`. It compiles an unmodified main package
// with the stock Go toolchain, against a shadow GOROOT in which the runtime has
// one thread and package syscall ends in the library OS.
package build

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// Options say what to build.
type Options struct {
	Package string    // directory, import path, files, or path@version
	Output  string    // the image's path; "" means the package's name in Dir
	GoFlags []string  // passed to go build: -tags, -ldflags, -mod …
	Dir     string    // where the go command runs; "" means the current directory
	Env     []string  // environment of the go command; nil means os.Environ
	Stdout  io.Writer // output of the go command; nil means none
	Stderr  io.Writer // likewise: compile errors as go prints them
	Test    bool      // build the test binary of Package (go test -c)
}

// toolchain is the Go installation that the go command chooses in a directory.
type toolchain struct {
	goroot, version string
	flags           string // GOFLAGS
	modcache        string
}

func findToolchain(ctx context.Context, dir string, env []string) (*toolchain, error) {
	cmd := exec.CommandContext(ctx, "go", "env", "GOROOT", "GOVERSION", "GOFLAGS", "GOMODCACHE", "GOARCH", "GOOS")
	cmd.Dir, cmd.Env = dir, env
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if errors.Is(err, exec.ErrNotFound) {
		return nil, fmt.Errorf("the go command was not found: install Go (supported: %s) and put it in PATH", strings.Join(Releases(), ", "))
	}
	if err != nil {
		return nil, fmt.Errorf("go env: %w: %s", err, bytes.TrimSpace(stderr.Bytes()))
	}
	f := strings.Split(string(out), "\n")
	if len(f) < 6 {
		return nil, fmt.Errorf("go env printed %q", out)
	}
	if f[4] != "amd64" || f[5] != "linux" {
		return nil, fmt.Errorf("images are for linux/amd64, but GOOS and GOARCH say %s/%s; unset them", f[5], f[4])
	}
	version, _, _ := strings.Cut(f[1], " ")
	version, _, _ = strings.Cut(version, "-")
	return &toolchain{goroot: f[0], version: version, flags: f[2], modcache: f[3]}, nil
}

// CacheDir is where shadow GOROOTs and built images are kept.
func CacheDir() (string, error) {
	dir, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("no cache directory: %w; set XDG_CACHE_HOME or HOME", err)
	}
	return filepath.Join(dir, "noyau"), nil
}

// makeCache makes a directory of the cache.
func makeCache(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("no place for what is built: %w; set XDG_CACHE_HOME to a directory that can be written", err)
	}
	return nil
}

// Shadow returns the shadow GOROOT for the Go toolchain of dir, making it if need be,
// and the toolchain's version.
func Shadow(ctx context.Context, dir string, env []string) (root, version string, err error) {
	tc, err := findToolchain(ctx, dir, env)
	if err != nil {
		return "", "", err
	}
	root, err = tc.shadow()
	return root, tc.version, err
}

func (tc *toolchain) shadow() (string, error) {
	ps, err := loadPatches(tc.version)
	if err != nil {
		return "", err
	}
	cache, err := CacheDir()
	if err != nil {
		return "", err
	}
	return shadowRoot(cache, tc.goroot, tc.version, ps)
}

// environ is the environment for the go command on the shadow GOROOT.
func (tc *toolchain) environ(env []string, shadow string) []string {
	if env == nil {
		env = os.Environ()
	}
	env = slices.DeleteFunc(slices.Clone(env), func(kv string) bool {
		return strings.HasPrefix(kv, "GOROOT=") || strings.HasPrefix(kv, "GOTOOLCHAIN=") || strings.HasPrefix(kv, "CGO_ENABLED=")
	})
	return append(env, "GOROOT="+shadow, "GOTOOLCHAIN=local", "CGO_ENABLED=0")
}

// goFlags adds our build tag to the user's flags.
func goFlags(flags []string, goflags string) ([]string, error) {
	tags := "noyau"
	var out []string
	// Without a pattern -ldflags is for the program; the last that fits wins, so ours
	// goes into each of the user's.
	link := []string{linkFlags("")}
	for _, f := range splitQuoted(goflags) {
		if t, ok := flagValue(f, "tags"); ok {
			tags = "noyau," + t
		}
		if v, ok := flagValue(f, "ldflags"); ok {
			link = append(link, linkFlags(v))
		}
	}
	for i := 0; i < len(flags); i++ {
		f := flags[i]
		switch name := strings.TrimLeft(f, "-"); {
		case name == "race" || name == "msan" || name == "asan":
			return nil, fmt.Errorf("-%s is not supported: it needs cgo and threads, which images do not have", name)
		case name == "buildmode=exe" || name == "buildmode=default":
		case strings.HasPrefix(name, "buildmode"):
			return nil, fmt.Errorf("-buildmode is not supported: an image is always a static executable")
		case name == "tags" && i+1 < len(flags):
			tags = "noyau," + flags[i+1]
			i++
		case name == "ldflags" && i+1 < len(flags):
			link = append(link, linkFlags(flags[i+1]))
			i++
		default:
			if t, ok := flagValue(f, "tags"); ok {
				tags = "noyau," + t
				continue
			}
			if v, ok := flagValue(f, "ldflags"); ok {
				link = append(link, linkFlags(v))
				continue
			}
			out = append(out, f)
		}
	}
	// The standard library, which ours is part of, goes without debug information: no
	// debugger reaches into a pVM, and it would be a fifth of a small image. Stack traces
	// do not need it. The user's own -gcflags come later and win.
	out = append(append([]string{"-gcflags=std=-dwarf=false"}, link...), out...)
	return append(out, "-tags="+strings.ReplaceAll(tags, " ", ",")), nil
}
