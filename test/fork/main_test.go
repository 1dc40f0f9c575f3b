package fork

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
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
	if isolation() != "process" {
		if err := runner(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	code := m.Run()
	if vm.RunnerPath != "" {
		os.RemoveAll(filepath.Dir(vm.RunnerPath))
	}
	os.Exit(code)
}

// runner builds the static program that runs virtual machines.
var runner = sync.OnceValue(func() error {
	dir, err := os.MkdirTemp("", "noyau-fork-")
	if err != nil {
		return err
	}
	vm.RunnerPath = filepath.Join(dir, vm.RunnerName)
	cmd := exec.Command("go", "build", "-o", vm.RunnerPath, "noyau.dev/host/vm/noyau-vm")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("the runner: %w: %s", err, out)
	}
	return nil
})
