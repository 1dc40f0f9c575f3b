package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"noyau.dev/host/monitor"
)

// ipcSource is the program that what families share is compared with.
const ipcSource = "bench/beside/ipc.c"

// A placement says which processors the two sides have: cpus[0] the first process, cpus[1]
// those that it starts. Without any the kernel decides, which puts the two now on
// one and now on two.
type placement struct {
	name string
	cpus []int
}

// placements are as the kernel likes it, both sides on one processor, and each on its own.
func placements() ([]placement, error) {
	var set unix.CPUSet
	if err := unix.SchedGetaffinity(0, &set); err != nil {
		return nil, err
	}
	var cpus []int
	for i := 0; len(cpus) < 2 && i < 1024; i++ {
		if set.IsSet(i) {
			cpus = append(cpus, i)
		}
	}
	list := []placement{{}, {"on one processor", []int{cpus[0], cpus[0]}}}
	if len(cpus) == 2 {
		list = append(list, placement{"on two processors", cpus})
	}
	return list, nil
}

// ipcSettle is how long the two sides wait before they begin, so that they can be placed.
const ipcSettle = 10 * time.Millisecond

// ipc compares what members of a family say to each other with two processes, in C and in Go.
func (b *Bench) ipc() ([]Result, error) {
	p, err := b.program("ipc")
	if err != nil {
		return nil, err
	}
	c, err := b.gcc(ipcSource)
	if err != nil {
		return nil, err
	}
	args := []string{b.short("500", "100"), strconv.Itoa(int(ipcSettle.Milliseconds()))}
	return b.everywhere(func(at placement) []Way {
		return append([]Way{
			{"two C processes", func() (string, error) { return b.placed(at, c, args...) }},
			{"two native Go processes", func() (string, error) { return b.placed(at, p.Native, args...) }},
		}, b.placedFamilies(at, p, args...)...)
	})
}

// sockets compares members of a family that find each other by the names of unix sockets with two
// processes.
func (b *Bench) sockets() ([]Result, error) {
	p, err := b.program("unix")
	if err != nil {
		return nil, err
	}
	args := []string{b.short("500", "100"), strconv.Itoa(int(ipcSettle.Milliseconds()))}
	return b.everywhere(func(at placement) []Way {
		return append([]Way{
			{"two native Go processes", func() (string, error) { return b.placed(at, p.Native, args...) }},
		}, b.placedFamilies(at, p, args...)...)
	})
}

// everywhere runs ways at each placement.
func (b *Bench) everywhere(ways func(at placement) []Way) ([]Result, error) {
	where, err := placements()
	if err != nil {
		return nil, err
	}
	var results []Result
	for _, at := range where {
		list, err := lines("µs", 1e3, min(b.rounds, 10), ways(at))
		for i := range list {
			if at.name != "" {
				list[i].What += ", " + at.name
			}
		}
		if results = append(results, list...); err != nil {
			return results, err
		}
	}
	return results, nil
}

// placedFamilies are the ways to run a program as the first of a family.
func (b *Bench) placedFamilies(at placement, p *Program, args ...string) (ways []Way) {
	for _, s := range b.families(monitor.DefaultForks) {
		ways = append(ways, Way{s.Name, func() (string, error) { return b.placedFamily(at, s, p, args...) }})
	}
	return ways
}

// place puts processes on their processors until done, as they appear: pids lists them, the
// first one first.
func (at placement) place(pids func() []int, done <-chan struct{}) {
	seen := map[int]bool{}
	for {
		for i, pid := range pids() {
			if !seen[pid] && len(at.cpus) > 0 {
				seen[pid] = true
				setAffinity(pid, at.cpus[min(i, 1)])
			}
		}
		select {
		case <-done:
			return
		case <-time.After(ipcSettle / 10):
		}
	}
}

// setAffinity is for all threads of a process. One that has ended by now does not matter.
func setAffinity(pid, cpu int) {
	var set unix.CPUSet
	set.Set(cpu)
	tasks, _ := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	for _, t := range tasks {
		if tid, err := strconv.Atoi(t.Name()); err == nil {
			unix.SchedSetaffinity(tid, &set)
		}
	}
}

// placed runs a program of this machine to its end and returns what it printed.
func (b *Bench) placed(at placement, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(b.ctx, name, args...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Start(); err != nil {
		return "", err
	}
	done := make(chan struct{})
	go at.place(func() []int {
		pids := []int{cmd.Process.Pid}
		tasks, _ := os.ReadDir(fmt.Sprintf("/proc/%d/task", cmd.Process.Pid))
		for _, t := range tasks {
			children, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%s/children", cmd.Process.Pid, t.Name()))
			for _, f := range strings.Fields(string(children)) {
				if pid, err := strconv.Atoi(f); err == nil {
					pids = append(pids, pid)
				}
			}
		}
		return pids
	}, done)
	err := cmd.Wait()
	close(done)
	if err != nil {
		return "", fmt.Errorf("%s: %w\n%s", name, err, errs.Bytes())
	}
	return out.String(), nil
}

// placedFamily runs a pVM to its end and returns what it printed.
func (b *Bench) placedFamily(at placement, s Subject, p *Program, args ...string) (string, error) {
	var out, errs bytes.Buffer
	c := s.config(p, args...)
	c.Stdout, c.Stderr = &out, &errs
	inst, err := monitor.Start(b.ctx, c)
	if err != nil {
		return "", err
	}
	at.place(func() (pids []int) {
		for _, m := range inst.Members() {
			pids = append(pids, m.Pid)
		}
		return pids
	}, inst.Done())
	if exit := inst.Wait(); exit.Code != 0 {
		return "", fmt.Errorf("%s as a pVM: exit code %d %s\n%s", p.Name, exit.Code, exit.Reason, errs.Bytes())
	}
	return out.String(), nil
}
