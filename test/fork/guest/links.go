package main

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"sync/atomic"
	"syscall"
	"time"

	"noyau.dev/pvm"
	"noyau.dev/test/internal/cases"
)

// heard is a channel for signals, with room for some.
func heard(sigs ...os.Signal) chan os.Signal {
	c := make(chan os.Signal, 16)
	signal.Notify(c, sigs...)
	return c
}

func send(pid int, sig syscall.Signal) {
	if err := pvm.Signal(pid, sig); err != nil {
		cases.Die("signal", pid, sig, err)
	}
}

// expect waits for a signal. One that is lost hangs.
func expect(c chan os.Signal, want syscall.Signal) {
	if got := <-c; got != want {
		cases.Die("heard", got, "want", want)
	}
}

// answer is a child that answers USR1 with USR1 and USR2 with USR2, n times.
func answer(c chan os.Signal, n int) int {
	return fork(func() {
		for range n {
			send(os.Getppid(), (<-c).(syscall.Signal))
		}
	})
}

// signalTrip makes round trips and waits to be told to end: that most went directly shows at
// the monitor.
func signalTrip(args []string) {
	n := number(args[0])
	c := heard(syscall.SIGUSR1, syscall.SIGUSR2)
	pid := answer(c, n)
	for i := range n {
		s := [...]syscall.Signal{syscall.SIGUSR1, syscall.SIGUSR2}[i%2]
		send(pid, s)
		expect(c, s)
	}
	wait(pid, 0)
	fmt.Println("done")
	bufio.NewReader(os.Stdin).ReadString('\n')
}

// links is what holds of signals whichever way they go.
func links([]string) {
	c := heard(syscall.SIGUSR1, syscall.SIGUSR2)
	trips := func(pid, n int) {
		for range n {
			send(pid, syscall.SIGUSR1)
			expect(c, syscall.SIGUSR1)
		}
	}

	// A fork of one that has links takes nothing of its parent's, and makes its own.
	pid := fork(func() {
		for range 10 {
			send(os.Getppid(), (<-c).(syscall.Signal))
		}
		grandchild := fork(func() {
			for range 30 {
				send(os.Getppid(), (<-c).(syscall.Signal))
			}
		})
		for range 30 {
			send(grandchild, syscall.SIGUSR2)
			expect(c, syscall.SIGUSR2)
		}
		send(os.Getppid(), syscall.SIGUSR2) // go on
		for range 200 {
			send(os.Getppid(), (<-c).(syscall.Signal))
		}
		wait(grandchild, 0)
	})
	trips(pid, 10)
	idle := fork(func() { // hears nothing
		select {
		case s := <-c:
			cases.Die("not for me:", s)
		case <-time.After(50 * time.Millisecond):
		}
	})
	expect(c, syscall.SIGUSR2)
	trips(pid, 200)
	wait(pid, 0)
	wait(idle, 0)
	if err := pvm.Signal(pid, syscall.SIGUSR1); !errors.Is(err, syscall.ESRCH) {
		cases.Die("signal to one that was waited for:", err)
	}

	// Who has no handler ends by it, and who ignores it does not.
	pid = fork(func() {
		for range 10 {
			send(os.Getppid(), (<-c).(syscall.Signal))
		}
		signal.Ignore(syscall.SIGINT)
		send(os.Getppid(), syscall.SIGUSR2)
		select {}
	})
	trips(pid, 10)
	expect(c, syscall.SIGUSR2)
	send(pid, syscall.SIGINT)
	send(pid, syscall.SIGSTOP) // job control does not exist
	send(pid, syscall.SIGHUP)
	if s, err := pvm.Wait(pid); err != nil || !s.Signaled() || s.Signal() != syscall.SIGHUP {
		cases.Die("ended by SIGHUP:", s, err)
	}

	// One that computes hears it too.
	m := must(pvm.Share(64))
	word := m.Uint32(0)
	pid = fork(func() {
		for range 10 {
			send(os.Getppid(), (<-c).(syscall.Signal))
		}
		var on atomic.Bool
		go func() { expect(c, syscall.SIGUSR2); on.Store(true) }()
		word.Store(1)
		for n := 0; !on.Load(); n++ {
		}
	})
	trips(pid, 10)
	for word.Load() == 0 {
		time.Sleep(time.Millisecond)
	}
	send(pid, syscall.SIGUSR2)
	wait(pid, 0)

	// A last word arrives, although its sender has ended.
	for range 5 {
		pid = answer(c, 10)
		trips(pid, 9)
		send(pid, syscall.SIGUSR2)
		expect(c, syscall.SIGUSR2)
		wait(pid, 0)
	}

	// More than there can be links.
	var pids []int
	for range 20 {
		pids = append(pids, answer(c, 20))
	}
	for range 20 {
		for _, pid := range pids {
			trips(pid, 1)
		}
	}
	for _, pid := range pids {
		wait(pid, 0)
	}
	fmt.Println("done")
}

// linksNarrow: who loses the right to signal loses its links.
func linksNarrow([]string) {
	c := heard(syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGHUP)
	refused := func(pid int) {
		for range 1000 { // what is on its way may still go
			err := pvm.Signal(pid, syscall.SIGUSR1)
			if errors.Is(err, os.ErrPermission) {
				return
			}
			time.Sleep(time.Millisecond)
		}
		cases.Die("signals are not refused")
	}
	trips := func(pid, n int) {
		for range n {
			send(pid, syscall.SIGUSR2)
			expect(c, syscall.SIGUSR2)
		}
	}
	drain := func() {
		for {
			select {
			case <-c:
			case <-time.After(10 * time.Millisecond):
				return
			}
		}
	}
	// By itself: at once.
	pid := fork(func() {
		for range 10 {
			send(os.Getppid(), (<-c).(syscall.Signal))
		}
		if err := pvm.Narrow(pvm.Signals); err != nil {
			cases.Die(err)
		}
		if err := pvm.Signal(os.Getppid(), syscall.SIGUSR1); !errors.Is(err, os.ErrPermission) {
			cases.Die("after Narrow:", err)
		}
	})
	trips(pid, 10)
	wait(pid, 0)
	// By its parent, which may still signal it.
	pid = fork(func() {
		for range 10 {
			send(os.Getppid(), (<-c).(syscall.Signal))
		}
		expect(c, syscall.SIGHUP)
		refused(os.Getppid())
	})
	trips(pid, 10)
	if err := pvm.NarrowChild(pid, pvm.Signals); err != nil {
		cases.Die(err)
	}
	send(pid, syscall.SIGHUP)
	wait(pid, 0)
	drain()
	// From birth, of a parent that has links, with what lies in memory of them.
	other := answer(c, 30)
	trips(other, 10)
	pid, err := pvm.ForkWithout(pvm.Signals)
	if err != nil {
		cases.Die(err)
	}
	if pid == 0 {
		refused(other)
		os.Exit(0)
	}
	wait(pid, 0)
	drain()
	trips(other, 10)
	send(other, syscall.SIGKILL)
	pvm.Wait(other)
	fmt.Println("done")
}
