package build

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
)

// GoTest returns the command `go test args…`, run by the stock go command of dir
// against the shadow GOROOT, with test binaries started by execCmd: a command line
// to which go appends the binary and its arguments.
func GoTest(ctx context.Context, dir string, env, args []string, execCmd string) (*exec.Cmd, error) {
	tc, err := findToolchain(ctx, dir, env)
	if err != nil {
		return nil, err
	}
	shadow, err := tc.shadow()
	if err != nil {
		return nil, err
	}
	// What follows -args is for the test binaries.
	own, rest := args, []string(nil)
	for i, a := range args {
		if a == "-args" || a == "--args" {
			own, rest = args[:i], args[i:]
			break
		}
	}
	flags, err := goFlags(own, tc.flags)
	if err != nil {
		return nil, err
	}
	n := len(flags) - 1 // the tags come last: put them first, before packages
	argv := append([]string{"test", flags[n], "-exec=" + execCmd}, flags[:n]...)
	cmd := exec.CommandContext(ctx, filepath.Join(tc.goroot, "bin", "go"), append(argv, rest...)...)
	cmd.Dir = dir
	cmd.Env = append(tc.environ(env, shadow), "NOYAU_GOROOT="+tc.goroot)
	return cmd, nil
}

// FromBinary makes a binary that the go command linked against the shadow GOROOT an
// image at img.
func FromBinary(bin, img string) error {
	if _, err := os.Stat(bin); err != nil {
		return err
	}
	_, err := finish(bin, img, Options{Package: bin, Test: true})
	return err
}

// ModuleRoot returns the directory of the go.mod that dir belongs to.
func ModuleRoot(dir string) (string, error) {
	for d := dir; ; d = filepath.Dir(d) {
		if _, err := os.Stat(filepath.Join(d, "go.mod")); err == nil {
			return d, nil
		}
		if d == filepath.Dir(d) {
			return "", errors.New(dir + " is in no Go module")
		}
	}
}
