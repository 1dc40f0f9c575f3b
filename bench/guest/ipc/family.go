package main

import (
	"errors"
	"log"
	"os"
	"sync/atomic"
	"syscall"

	"noyau.dev/pvm"
)

// family starts the other side as a fork of this pVM. It is not ok in a process.
func family(i, n int) (l *link, wait func(), ok bool) {
	a, b, err := pvm.Pair()
	if errors.Is(err, pvm.ErrNotPVM) {
		return nil, nil, false
	}
	there, err1 := pvm.NewQueue()
	back, err2 := pvm.NewQueue()
	m, err3 := pvm.Share(64)
	if err := errors.Join(err, err1, err2, err3); err != nil {
		log.Fatal(err)
	}
	pid, err := pvm.Fork()
	check(0, err)
	if pid == 0 {
		l := memory(&link{stream: b, send: back.Send, receive: there.Receive}, m)
		parent := os.Getppid()
		l.signalPeer = func(s syscall.Signal) error { return pvm.Signal(parent, s) }
		kinds[i].child(l, n)
		os.Exit(0)
	}
	l = memory(&link{stream: a, send: there.Send, receive: back.Receive}, m)
	l.signalPeer = func(s syscall.Signal) error { return pvm.Signal(pid, s) }
	return l, func() {
		if s, err := pvm.Wait(pid); err != nil || s != 0 {
			log.Fatal(s, err)
		}
		a.Close()
		b.Close()
		for _, q := range []*pvm.Queue{there, back} {
			q.CloseSend()
			q.CloseReceive()
		}
	}, true
}

func memory(l *link, m *pvm.Memory) *link {
	v := m.Uint32(0)
	return onWord(l, v, func() { check(0, m.Wake()) }, func(old uint32) { check(0, m.Wait(v, old)) })
}

func onWord(l *link, v *atomic.Uint32, wake func(), wait func(uint32)) *link {
	l.set = func(x uint32) { v.Store(x); wake() }
	l.waitNot = wait
	return l
}
