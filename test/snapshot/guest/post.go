package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"
	"syscall"
	"time"

	"noyau.dev/pvm"
	"noyau.dev/test/internal/cases"
)

// post: members ask another by datagrams, whose socket a third has too. One that is under way
// when they are saved may be lost.
func post([]string) {
	at := func(name string) *net.UnixAddr { return &net.UnixAddr{Name: name, Net: "unixgram"} }
	in := must(net.ListenUnixgram("unixgram", at("@post")))
	m := must(pvm.Share(1 << 12))
	over, old := m.Uint32(0), m.Uint32(4)
	server := fork(func() {
		b := make([]byte, 100)
		for {
			n, from, err := in.ReadFromUnix(b)
			cases.Must(err)
			if _, err := in.WriteToUnix(b[:n], from); err != nil && !errors.Is(err, syscall.ECONNREFUSED) {
				cases.Die("the answer:", err)
			}
		}
	})
	var clients []int
	for i := range 2 {
		clients = append(clients, fork(func() {
			in.Close()
			me := must(net.DialUnix("unixgram", at(fmt.Sprint("/tmp/client", i)), at("@post")))
			b := make([]byte, 100)
			asked := 0
			ask := func() {
				asked++
				question := fmt.Sprint(i, " ", asked)
				for end := time.Now().Add(20 * time.Second); time.Now().Before(end); {
					_, err := me.Write([]byte(question))
					if errors.Is(err, syscall.ECONNREFUSED) {
						time.Sleep(time.Millisecond) // the server may not be there yet
						continue
					}
					cases.Must(err)
					for {
						me.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
						n, err := me.Read(b)
						if errors.Is(err, os.ErrDeadlineExceeded) {
							break // it is lost
						}
						cases.Must(err)
						if string(b[:n]) == question {
							return
						}
					}
				}
				cases.Die("nobody answers", i)
			}
			for over.Load() == 0 {
				ask()
				if asked == 20 {
					old.Add(1)
					m.Wake()
				}
			}
			for range 20 {
				ask()
			}
		}))
	}
	for n := old.Load(); n < 2; n = old.Load() {
		cases.Must(m.Wait(old, n))
	}
	e := end()
	fmt.Println("ready")
	<-e
	time.Sleep(100 * time.Millisecond)
	over.Store(1)
	m.Wake()
	for _, pid := range clients {
		wait(pid, 0)
	}
	cases.Must(pvm.Signal(server, syscall.SIGKILL))
	pvm.Wait(server)
	runtime.KeepAlive(in)
	fmt.Println("done")
}
