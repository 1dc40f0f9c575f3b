package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"noyau.dev/host/build"
	"noyau.dev/host/monitor"
	"noyau.dev/host/policy"
)

// isolationEnv tells test binaries which isolation `noyau test` was asked for.
const isolationEnv = "NOYAU_TEST_ISOLATION"

func newTest() *cobra.Command {
	return &cobra.Command{
		Use:   "test [--isolation process|vm] [go test flags] [packages]",
		Short: "Run go test with test binaries as pVMs",
		Long: `Test is go test, with its flags and its output: packages are compiled and
linked by the stock go command, and each test binary runs as a pVM. It sees
its module (or the Go installation, for packages of the standard library) and
the go command's work directory at their own paths, has the environment of this
command, and may connect to anywhere.`,
		Example: `  noyau test ./...
  noyau test -short -run TestServe net/http
  noyau test --isolation vm -v ./store`,
		DisableFlagParsing: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			var own []string
			for i := 0; i < len(args); i++ {
				switch {
				case args[i] == "-h" || args[i] == "--help":
					return cmd.Help()
				case args[i] == "--isolation" && i+1 < len(args):
					os.Setenv(isolationEnv, args[i+1])
					i++
				case strings.HasPrefix(args[i], "--isolation="):
					os.Setenv(isolationEnv, strings.TrimPrefix(args[i], "--isolation="))
				default:
					own = append(own, args[i])
				}
			}
			self, err := os.Executable()
			if err != nil {
				return err
			}
			c, err := build.GoTest(cmd.Context(), "", nil, own, "'"+self+"' test-exec")
			if err != nil {
				return err
			}
			c.Stdin, c.Stdout, c.Stderr = os.Stdin, os.Stdout, os.Stderr
			return childCode(c.Run())
		},
	}
}

// childCode passes on the exit code of a command that printed its own errors.
func childCode(err error) error {
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return &exitCode{exit.ExitCode(), nil}
	}
	return err
}

// newTestExec is what go test runs in place of a test binary.
func newTestExec() *cobra.Command {
	return &cobra.Command{
		Use:                "test-exec BINARY [args...]",
		Hidden:             true,
		DisableFlagParsing: true,
		Args:               cobra.MinimumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			c, done, err := testConfig(args)
			if err != nil {
				return &exitCode{exitError, err}
			}
			defer done()
			signals := make(chan os.Signal, 16)
			signal.Notify(signals, unix.SIGINT, unix.SIGTERM, unix.SIGHUP, unix.SIGQUIT)
			s, err := startSession(c, nil)
			if err != nil {
				return startError(err)
			}
			go forward(signals, s.inst)
			exit, err := s.wait()
			if err != nil {
				return err
			}
			return ended(exit)
		},
	}
}

// testConfig is the pVM of a test binary: it sees the directories that go test
// lets a test rely on, at their own paths.
func testConfig(args []string) (c monitor.Config, done func(), err error) {
	bin, err := filepath.Abs(args[0])
	if err != nil {
		return c, nil, err
	}
	dir, err := os.Getwd()
	if err != nil {
		return c, nil, err
	}
	// A package of the standard library lies behind a link of the shadow GOROOT.
	if dir, err = filepath.EvalSymlinks(dir); err != nil {
		return c, nil, err
	}
	img := bin + ".image"
	if err := build.FromBinary(bin, img); err != nil {
		return c, nil, fmt.Errorf("make an image of %s: %w", filepath.Base(bin), err)
	}
	var env []string
	for _, kv := range os.Environ() {
		if !strings.HasPrefix(kv, "NOYAU_") && !strings.HasPrefix(kv, "GOROOT=") && !strings.HasPrefix(kv, "PWD=") {
			env = append(env, kv)
		}
	}
	goroot := os.Getenv("NOYAU_GOROOT")
	env = append(env, "GOROOT="+goroot, "PWD="+dir)
	seen := map[string]bool{}
	mount := func(path string, ro bool) {
		if path != "" && !seen[path] {
			seen[path] = true
			c.Volumes = append(c.Volumes, monitor.Volume{Host: path, Guest: path, ReadOnly: ro})
		}
	}
	beneath := func(root string) bool { return root != "" && strings.HasPrefix(dir, root+"/") }
	if shadow := os.Getenv("GOROOT"); beneath(shadow) {
		mount(shadow, true)
	} else if beneath(goroot) {
		mount(goroot, true)
	} else if root, err := build.ModuleRoot(dir); err == nil {
		mount(root, false)
	} else {
		mount(dir, false)
	}
	mount(goroot, true)
	mount(filepath.Dir(bin), false)
	c.ImageFile, err = os.Open(img)
	if err != nil {
		return c, nil, err
	}
	c.Image, c.Name, c.Arg0 = img, filepath.Base(bin), bin
	c.Args, c.Env, c.Dir = args[1:], env, dir
	c.Stdin, c.Stdout, c.Stderr = os.Stdin, os.Stdout, os.Stderr
	c.Net = policy.Net{}
	c.Exec = []monitor.Exec{{Name: monitor.ExecSelf}} // many tests run themselves again
	c.Isolation = os.Getenv(isolationEnv)
	return c, func() { c.ImageFile.Close(); os.Remove(img) }, nil
}
