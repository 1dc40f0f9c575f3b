package vm

import (
	"bytes"
	"crypto/sha256"
	"debug/elf"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
)

// A program is what the file of this program tells.
type program struct {
	static bool
	id     []byte // Go's build id
}

func inspectSelf(path string) (*program, error) {
	f, err := elf.Open(path)
	if err != nil {
		return nil, fmt.Errorf("this program's own file: %w", err)
	}
	defer f.Close()
	p := &program{static: true}
	for _, h := range f.Progs {
		if h.Type == elf.PT_INTERP {
			p.static = false
		}
	}
	if s := f.Section(".note.go.buildid"); s != nil {
		p.id, _ = s.Data()
	}
	return p, nil
}

// builtRunner is where the runner of this very build is kept.
func (p *program) builtRunner() (string, error) {
	if len(p.id) == 0 {
		return "", errors.New("this program has no Go build id")
	}
	dir, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("no place to keep a runner: %w", err)
	}
	return filepath.Join(dir, "noyau", "runner", fmt.Sprintf("%.16x", sha256.Sum256(p.id)), RunnerName), nil
}

// buildRunner builds the runner from the sources of this program, where they lie:
// in a checkout, or in the module cache after go install.
func (p *program) buildRunner() error {
	to, err := p.builtRunner()
	if err != nil {
		return err
	}
	_, file, _, _ := runtime.Caller(0)
	dir := filepath.Join(filepath.Dir(file), RunnerName)
	if _, err := os.Stat(filepath.Join(dir, "main.go")); !filepath.IsAbs(file) || err != nil {
		return fmt.Errorf("cannot build a runner: the sources of this program are not at %s", dir)
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return fmt.Errorf("cannot build a runner: %w", err)
	}
	tmp := fmt.Sprintf("%s.%d", to, os.Getpid())
	defer os.Remove(tmp)
	cmd := exec.Command("go", "build", "-mod=readonly", "-trimpath", "-o", tmp, ".")
	cmd.Dir = dir
	// In a test run of noyau these are of the toolchain that images are built with.
	env := slices.DeleteFunc(os.Environ(), func(kv string) bool {
		return strings.HasPrefix(kv, "GOROOT=") || strings.HasPrefix(kv, "GOTOOLCHAIN=")
	})
	cmd.Env = append(env, "CGO_ENABLED=0", "GOFLAGS=", "GOWORK=off", "GOOS=linux", "GOARCH=amd64")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("cannot build a runner in %s: %w\n%s", dir, err, bytes.TrimSpace(out))
	}
	if err := os.Rename(tmp, to); err != nil {
		return fmt.Errorf("cannot build a runner: %w", err)
	}
	return nil
}
