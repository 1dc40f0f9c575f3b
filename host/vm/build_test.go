package vm

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

// TestBuildRunner builds the runner as a dynamic noyau does, and finds it again.
func TestBuildRunner(t *testing.T) {
	cache, err := exec.Command("go", "env", "GOCACHE").Output()
	if err != nil {
		t.Skipf("no go command: %v", err)
	}
	t.Setenv("GOCACHE", strings.TrimSpace(string(cache)))
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	// As in a test run of noyau, whose toolchain is not for the runner.
	t.Setenv("GOROOT", t.TempDir())
	t.Setenv("GOTOOLCHAIN", "local")
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	p, err := inspectSelf(self)
	if err != nil {
		t.Fatal(err)
	}
	to, err := p.builtRunner()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(to); err == nil {
		t.Fatalf("%s is there already", to)
	}
	if err := p.buildRunner(); err != nil {
		t.Fatal(err)
	}
	r, err := inspectSelf(to)
	if err != nil || !r.static {
		t.Errorf("%s: static %v, %v; want a static program", to, r != nil && r.static, err)
	}
	if at, err := new(program).builtRunner(); err == nil {
		t.Errorf("a program without a build id has a runner at %s", at)
	}
}

// TestRunnerIsStatic holds that go install makes a static runner even where there is a
// C compiler: nothing in it uses cgo.
func TestRunnerIsStatic(t *testing.T) {
	cmd := exec.Command("go", "list", "-deps", "-f", "{{if .CgoFiles}}{{.ImportPath}}{{end}}", "./noyau-vm")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=1")
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	if s := strings.Fields(string(out)); len(s) > 0 {
		t.Errorf("these packages of the runner use cgo: %v", s)
	}
}
