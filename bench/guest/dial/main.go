// Command dial makes many TCP connections, one byte each way on each, and counts
// those that hang. With -serve it only answers, for dials from outside.
package main

import (
	"flag"
	"fmt"
	"net"
	"os"

	"noyau.dev/bench/dials"
)

func main() {
	serve := flag.String("serve", "", "only answer dials at this `address`")
	n := flag.Int("n", 1000, "`count` of dials")
	parallel := flag.Int("parallel", 1, "`count` of dials at a time")
	busy := flag.Bool("busy", false, "compute all the while, never yielding")
	flag.Parse()
	addr := *serve
	if addr == "" {
		addr = "127.0.0.1:0"
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		fmt.Fprintln(os.Stderr, "dial:", err)
		os.Exit(1)
	}
	if *busy {
		go burn()
	}
	if *serve != "" {
		fmt.Println("listening", l.Addr())
		dials.Serve(l)
		return
	}
	go dials.Serve(l)
	r := dials.Dial(l.Addr().String(), *n, *parallel, nil)
	fmt.Println(r)
	if r.Failed > 0 {
		fmt.Fprintln(os.Stderr, "dial:", r.First)
	}
}

var sink uint64

// burn is a loop without a call in it: only the preemption tick takes the
// thread from it.
func burn() {
	x := uint64(1)
	for {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
		if x == 0 {
			sink++
		}
	}
}
