package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"noyau.dev/pvm"
	"noyau.dev/test/internal/cases"
)

func must[T any](v T, err error) T {
	if err != nil {
		cases.Die(err)
	}
	return v
}

func ipc([]string) {
	pipe()
	queue()
	memory()
	fmt.Println("done")
}

// pipe moves more than fits at once, and sees the end.
func pipe() {
	r, w, err := pvm.Pipe()
	if err != nil {
		cases.Die(err)
	}
	data := bytes.Repeat([]byte("0123456789"), 100_000)
	pid := fork(func() {
		r.Close()
		if _, err := w.Write(data); err != nil {
			cases.Die(err)
		}
	})
	w.Close()
	if got := must(io.ReadAll(r)); !bytes.Equal(got, data) {
		cases.Die("the pipe gave", len(got), "bytes")
	}
	r.Close()
	wait(pid, 0)
	// Nobody reads.
	r, w, err = pvm.Pipe()
	if err != nil {
		cases.Die(err)
	}
	r.Close()
	// For a moment the monitor, which has made the pipe, has both ends as well.
	for i := 0; err == nil; i++ {
		if _, err = w.Write([]byte("x")); i == 1000 {
			cases.Die("writes to nobody go well")
		}
		time.Sleep(time.Millisecond)
	}
	w.Close()
}

// queue: workers take jobs and send results; each job is done once.
func queue() {
	jobs, results := must(pvm.NewQueue()), must(pvm.NewQueue())
	if err := jobs.Send(nil); !errors.Is(err, pvm.ErrMessage) {
		cases.Die("empty message:", err)
	}
	const workers, n = 4, 2000
	var pids []int
	for range workers {
		pids = append(pids, fork(func() {
			jobs.CloseSend()
			results.CloseReceive()
			b := make([]byte, 100)
			for {
				k, err := jobs.Receive(b)
				if err == io.EOF {
					return
				}
				if err != nil {
					cases.Die(err)
				}
				if err := results.Send(append([]byte("did "), b[:k]...)); err != nil {
					cases.Die(err)
				}
			}
		}))
	}
	jobs.CloseReceive()
	results.CloseSend()
	go func() {
		for i := range n {
			if err := jobs.Send(fmt.Append(nil, i)); err != nil {
				cases.Die(err)
			}
		}
		jobs.CloseSend()
	}()
	seen := map[string]bool{}
	b := make([]byte, 100)
	for {
		k, err := results.Receive(b)
		if err == io.EOF {
			break
		}
		seen[string(b[:k])] = true
	}
	if len(seen) != n || !seen["did 1999"] {
		cases.Die("results:", len(seen))
	}
	for _, p := range pids {
		wait(p, 0)
	}
}

// memory: members count together, and wait for each other.
func memory() {
	m := must(pvm.Share(4096))
	n, turn := m.Uint64(0), m.Uint32(64)
	var pids []int
	for range 4 {
		pids = append(pids, fork(func() {
			for range 10_000 {
				n.Add(1)
			}
		}))
	}
	for _, p := range pids {
		wait(p, 0)
	}
	if n.Load() != 40_000 {
		cases.Die("counted", n.Load())
	}
	// In turns: 0 is the parent's, 1 the child's.
	pid := fork(func() {
		for range 500 {
			if err := m.Wait(turn, 0); err != nil {
				cases.Die(err)
			}
			turn.Store(0)
			m.Wake()
		}
	})
	for range 500 {
		turn.Store(1)
		m.Wake()
		if err := m.Wait(turn, 1); err != nil {
			cases.Die(err)
		}
	}
	wait(pid, 0)
	// Several goroutines of several members wait for one number.
	turn.Store(0)
	pid = fork(func() {
		var wg sync.WaitGroup
		for range 10 {
			wg.Go(func() { m.Wait(turn, 0) })
		}
		wg.Wait()
	})
	time.Sleep(10 * time.Millisecond)
	turn.Store(7)
	m.Wake()
	wait(pid, 0)
}

// trip prints the ns of one round trip by each kind.
func trip(args []string) {
	n := number(args[0])
	show := func(kind string, t time.Time) {
		fmt.Println(kind, time.Since(t).Nanoseconds()/int64(n))
	}
	a, b, err := pvm.Pair()
	if err != nil {
		cases.Die(err)
	}
	x := make([]byte, 1)
	pid := fork(func() {
		for range n {
			io.ReadFull(b, x)
			b.Write(x)
		}
	})
	t := time.Now()
	for range n {
		a.Write(x)
		io.ReadFull(a, x)
	}
	show("pair", t)
	wait(pid, 0)
	to, from := must(pvm.NewQueue()), must(pvm.NewQueue())
	pid = fork(func() {
		for range n {
			to.Receive(x)
			from.Send(x)
		}
	})
	t = time.Now()
	for range n {
		to.Send(x)
		from.Receive(x)
	}
	show("queue", t)
	wait(pid, 0)
	m := must(pvm.Share(64))
	v := m.Uint32(0)
	pid = fork(func() {
		for range n {
			m.Wait(v, 0)
			v.Store(0)
			m.Wake()
		}
	})
	t = time.Now()
	for range n {
		v.Store(1)
		m.Wake()
		m.Wait(v, 1)
	}
	show("memory", t)
	wait(pid, 0)
	os.Stdout.Sync()
}
