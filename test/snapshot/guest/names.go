package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"syscall"
	"time"

	"noyau.dev/pvm"
	"noyau.dev/test/internal/cases"
)

// names: a listener that two have in common is dialled by a third.
func names([]string) {
	l := must(net.Listen("unix", "@server"))
	m := must(pvm.Share(1 << 12))
	over, old := m.Uint32(0), m.Uint32(4)
	serve := func() {
		for {
			c, err := l.Accept()
			if err != nil {
				cases.Die("accept:", err)
			}
			go func() {
				io.Copy(c, c)
				c.Close()
			}()
		}
	}
	servers := fork(serve)
	client := fork(func() {
		l.Close()
		dial := func() net.Conn {
			c := must(net.Dial("unix", "@server"))
			b := make([]byte, 5)
			must(c.Write([]byte("hello")))
			must(io.ReadFull(c, b))
			return c
		}
		c := dial()
		old.Store(1)
		m.Wake()
		restored := end()
		for over.Load() == 0 {
			cases.Must(m.Wait(over, 0))
		}
		select {
		case <-restored:
			if _, err := c.Read(make([]byte, 1)); err == nil {
				cases.Die("a connection of before goes on")
			}
		default:
		}
		for range 20 {
			dial().Close()
		}
	})
	// Two that dial all the time, one of which has the listener too and does not accept.
	var dialers []int
	for _, has := range []bool{false, true} {
		dialers = append(dialers, fork(func() {
			if !has {
				l.Close()
			}
			b := make([]byte, 5)
			for over.Load() == 0 {
				c, err := net.Dial("unix", "@server")
				if errors.Is(err, syscall.ECONNRESET) {
					continue // it was under way
				}
				cases.Must(err)
				c.SetDeadline(time.Now().Add(10 * time.Second))
				c.Write([]byte("hello"))
				if _, err := io.ReadFull(c, b); errors.Is(err, os.ErrDeadlineExceeded) {
					cases.Die("nobody answers", has)
				}
				c.Close()
				time.Sleep(time.Millisecond)
			}
			runtime.KeepAlive(l)
		}))
	}
	for old.Load() == 0 {
		cases.Must(m.Wait(old, 0))
	}
	e := end()
	go serve()
	fmt.Println("ready")
	<-e
	time.Sleep(100 * time.Millisecond) // others see it too
	over.Store(1)
	m.Wake()
	wait(client, 0)
	for _, pid := range dialers {
		wait(pid, 0)
	}
	cases.Must(pvm.Signal(servers, syscall.SIGKILL))
	pvm.Wait(servers)
	fmt.Println("done")
}
