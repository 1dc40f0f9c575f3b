package vm

import (
	"debug/elf"
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

// openRunner opens the program that runs virtual machines: noyau-vm beside this
// program, or this program itself if it is static. The runner's process sees no
// file system, so that a dynamic linker would not be found.
func openRunner() (*os.File, error) {
	path, err := findRunner()
	if err != nil {
		return nil, err
	}
	return os.Open(path)
}

var findRunner = sync.OnceValues(func() (string, error) {
	if RunnerPath != "" {
		return RunnerPath, nil
	}
	self, err := os.Executable()
	if err != nil {
		return "", fmt.Errorf("this program's own file: %w", err)
	}
	beside := filepath.Join(filepath.Dir(self), RunnerName)
	if _, err := os.Stat(beside); err == nil {
		return beside, nil
	}
	static, err := isStatic(self)
	if err != nil {
		return "", err
	}
	if !static {
		return "", errors.New("virtual machines need a static runner: build noyau with CGO_ENABLED=0, or put " + beside + " there (go build noyau.dev/host/vm/noyau-vm)")
	}
	return self, nil
})

func isStatic(path string) (bool, error) {
	f, err := elf.Open(path)
	if err != nil {
		return false, err
	}
	defer f.Close()
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			return false, nil
		}
	}
	return true, nil
}
