package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"noyau.dev/host/build"
	"noyau.dev/host/vm"
)

// A Program is one of guest/, built both ways.
type Program struct {
	Name   string
	Native string
	Image  string
}

// prepare finds the module and makes a place for what is built.
func (b *Bench) prepare() error {
	out, err := exec.CommandContext(b.ctx, "go", "list", "-m", "-f", "{{.Dir}}", "noyau.dev").Output()
	if err != nil {
		return fmt.Errorf("bench must be run inside its repository, by go run ./bench: %w", err)
	}
	b.root = strings.TrimSpace(string(out))
	if b.dir, err = os.MkdirTemp("", "noyau-bench-"); err != nil {
		return err
	}
	// The host must be able to run images as another user.
	if err := os.Chmod(b.dir, 0o755); err != nil || !slices.Contains(b.isolation, "vm") {
		return err
	}
	// Package vm wants its runner beside the program that asks for it.
	self, err := os.Executable()
	if err != nil {
		return err
	}
	return b.goBuild(filepath.Join(filepath.Dir(self), vm.RunnerName), "./host/vm/noyau-vm")
}

// program builds guest/name, or the package with that path in the module, natively and
// as an image, once.
func (b *Bench) program(name string) (*Program, error) {
	key := name
	if p := b.programs[key]; p != nil {
		return p, nil
	}
	pkg := "./bench/guest/" + name
	if strings.Contains(name, "/") {
		name, pkg = filepath.Base(name), "./"+name
	}
	p := &Program{name, filepath.Join(b.dir, name), filepath.Join(b.dir, name+".img")}
	if err := b.goBuild(p.Native, pkg); err != nil {
		return nil, err
	}
	var errs bytes.Buffer
	_, err := build.Build(b.ctx, build.Options{Package: pkg, Output: p.Image, Dir: b.root, Stderr: &errs})
	if err != nil {
		return nil, fmt.Errorf("image of %s: %w\n%s", pkg, err, errs.Bytes())
	}
	// Pages of a file that is not on disk yet would count as dirty memory of
	// whoever has mapped them.
	for _, file := range []string{p.Native, p.Image} {
		if err := syncFile(file); err != nil {
			return nil, err
		}
	}
	b.programs[key] = p
	return p, nil
}

func syncFile(name string) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}

// noyau builds the command, once.
func (b *Bench) noyau() (string, error) {
	if b.cli == "" {
		file := filepath.Join(b.dir, "noyau")
		if err := b.goBuild(file, "./cmd/noyau"); err != nil {
			return "", err
		}
		b.cli = file
	}
	return b.cli, nil
}

// goBuild builds as images are built: without cgo.
func (b *Bench) goBuild(file, pkg string) error {
	cmd := exec.CommandContext(b.ctx, "go", "build", "-o", file, pkg)
	cmd.Dir, cmd.Env = b.root, append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go build %s: %w\n%s", pkg, err, out)
	}
	return nil
}

// size compares files.
func (b *Bench) size() ([]Result, error) {
	var results []Result
	for _, name := range []string{"hello", "http"} {
		p, err := b.program(name)
		if err != nil {
			return results, err
		}
		var samples [][]float64
		for _, file := range []string{p.Native, p.Image} {
			st, err := os.Stat(file)
			if err != nil {
				return results, err
			}
			samples = append(samples, []float64{float64(st.Size()) / 1e6})
		}
		results = append(results, newResult(name, "MB", []string{"native binary", "image"}, samples))
	}
	return results, nil
}
