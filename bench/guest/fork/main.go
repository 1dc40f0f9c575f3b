// Fork measures fork and round trips between members of a family, in ns: fork N.
package main

import (
	"fmt"
	"io"
	"log"
	"os"
	"runtime"
	"strconv"
	"time"

	"noyau.dev/pvm"
)

var heap [][]byte

func must[T any](v T, err error) T {
	if err != nil {
		log.Fatal(err)
	}
	return v
}

func fork(child func()) int {
	pid := must(pvm.Fork())
	if pid == 0 {
		child()
		os.Exit(0)
	}
	return pid
}

func main() {
	n := must(strconv.Atoi(os.Args[1]))
	for range 10 << 10 {
		heap = append(heap, make([]byte, 1<<10))
	}
	runtime.GC()
	for range n {
		t := time.Now()
		must(pvm.Wait(fork(func() {
			fmt.Printf("fork to the child's first instruction, 10 MB: %d\n", time.Since(t).Nanoseconds())
		})))
	}
	trips := 20 * n
	measure := func(what string, there, back func()) {
		pid := fork(func() {
			for range trips {
				back()
			}
		})
		t := time.Now()
		for range trips {
			there()
		}
		fmt.Printf("%s: %d\n", what, time.Since(t).Nanoseconds()/int64(trips))
		must(pvm.Wait(pid))
	}
	x := make([]byte, 1)
	a, b, err := pvm.Pair()
	if err != nil {
		log.Fatal(err)
	}
	measure("round trip, stream",
		func() { must(a.Write(x)); must(io.ReadFull(a, x)) },
		func() { must(io.ReadFull(b, x)); must(b.Write(x)) })
	to, from := must(pvm.NewQueue()), must(pvm.NewQueue())
	check := func(err error) { must(0, err) }
	measure("round trip, messages",
		func() { check(to.Send(x)); must(from.Receive(x)) },
		func() { must(to.Receive(x)); check(from.Send(x)) })
	m := must(pvm.Share(64))
	v := m.Uint32(0)
	measure("round trip, shared memory",
		func() { v.Store(1); check(m.Wake()); check(m.Wait(v, 1)) },
		func() { check(m.Wait(v, 0)); v.Store(0); check(m.Wake()) })
}
