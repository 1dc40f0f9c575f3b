package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"syscall"

	"noyau.dev/test/internal/cases"
)

// ids prints what a child is, beside its parent.
func ids(args []string) {
	var parent, parents int // its parent's session
	fmt.Sscan(args[0], &parent)
	fmt.Sscan(args[1], &parents)
	session, err := unixGetsid(0)
	cases.Must(err)
	group := syscall.Getpgrp()
	got, err := syscall.Getpgid(os.Getpid())
	cases.Check(err == nil && got == group, got, err)
	fmt.Print(group == os.Getpid(), group == parent, session == os.Getpid(), session == parents, syscall.Setpgid(0, 0))
}

func unixGetsid(pid int) (int, error) {
	r, _, e := syscall.Syscall(syscall.SYS_GETSID, uintptr(pid), 0, 0)
	if e != 0 {
		return 0, e
	}
	return int(r), nil
}

// inGroup starts a child in a group, 0: its own, and waits for its first line.
func inGroup(group int, args ...string) (*exec.Cmd, io.Reader) {
	c := self(args...)
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pgid: group}
	out, err := c.StdoutPipe()
	cases.Must(err)
	cases.Must(c.Start())
	var b [6]byte
	_, err = io.ReadFull(out, b[:])
	cases.Check(err == nil && string(b[:]) == "ready\n", string(b[:]), err)
	return c, out
}

// tree is a child with one of its own, both in one group.
func tree([]string) {
	c := self("sleep")
	c.Stdout = os.Stdout // says ready
	cases.Must(c.Start())
	c.Wait()
}

// group0 signals its own group: itself and a child.
func group0([]string) {
	c := make(chan os.Signal, 1)
	signal.Notify(c, syscall.SIGTERM)
	child := started("term")
	cases.Must(syscall.Kill(0, syscall.SIGTERM))
	<-c
	child.Wait()
	fmt.Print(child.ProcessState.ExitCode())
}

func groups([]string) {
	session, err := unixGetsid(0)
	cases.Must(err)
	for _, attr := range []*syscall.SysProcAttr{nil, {Setpgid: true}, {Setsid: true}, {Setpgid: true, Pgid: 1 << 30}, {Setsid: true, Setpgid: true}} {
		c := self("ids", fmt.Sprint(syscall.Getpgrp()), fmt.Sprint(session))
		c.SysProcAttr = attr
		out, err := c.Output()
		fmt.Println(string(out), errors.Is(err, syscall.EPERM))
	}

	// A tree of processes ends at once.
	c, out := inGroup(0, "tree")
	pid := c.Process.Pid
	group, err := syscall.Getpgid(pid)
	cases.Check(err == nil && group == pid, group, err)
	cases.Must(syscall.Kill(-pid, 0))
	cases.Check(errors.Is(syscall.Setpgid(pid, 0), syscall.EACCES)) // it is another program by now
	cases.Must(syscall.Kill(-pid, syscall.SIGKILL))
	rest, err := io.ReadAll(out) // until nobody has it any more
	cases.Check(err == nil && len(rest) == 0, rest, err)
	cases.Must(syscall.Kill(-pid, 0)) // one to be waited for
	c.Wait()
	st := c.ProcessState.Sys().(syscall.WaitStatus)
	cases.Check(st.Signaled() && st.Signal() == syscall.SIGKILL, st)

	// Several children in a group, beside one that is not.
	other := started("sleep")
	a, _ := inGroup(0, "sleep")
	b, _ := inGroup(a.Process.Pid, "term")
	var ws syscall.WaitStatus
	got, err := syscall.Wait4(-a.Process.Pid, &ws, syscall.WNOHANG, nil)
	cases.Check(got == 0 && err == nil, got, err)
	cases.Must(syscall.Kill(-a.Process.Pid, syscall.SIGTERM))
	ended := map[int]syscall.WaitStatus{}
	for range 2 {
		got, err := syscall.Wait4(-a.Process.Pid, &ws, 0, nil)
		cases.Must(err)
		ended[got] = ws
	}
	cases.Check(ended[a.Process.Pid].Signaled() && ended[b.Process.Pid].ExitStatus() == 7, ended)
	_, err = syscall.Wait4(-a.Process.Pid, &ws, 0, nil)
	cases.Check(errors.Is(err, syscall.ECHILD), err)
	cases.Must(other.Process.Signal(syscall.Signal(0)))
	other.Process.Kill()
	got, err = syscall.Wait4(0, &ws, 0, nil)
	cases.Check(got == other.Process.Pid && err == nil, got, err)

	// Its own group.
	c = self("group0")
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	all, err := c.Output()
	fmt.Println(string(all), err)
	_, err = syscall.Getpgid(1 << 30)
	cases.Check(errors.Is(err, syscall.ESRCH), err)
	cases.Check(errors.Is(syscall.Setpgid(1<<30, 0), syscall.ESRCH))
	cases.Check(errors.Is(syscall.Kill(-1<<30, syscall.SIGTERM), syscall.ESRCH))
	fmt.Println("done")
}
