package main

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"noyau.dev/pvm"
	"noyau.dev/test/internal/cases"
)

// ahead fills a family of four. A member that forks a second time holds a child that
// was prepared ahead: its place must not be missing to another member.
func ahead([]string) {
	fill := func() {
		wait(fork(func() {}), 0)
		r, w := must2(pvm.Pipe())
		hold := func() { w.Close(); io.ReadAll(r) }
		child := fork(func() {
			first, second := fork(hold), fork(hold)
			if _, err := pvm.Fork(); !errors.Is(err, syscall.EAGAIN) {
				cases.Die("the fifth of four:", err)
			}
			w.Close()
			wait(first, 0)
			wait(second, 0)
		})
		w.Close()
		wait(child, 0)
		r.Close()
	}
	for range 20 {
		fill()
	}
	fmt.Println("done")
}

func must2[A, B any](a A, b B, err error) (A, B) {
	if err != nil {
		cases.Die(err)
	}
	return a, b
}

// crowd is a family of n that live at once, each with an id of its own.
func crowd(args []string) {
	n := number(args[0])
	q := must(pvm.NewQueue())
	r, w := must2(pvm.Pipe())
	children := make([]int, n-1)
	for i := range children {
		children[i] = fork(func() {
			w.Close()
			if err := q.Send(fmt.Append(nil, os.Getpid())); err != nil {
				cases.Die(err)
			}
			io.ReadAll(r) // until the first says so
			os.Exit(i % 100)
		})
	}
	seen := map[string]bool{}
	b := make([]byte, 64)
	for range children {
		n := must(q.Receive(b))
		seen[string(b[:n])] = true
	}
	for _, pid := range children {
		if !seen[fmt.Sprint(pid)] {
			cases.Die("nothing was heard of", pid)
		}
	}
	fmt.Println("all")
	bufio.NewReader(os.Stdin).ReadString('\n')
	w.Close()
	for i, pid := range children {
		wait(pid, i%100)
	}
	fmt.Println("done")
}

// leak forks n times, and n more. Between, and at the end, it holds still to be looked at.
func leak(args []string) {
	in := bufio.NewReader(os.Stdin)
	n := number(args[0])
	look := func() (goroutines int, heap, sys uint64) {
		var m runtime.MemStats
		for range 3 {
			runtime.GC()
			time.Sleep(time.Millisecond)
		}
		runtime.ReadMemStats(&m)
		return runtime.NumGoroutine(), m.HeapAlloc, m.Sys
	}
	forks := func() {
		for i := range n {
			wait(fork(func() { os.Exit(i % 100) }), i%100)
		}
	}
	forks()
	g, heap, sys := look()
	fmt.Println("warm")
	in.ReadString('\n')
	forks()
	g2, heap2, sys2 := look()
	if g2 > g || heap2 > heap+64<<10 || sys2 > sys+8<<20 { // the heap grows by 4 MiB at a time
		cases.Die("goroutines", g, g2, "heap", heap, heap2, "from the host", sys, sys2)
	}
	fmt.Println("done")
	in.ReadString('\n')
}

// together forks from many goroutines at once. In a copy those that were about to fork
// get EINTR or fork the copy: never does one child have two parents.
func together(args []string) {
	me := os.Getpid()
	var wg sync.WaitGroup
	var interrupted atomic.Int64
	for i := range 8 {
		wg.Go(func() {
			for range number(args[0]) {
				pid, err := pvm.Fork()
				switch {
				case err == nil && pid == 0:
					time.Sleep(time.Duration(i) * time.Millisecond) // the other goroutines go on
					os.Exit(i)
				case err == nil:
					if s, err := pvm.Wait(pid); err != nil || s.ExitStatus() != i {
						if os.Getpid() != me && errors.Is(err, syscall.ECHILD) {
							break // this is a copy of the one whose child it is
						}
						cases.Die(os.Getpid(), "waits for", pid, err, s.ExitStatus(), "want", i)
					}
				case os.Getpid() != me && (errors.Is(err, syscall.EINTR) || errors.Is(err, syscall.EAGAIN)):
					interrupted.Add(1)
				default:
					cases.Die(os.Getpid(), err)
				}
				if os.Getpid() != me {
					select {} // what forked this copy ends it
				}
			}
		})
	}
	wg.Wait()
	fmt.Println("done")
}

// storm forks n times while everything is busy: it serves, it is its own client, memory
// is allocated and collected, timers fire. Each child looks whether its copy is sound.
func storm(args []string) {
	l, err := net.Listen("tcp", ":80")
	if err != nil {
		cases.Die(err)
	}
	http.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		w.Write(b)
	})
	go http.Serve(l, nil)
	inside, err := net.Listen("tcp", "127.0.0.1:81")
	if err != nil {
		cases.Die(err)
	}
	go func() {
		for {
			c, err := inside.Accept()
			if err != nil {
				return
			}
			go io.Copy(c, c)
		}
	}()
	var ticks, talks atomic.Int64
	go func() {
		for range time.Tick(time.Millisecond) {
			ticks.Add(1)
		}
	}()
	go func() { // talks to itself, in memory: such connections a fork copies
		c, err := net.Dial("tcp", "127.0.0.1:81")
		if err != nil {
			cases.Die(err)
		}
		for b := make([]byte, 1000); ; talks.Add(1) {
			if _, err := c.Write(b); err != nil {
				cases.Die(err)
			}
			if _, err := io.ReadFull(c, b); err != nil {
				cases.Die(err)
			}
		}
	}()
	var store checked
	go func() {
		for i := 0; ; i++ {
			store.replace(i)
			if i%8 == 0 {
				time.Sleep(10 * time.Microsecond)
			}
		}
	}()
	for talks.Load() == 0 || ticks.Load() == 0 || store.rounds() == 0 {
		time.Sleep(time.Millisecond)
	}
	fmt.Println("serving")
	for i := range number(args[0]) {
		pid := fork(func() {
			t, k, r := ticks.Load(), talks.Load(), store.rounds()
			store.check()
			runtime.GC()
			for end := time.Now().Add(time.Minute); ticks.Load() == t || talks.Load() == k || store.rounds() == r; {
				if time.Now().After(end) {
					cases.Die("copy", i, "stands still: ticks", ticks.Load()-t, "talks", talks.Load()-k, "rounds", store.rounds()-r)
				}
				time.Sleep(100 * time.Microsecond)
			}
			store.check()
			os.Exit(i % 100)
		})
		wait(pid, i%100)
	}
	store.check()
	fmt.Println("done")
}

// checked is memory that changes all the time and that says whether it is whole.
type checked struct {
	mu     sync.Mutex
	chunks [64]struct {
		data []byte
		sum  [sha256.Size]byte
	}
	n int
}

func (c *checked) replace(i int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	x := &c.chunks[i%len(c.chunks)]
	x.data = bytes.Repeat([]byte{byte(i)}, 100+i*37%5000)
	x.sum = sha256.Sum256(x.data)
	c.n = i / len(c.chunks)
}

func (c *checked) rounds() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.n
}

func (c *checked) check() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, x := range c.chunks {
		if x.sum != sha256.Sum256(x.data) {
			cases.Die("memory", i, "of", os.Getpid(), "is not what was put there")
		}
	}
}
