package main

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"noyau.dev/host/monitor"
)

// forkSource is the program that fork is compared with.
const forkSource = "bench/beside/fork.c"

// fork compares fork with that of a C program of the same size.
func (b *Bench) fork() ([]Result, error) {
	p, err := b.program("fork")
	if err != nil {
		return nil, err
	}
	c, err := b.gcc(forkSource)
	if err != nil {
		return nil, err
	}
	families := b.families(monitor.DefaultForks)
	ways := func(args ...string) []Way {
		beside := Way{"C program", func() (string, error) { return b.command(c, args...) }}
		return append([]Way{beside}, b.ways(p, families, args...)...)
	}
	results, err := lines("µs", 1e3, min(b.rounds, 20), ways("first", b.short("50", "10")))
	if err != nil {
		return results, err
	}
	more, err := lines("µs each", 1e3, 1, ways("rows", b.short("10000", "200")))
	if err != nil {
		return results, err
	}
	results = append(results, more...)
	subjects := append([]string{"C program"}, names(families)...)
	answers, idle := make([][]float64, len(subjects)), make([][]float64, len(subjects))
	for range min(b.rounds, 5) {
		for i, s := range append([]Subject{{}}, families...) {
			took, err := b.answers(s, p, c)
			if err != nil {
				return results, fmt.Errorf("%s: %w", subjects[i], err)
			}
			kB, err := b.idleChild(s, p, c)
			if err != nil {
				return results, fmt.Errorf("%s: %w", subjects[i], err)
			}
			answers[i], idle[i] = append(answers[i], took...), append(idle[i], kB)
		}
	}
	return append(results,
		newResult("order to fork to the child's first HTTP answer, 10 MB", "µs", subjects, answers, "the C program answers every request alike"),
		newResult("private memory of an idle child, 10 MB", "kB", subjects, idle)), nil
}

// A forker is a running program of those above.
type forker struct {
	line string // it has printed
	pid  int    // of the C program
	inst *monitor.Instance
	stop func()
}

// forker starts a pVM of p, or the C program if s is none.
func (b *Bench) forker(s Subject, p *Program, c, mode string) (*forker, error) {
	said := newLine()
	if s.Isolation == "" {
		cmd := exec.CommandContext(b.ctx, c, mode)
		cmd.Stdout, cmd.Stderr = said, os.Stderr
		// A child has the pipe to said too, which must not hold up Wait.
		cmd.WaitDelay = time.Millisecond
		if err := cmd.Start(); err != nil {
			return nil, err
		}
		done := make(chan struct{})
		go func() { cmd.Wait(); close(done) }()
		line, err := said.wait(done)
		return &forker{line: line, pid: cmd.Process.Pid, stop: func() { cmd.Process.Kill(); <-done }}, err
	}
	config := s.config(p, mode)
	config.Stdout, config.Stderr = said, os.Stderr
	for _, port := range []uint16{8080, 8081} {
		config.Publish = append(config.Publish, monitor.Publish{IP: netip.MustParseAddr("127.0.0.1"), GuestPort: port})
	}
	inst, err := monitor.Start(b.ctx, config)
	if err != nil {
		return nil, err
	}
	line, err := said.wait(inst.Done())
	if err == nil && mode == "answer" {
		line = fmt.Sprint("listening ", inst.Info().Ports[0].Host, " ", inst.Info().Ports[1].Host)
	}
	return &forker{line: line, inst: inst, stop: func() { inst.Kill(); inst.Wait() }}, err
}

// answers measures from an order to fork until the child has answered a request that
// was there before. The order comes by a connection, as the request does.
func (b *Bench) answers(s Subject, p *Program, c string) (took []float64, err error) {
	f, err := b.forker(s, p, c, "answer")
	if err != nil {
		return nil, err
	}
	defer f.stop()
	addrs := strings.Fields(f.line)
	orders, err := net.Dial("tcp", addrs[2])
	if err != nil {
		return nil, err
	}
	defer orders.Close()
	n := 40
	if b.quick {
		n = 10
	}
	for i := range n + 2 {
		request, err := net.Dial("tcp", addrs[1])
		if err != nil {
			return nil, err
		}
		request.SetDeadline(time.Now().Add(patience))
		orders.SetDeadline(time.Now().Add(patience))
		io.WriteString(request, "GET / HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n")
		t := time.Now()
		if _, err := orders.Write([]byte{1}); err != nil {
			return nil, err
		}
		r, err := http.ReadResponse(bufio.NewReader(request), nil)
		d := time.Since(t)
		if err != nil {
			return nil, err
		}
		body, err := io.ReadAll(r.Body)
		request.Close()
		if err != nil || r.StatusCode != http.StatusOK || string(body) != "Hello, world\n" {
			return nil, fmt.Errorf("the answer is %s, %q, %w", r.Status, body, err)
		}
		if _, err := io.ReadFull(orders, make([]byte, 1)); err != nil { // it has ended
			return nil, err
		}
		if i >= 2 { // what a first fork makes is there
			took = append(took, float64(d.Nanoseconds())/1e3)
		}
	}
	return took, nil
}

// idleChild measures the memory that a child has for itself, in kB.
func (b *Bench) idleChild(s Subject, p *Program, c string) (float64, error) {
	f, err := b.forker(s, p, c, "idle")
	if err != nil {
		return 0, err
	}
	defer f.stop()
	time.Sleep(100 * time.Millisecond)
	pid := 0
	if f.inst != nil {
		list := f.inst.Members()
		if len(list) != 2 {
			return 0, fmt.Errorf("%d members, want 2", len(list))
		}
		pid = list[1].Pid
	} else {
		children, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", f.pid, f.pid))
		if _, serr := fmt.Sscan(string(children), &pid); err != nil || serr != nil {
			return 0, fmt.Errorf("the child of %d: %q, %w", f.pid, children, err)
		}
		defer unix.Kill(pid, unix.SIGKILL)
	}
	n, err := privateDirty(pid)
	return float64(n) / 1024, err
}

// parallel compares forks that share a job with goroutines that do.
func (b *Bench) parallel() ([]Result, error) {
	p, err := b.program("examples/mapreduce")
	if err != nil {
		return nil, err
	}
	subjects := append([]Subject{native2}, b.families(monitor.DefaultForks)...)
	var results []Result
	for _, workers := range []string{"1", "2"} {
		r, err := lines("ms", 1e6, b.loads, b.ways(p, subjects, "-time", "-mb", b.short("64", "16"), "-workers", workers))
		if results = append(results, r...); err != nil {
			return results, err
		}
	}
	return results, nil
}

// gcc compiles a C program of ours.
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
