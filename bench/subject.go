package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"

	"noyau.dev/host/monitor"
)

// patience bounds the wait for a program to begin or end.
const patience = 2 * time.Minute

// A Subject is a way to run a Program.
type Subject struct {
	Name      string
	Procs     int    // GOMAXPROCS of a native one; 0: the default
	Isolation string // of a pVM, "" if it is a native process
	CLI       bool   // through noyau run, else through the monitor's API in this process
	Forks     int    // size of a pVM's family; 0: it may not fork
	Snapshot  string // a file that pVMs go on from, of a server that listens already

	template *monitor.Template // that they are taken from; nil: none
	Ahead    string            // under vm: what is there before the clock starts, see ahead
}

var (
	native  = Subject{Name: "native"}
	native1 = Subject{Name: "native GOMAXPROCS=1", Procs: 1}
	native2 = Subject{Name: "native GOMAXPROCS=2", Procs: 2}
)

// beside lists native subjects and then the pVMs of this run.
func (b *Bench) beside(natives ...Subject) []Subject {
	for _, i := range b.isolation {
		natives = append(natives, Subject{Name: "pVM " + i, Isolation: i})
	}
	return natives
}

// families lists the pVMs of this run, each of which may fork so often.
func (b *Bench) families(forks int) []Subject {
	list := b.beside()
	for i := range list {
		list[i].Forks = forks
	}
	return list
}

// byCommand lists pVMs that are started by noyau run.
func (b *Bench) byCommand() (list []Subject) {
	for _, i := range b.isolation {
		list = append(list, Subject{Name: "noyau run, " + i, Isolation: i, CLI: true})
	}
	return list
}

func names(subjects []Subject) []string {
	var s []string
	for _, x := range subjects {
		s = append(s, x.Name)
	}
	return s
}

// env is the environment of a native program.
func (s Subject) env() []string {
	if s.Procs == 0 {
		return os.Environ()
	}
	return append(os.Environ(), fmt.Sprint("GOMAXPROCS=", s.Procs))
}

// config is the configuration of a pVM.
func (s Subject) config(p *Program, args ...string) monitor.Config {
	return monitor.Config{Image: p.Image, Name: p.Name, Args: args, Isolation: s.Isolation, Forks: s.Forks, Restore: s.Snapshot, Template: s.template}
}

// output runs a program to its end and returns what it printed.
func (b *Bench) output(s Subject, p *Program, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(b.ctx, 30*time.Minute)
	defer cancel()
	var out, errs bytes.Buffer
	if s.Isolation != "" && !s.CLI {
		c := s.config(p, args...)
		c.Stdout, c.Stderr = &out, &errs
		inst, err := monitor.Start(ctx, c)
		if err != nil {
			return "", err
		}
		if exit := inst.Wait(); exit.Code != 0 {
			return "", fmt.Errorf("%s as a pVM: exit code %d %s\n%s", p.Name, exit.Code, exit.Reason, errs.Bytes())
		}
		return out.String(), nil
	}
	cmd := exec.CommandContext(ctx, p.Native, args...)
	if s.CLI {
		cli, err := b.noyau()
		if err != nil {
			return "", err
		}
		cmd = exec.CommandContext(ctx, cli, append([]string{"run", "--isolation", s.Isolation, p.Image}, args...)...)
	}
	cmd.Env, cmd.Stdout, cmd.Stderr = s.env(), &out, &errs
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("%s %s: %w\n%s", p.Name, s.Name, err, errs.Bytes())
	}
	return out.String(), nil
}

// A Server is a program that has said that it listens.
type Server struct {
	Addr string // as reached from here
	PID  int
	Stop func()
}

// serve starts a program that takes an address by flag and prints a line when it
// listens there.
func (b *Bench) serve(s Subject, p *Program, flag string, args ...string) (*Server, error) {
	said := newLine()
	if s.Isolation != "" {
		c := s.config(p, append([]string{flag, ":8080"}, args...)...)
		c.Publish = loopback(8080)
		c.Stdout, c.Stderr = said, os.Stderr
		inst, err := monitor.Start(b.ctx, c)
		if err != nil {
			return nil, err
		}
		srv := &Server{inst.Info().Ports[0].Host, inst.Info().Pid, func() { inst.Kill(); inst.Wait() }}
		if s.Snapshot != "" { // what it has to say was said
			return srv, reachable(srv, inst)
		}
		if _, err := said.wait(inst.Done()); err != nil {
			srv.Stop()
			return nil, fmt.Errorf("%s as a pVM: %w", p.Name, err)
		}
		return srv, nil
	}
	cmd := exec.CommandContext(b.ctx, p.Native, append([]string{flag, "127.0.0.1:0"}, args...)...)
	cmd.Env, cmd.Stdout, cmd.Stderr = s.env(), said, os.Stderr
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	done := make(chan struct{})
	go func() { cmd.Wait(); close(done) }()
	srv := &Server{PID: cmd.Process.Pid, Stop: func() { cmd.Process.Kill(); <-done }}
	line, err := said.wait(done)
	if err != nil {
		srv.Stop()
		return nil, fmt.Errorf("%s %s: %w", p.Name, s.Name, err)
	}
	srv.Addr = strings.TrimPrefix(line, "listening ")
	return srv, nil
}

// line is a writer that waits for the first line.
type line struct {
	mu   sync.Mutex
	buf  []byte
	got  chan string
	sent bool
}

func newLine() *line { return &line{got: make(chan string, 1)} }

func (l *line) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.sent {
		l.buf = append(l.buf, p...)
		if first, _, ok := bytes.Cut(l.buf, []byte("\n")); ok {
			l.got <- string(first)
			l.sent = true
		}
	}
	return len(p), nil
}

func (l *line) wait(ended <-chan struct{}) (string, error) {
	t := time.NewTimer(patience)
	defer t.Stop()
	select {
	case s := <-l.got:
		return s, nil
	case <-ended:
		return "", fmt.Errorf("ended before it listened: %w", io.ErrUnexpectedEOF)
	case <-t.C:
		return "", fmt.Errorf("does not listen after %v", patience)
	}
}

// loopback publishes a port on one that the host chooses.
func loopback(port uint16) []monitor.Publish {
	return []monitor.Publish{{IP: netip.MustParseAddr("127.0.0.1"), GuestPort: port}}
}
