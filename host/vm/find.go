package vm

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
)

// RunnerName is the name of the runner as a program of its own.
const RunnerName = "noyau-vm"

// RunnerPath, if set before the first start, is where the runner is.
var RunnerPath string

// openRunner opens the program that runs virtual machines. Its process sees no
// file system, so that a dynamic linker would not be found: it must be static. In
// this order: noyau-vm beside this program; this program, if it is static; one
// that Prepare has built.
func openRunner() (*os.File, error) {
	path, err := findRunner()
	if err != nil {
		return nil, err
	}
	return os.Open(path)
}

var found struct {
	sync.Mutex
	path string
}

func findRunner() (string, error) {
	if RunnerPath != "" {
		return RunnerPath, nil
	}
	found.Lock()
	defer found.Unlock()
	if found.path != "" {
		return found.path, nil
	}
	self, err := os.Executable()
	if err != nil {
		return "", fmt.Errorf("this program's own file: %w", err)
	}
	beside := filepath.Join(filepath.Dir(self), RunnerName)
	if _, err := os.Stat(beside); err == nil {
		found.path = beside
		return beside, nil
	}
	info, err := inspectSelf(self)
	if err != nil {
		return "", err
	}
	if info.static {
		found.path = self
		return self, nil
	}
	if built, err := info.builtRunner(); err == nil {
		if _, err := os.Stat(built); err == nil {
			found.path = built
			return built, nil
		}
	}
	return "", fmt.Errorf("virtual machines need a static runner, and %s is dynamic: name isolation vm once to have one built, build noyau with CGO_ENABLED=0, or put %s there (go install noyau.dev/host/vm/noyau-vm)", self, beside)
}

// Prepare is called when a user asks for virtual machines by name: it builds the
// runner if there is none, which takes the go command and a few seconds once for
// each build of this program. Isolation auto never waits for that.
func (backend) Prepare() error {
	if _, err := findRunner(); err == nil {
		return nil
	}
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("this program's own file: %w", err)
	}
	info, err := inspectSelf(self)
	if err != nil {
		return err
	}
	if err := info.buildRunner(); err != nil {
		_, missing := findRunner()
		return errors.Join(missing, err)
	}
	return nil
}
