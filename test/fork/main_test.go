package fork

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"noyau.dev/host/vm"
)

// isolation is what NOYAU_ISOLATION says, process without it:
//
//	NOYAU_ISOLATION=vm go test ./test/fork
func isolation() string {
	if v := os.Getenv("NOYAU_ISOLATION"); v != "" {
		return v
	}
	return "process"
}

func TestMain(m *testing.M) {
	dir := ""
	if isolation() != "process" {
		var err error
		if dir, err = runner(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	code := m.Run()
	if dir != "" {
		os.RemoveAll(dir)
	}
	os.Exit(code)
}

// runner builds the static program that runs virtual machines.
func runner() (dir string, err error) {
	if dir, err = os.MkdirTemp("", "noyau-fork-"); err != nil {
		return "", err
	}
	vm.RunnerPath = filepath.Join(dir, vm.RunnerName)
	cmd := exec.Command("go", "build", "-o", vm.RunnerPath, "noyau.dev/host/vm/noyau-vm")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		os.RemoveAll(dir)
		return "", fmt.Errorf("the runner: %w: %s", err, out)
	}
	return dir, nil
}
