// Unix measures round trips between two members of a family that find each other by the names
// of unix sockets, in ns: unix N MS. Before each kind it waits MS milliseconds, in which
// somebody can place the two on processors. As an ordinary process it does the same with a process that it
// starts.
package main

import (
	"fmt"
	"log"
	"net"
	"os"
	"os/exec"
	"strconv"
	"time"

	"noyau.dev/pvm"
)

var kinds = []struct{ network, name string }{{"unix", "stream"}, {"unixpacket", "packets"}, {"unixgram", "datagrams"}}

const warmUp = 20

func main() {
	if len(os.Args) == 2 { // of a native parent: kind
		answer(os.Args[1])
		return
	}
	n, settle := number(os.Args[1]), time.Duration(number(os.Args[2]))*time.Millisecond
	for _, k := range kinds {
		ask, end := begin(k.network)
		time.Sleep(settle)
		times := make([]time.Duration, 0, n)
		for i := range n + warmUp {
			t := time.Now()
			ask()
			if i >= warmUp {
				times = append(times, time.Since(t))
			}
		}
		end()
		for _, d := range times {
			fmt.Printf("round trip, %s by name: %d\n", k.name, d.Nanoseconds())
		}
	}
}

const here, there = "@noyau-bench-here", "@noyau-bench-there"

func address(network, name string) *net.UnixAddr { return &net.UnixAddr{Name: name, Net: network} }

// begin starts the other side. ask is a round trip.
func begin(network string) (ask, end func()) {
	b := make([]byte, 1)
	if network == "unixgram" {
		c, err := net.ListenUnixgram(network, address(network, here))
		check(err)
		wait := start(network)
		_, from, err := c.ReadFromUnix(b) // it is there
		check(err)
		return func() {
				_, err := c.WriteToUnix(b, from)
				check(err)
				_, err = c.Read(b)
				check(err)
			}, func() {
				_, err := c.WriteToUnix(nil, from)
				check(err)
				wait()
				c.Close()
			}
	}
	l, err := net.Listen(network, here)
	check(err)
	wait := start(network)
	c, err := l.Accept()
	check(err)
	l.Close()
	return func() {
			_, err := c.Write(b)
			check(err)
			_, err = c.Read(b)
			check(err)
		}, func() {
			c.Close()
			wait()
		}
}

// start runs answer in a fork, or in another process.
func start(network string) (wait func()) {
	pid, err := pvm.Fork()
	if err == nil && pid == 0 {
		answer(network)
		os.Exit(0)
	}
	if err == nil {
		return func() {
			s, err := pvm.Wait(pid)
			check(err)
			if s != 0 {
				log.Fatal("the other side ended with ", s)
			}
		}
	}
	c := exec.Command("/proc/self/exe", network)
	c.Stderr = os.Stderr
	check(c.Start())
	return func() { check(c.Wait()) }
}

func answer(network string) {
	b := make([]byte, 1)
	if network == "unixgram" {
		c, err := net.DialUnix(network, address(network, there), address(network, here))
		check(err)
		for n := 1; n > 0; {
			_, err := c.Write(b)
			check(err)
			n, err = c.Read(b)
			check(err)
		}
		return
	}
	c, err := net.Dial(network, here)
	check(err)
	for {
		if n, err := c.Read(b); n == 0 || err != nil {
			return
		}
		_, err := c.Write(b)
		check(err)
	}
}

func number(s string) int {
	n, err := strconv.Atoi(s)
	check(err)
	return n
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
