package main

import (
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"noyau.dev/pvm"
	"noyau.dev/test/internal/cases"
)

// groups: forks are in their parent's process group until somebody changes that.
func groups([]string) {
	idle := func() { time.Sleep(time.Minute) }
	a, b, c := fork(idle), fork(idle), fork(idle)
	if g, err := syscall.Getpgid(a); err != nil || g != syscall.Getpgrp() {
		cases.Die("group of a fork:", g, err)
	}
	for _, pid := range []int{a, b} {
		if err := syscall.Setpgid(pid, a); err != nil {
			cases.Die(err)
		}
	}
	if err := syscall.Setpgid(c, b); !errors.Is(err, syscall.EPERM) {
		cases.Die("a group that there is not:", err)
	}
	if err := syscall.Kill(-a, syscall.SIGTERM); err != nil {
		cases.Die(err)
	}
	for range 2 {
		pid, s := 0, syscall.WaitStatus(0)
		pid, err := syscall.Wait4(-a, &s, 0, nil)
		if err != nil || pid != a && pid != b || s.Signal() != syscall.SIGTERM {
			cases.Die(pid, s, err)
		}
	}
	if err := syscall.Kill(-a, syscall.SIGTERM); !errors.Is(err, syscall.ESRCH) {
		cases.Die("a group that has ended:", err)
	}
	// Who may not signal others cannot do it by groups, but for its descendants.
	pid, err := pvm.ForkWithout(pvm.Signals)
	if err != nil {
		cases.Die(err)
	}
	if pid == 0 {
		if err := syscall.Kill(-1, syscall.SIGKILL); !errors.Is(err, syscall.EPERM) {
			cases.Die("kill all:", err)
		}
		syscall.Kill(0, syscall.SIGKILL)
		idle() // but of its group it may signal itself
		os.Exit(1)
	}
	if s, err := pvm.Wait(pid); err != nil || s.Signal() != syscall.SIGKILL {
		cases.Die(s, err)
	}
	if err := syscall.Kill(c, 0); err != nil {
		cases.Die("another has ended with it:", err)
	}
	// All but the first and oneself.
	fork(func() {
		if err := syscall.Kill(-1, syscall.SIGKILL); err != nil {
			cases.Die(err)
		}
	})
	for range 2 {
		if pid, s, err := pvm.WaitAny(); err != nil || pid == c && s.Signal() != syscall.SIGKILL || pid != c && s != 0 {
			cases.Die(pid, s, err)
		}
	}
	fmt.Println("done")
}
