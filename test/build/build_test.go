// Package build drives `noyau build` and `noyau run` on small modules: all that
// works with go build works here, and what cannot work is said clearly.
package build

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"golang.org/x/tools/txtar"
)

// noyau is the path of the command, built once.
var noyau = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "noyau-build-test-")
	if err != nil {
		return "", err
	}
	bin := filepath.Join(dir, "noyau")
	out, err := exec.Command("go", "build", "-o", bin, "noyau.dev/cmd/noyau").CombinedOutput()
	if err != nil {
		return "", errors.New(string(out))
	}
	return bin, nil
})

func TestMain(m *testing.M) {
	code := m.Run()
	if bin, err := noyau(); err == nil {
		os.RemoveAll(filepath.Dir(bin))
	}
	os.Exit(code)
}

// run executes noyau in dir and returns its exit code and output.
func run(t *testing.T, dir string, env []string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	bin, err := noyau()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(bin, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), append([]string{"GOFLAGS=-mod=mod", "GOWORK="}, env...)...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err = cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), out.String(), errs.String()
}

// unpack writes a txtar archive of testdata to a new directory.
func unpack(t *testing.T, name string) string {
	t.Helper()
	ar, err := txtar.ParseFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for _, f := range ar.Files {
		p := filepath.Join(dir, f.Name)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, f.Data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func slow(t *testing.T) {
	if testing.Short() {
		t.Skip("builds images: not with -short")
	}
}

// TestRun runs programs that use what the go command offers.
func TestRun(t *testing.T) {
	slow(t)
	for _, c := range []struct {
		name    string
		archive string
		dir     string // below the archive
		env     []string
		args    []string
		want    string // standard output
		code    int
	}{
		{name: "module with embed, tags and ldflags", archive: "features.txtar",
			args: []string{"run", "-tags", "extra", "-ldflags", "-X main.version=1.2.3 -s -w", ".", "a", "b"},
			want: "embedded: hi\nversion: 1.2.3\ntag: extra\nargs: a b\n"},
		{name: "without the tag", archive: "features.txtar", args: []string{"run", "."},
			want: "embedded: hi\nversion: dev\ntag: none\nargs: \n"},
		{name: "vendored module", archive: "vendor.txtar", env: []string{"GOFLAGS=-mod=vendor"}, args: []string{"run", "."},
			want: "from the vendored module\n"},
		{name: "replaced module", archive: "replace.txtar", dir: "app", args: []string{"run", "."},
			want: "from the replaced module\n"},
		{name: "workspace", archive: "workspace.txtar", dir: "app", env: []string{"GOFLAGS=", "GOWORK="}, args: []string{"run", "."},
			want: "from the workspace\n"},
		{name: "package of the module by its path", archive: "features.txtar", args: []string{"run", "features.example/cmd/tool"},
			want: "a tool\n", code: 3},
		{name: "a Go file", archive: "features.txtar", args: []string{"run", "single/one.go"}, want: "one file\n"},
		{name: "system calls of x/sys in assembly", archive: "xsys.txtar", args: []string{"run", "."},
			want: "pid 1\nuid 0\nsocket ok\n"},
		// Frames are larger then, and the way to the library OS must fit in what a stack has left.
		{name: "not optimized", archive: "xsys.txtar", args: []string{"run", "-gcflags", "all=-N -l", "."},
			want: "pid 1\nuid 0\nsocket ok\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := filepath.Join(unpack(t, c.archive), c.dir)
			code, stdout, stderr := run(t, dir, c.env, c.args...)
			if code != c.code || stdout != c.want {
				t.Errorf("exit code %d, want %d\nstdout %q\n  want %q\nstderr %s", code, c.code, stdout, c.want, stderr)
			}
		})
	}
}

// TestErrors wants a sentence that says what to do for what cannot be built.
func TestErrors(t *testing.T) {
	slow(t)
	for _, c := range []struct {
		name string
		pkg  string
		env  []string
		args []string
		want []string // parts of standard error
	}{
		{name: "compile error as go prints it", pkg: "./broken", want: []string{"broken/main.go:3:15: undefined: nothing"}},
		{name: "not a main package", pkg: "./lib", want: []string{"is not a main package"}},
		{name: "cgo", pkg: "./needscgo", want: []string{"cgo"}},
		{name: "race", pkg: "./ok", args: []string{"-race"}, want: []string{"-race is not supported"}},
		{name: "another platform", pkg: "./ok", env: []string{"GOOS=windows"}, want: []string{"linux/amd64", "GOOS"}},
		{name: "stray system call", pkg: "./stray", want: []string{"SYSCALL in main.raw", "purego"}},
		{name: "no such package", pkg: "./absent", want: []string{"absent"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := unpack(t, "errors.txtar")
			out := filepath.Join(dir, "out.img")
			args := append(append([]string{"build", "-o", out}, c.args...), c.pkg)
			code, _, stderr := run(t, dir, c.env, args...)
			if code == 0 {
				t.Errorf("exit code 0, want an error")
			}
			for _, w := range c.want {
				if !strings.Contains(stderr, w) {
					t.Errorf("standard error has no %q:\n%s", w, stderr)
				}
			}
			if _, err := os.Stat(out); err == nil {
				t.Errorf("a file was left at the image's place")
			}
		})
	}
}

// TestUnchanged builds twice: the second time nothing is linked, and the image is
// the same to the byte.
func TestUnchanged(t *testing.T) {
	slow(t)
	dir := unpack(t, "features.txtar")
	var images [2][]byte
	for i := range images {
		if code, _, stderr := run(t, dir, nil, "build", "-o", "x.img", "."); code != 0 {
			t.Fatal(stderr)
		}
		data, err := os.ReadFile(filepath.Join(dir, "x.img"))
		if err != nil {
			t.Fatal(err)
		}
		images[i] = data
	}
	if !bytes.Equal(images[0], images[1]) {
		t.Error("two builds of the same source differ")
	}
}
