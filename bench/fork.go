package main

import (
	"bytes"
	"fmt"
	"os/exec"
	"path/filepath"

	"noyau.dev/host/monitor"
)

// forkSource is the program that fork and the round trips are compared with.
const forkSource = "bench/beside/fork.c"

// fork compares fork and what forks share with the same in a C program.
func (b *Bench) fork() ([]Result, error) {
	p, err := b.program("fork")
	if err != nil {
		return nil, err
	}
	c, err := b.gcc(forkSource)
	if err != nil {
		return nil, err
	}
	n := b.short("50", "10")
	ways := []Way{{"C program", func() (string, error) { return b.command(c, n) }}}
	return lines("µs", 1e3, b.rounds, append(ways, b.ways(p, b.families(monitor.DefaultForks), n)...))
}

// gcc compiles a C program of ours, once.
func (b *Bench) gcc(source string) (string, error) {
	file := filepath.Join(b.dir, filepath.Base(source)+".native")
	out, err := exec.CommandContext(b.ctx, "gcc", "-O2", "-o", file, filepath.Join(b.root, source)).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("gcc is needed for %s, which is what others are compared with: %w\n%s", source, err, out)
	}
	return file, nil
}

// command runs a program of this machine to its end and returns what it printed.
func (b *Bench) command(name string, args ...string) (string, error) {
	cmd := exec.CommandContext(b.ctx, name, args...)
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%s: %w\n%s", name, err, errs.Bytes())
	}
	return string(out), nil
}
