// Command calls measures what system calls cost, in nanoseconds each.
package main

import (
	"flag"
	"fmt"
	"net"
	"os"
	"syscall"
	"time"
)

func main() {
	each := flag.Duration("t", 200*time.Millisecond, "`time` for each measurement")
	flag.Parse()

	measure("getpid", *each, func(n int) error {
		for range n {
			syscall.Getpid()
		}
		return nil
	})

	f, err := os.CreateTemp("", "calls-")
	check(err)
	defer os.Remove(f.Name())
	_, err = f.Write(make([]byte, 64))
	check(err)
	var b [64]byte
	measure("pread of 64 bytes of a file in /tmp", *each, func(n int) error {
		for range n {
			if _, err := syscall.Pread(int(f.Fd()), b[:], 0); err != nil {
				return err
			}
		}
		return nil
	})
	measure("stat of a file in /tmp", *each, func(n int) error {
		for range n {
			if _, err := os.Stat(f.Name()); err != nil {
				return err
			}
		}
		return nil
	})

	r1, w1, err := os.Pipe()
	check(err)
	r2, w2, err := os.Pipe()
	check(err)
	pingPong("1 byte to and fro over two pipes", *each, r1, w2, w1, r2)

	l, err := net.Listen("tcp", "127.0.0.1:0")
	check(err)
	there, err := net.Dial("tcp", l.Addr().String())
	check(err)
	here, err := l.Accept()
	check(err)
	pingPong("1 byte to and fro over loopback TCP", *each, here, here, there, there)
}

type reader interface{ Read([]byte) (int, error) }
type writer interface{ Write([]byte) (int, error) }

// pingPong sends a byte by out, which another goroutine reads from echoIn and
// sends back by echoOut to in.
func pingPong(name string, each time.Duration, echoIn reader, echoOut writer, out writer, in reader) {
	go func() {
		var b [1]byte
		for {
			if _, err := echoIn.Read(b[:]); err != nil {
				return
			}
			if _, err := echoOut.Write(b[:]); err != nil {
				return
			}
		}
	}()
	var b [1]byte
	measure(name, each, func(n int) error {
		for range n {
			if _, err := out.Write(b[:]); err != nil {
				return err
			}
			if _, err := in.Read(b[:]); err != nil {
				return err
			}
		}
		return nil
	})
}

// measure calls f with growing counts until it takes the time given.
func measure(name string, each time.Duration, f func(n int) error) {
	for n := 100; ; n *= 2 {
		start := time.Now()
		check(f(n))
		if took := time.Since(start); took >= each {
			fmt.Printf("%s: %.1f\n", name, float64(took)/float64(n))
			return
		}
	}
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "calls:", err)
		os.Exit(1)
	}
}
