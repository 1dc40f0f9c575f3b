// Ipc measures what two members of a family say to each other, in ns: ipc N [MS]. Before
// the first word of each kind it waits MS milliseconds, in which somebody can place the two on
// processors. As an ordinary process it does the same between itself and a process that it starts, by
// what Linux has for that.
package main

import (
	"bufio"
	"fmt"
	"io"
	"log"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"
)

// A link is one end of what two sides have in common.
type link struct {
	stream     *os.File
	send       func([]byte) error        // a message
	receive    func([]byte) (int, error) // one
	set        func(uint32)              // a word of shared memory, and wake who waits for it
	waitNot    func(uint32)              // until the word is another
	signalPeer func(syscall.Signal) error
}

// A kind is one way to talk: what the child does n times, and what the parent does for
// each sample.
type kind struct {
	name   string
	child  func(l *link, n int)
	parent func(l *link)
}

const (
	bulk    = 1 << 20
	burst   = 100
	message = 1 << 10
)

var kinds = []kind{
	{"round trip, stream", func(l *link, n int) {
		x := make([]byte, 1)
		for range n {
			full(l.stream, x)
			check(l.stream.Write(x))
		}
	}, func(l *link) {
		x := make([]byte, 1)
		check(l.stream.Write(x))
		full(l.stream, x)
	}},
	{"round trip, messages", func(l *link, n int) {
		x := make([]byte, 1)
		for range n {
			check(l.receive(x))
			check(0, l.send(x))
		}
	}, func(l *link) {
		x := make([]byte, 1)
		check(0, l.send(x))
		check(l.receive(x))
	}},
	{"round trip, shared memory", func(l *link, n int) {
		for range n {
			l.waitNot(0)
			l.set(0)
		}
	}, func(l *link) {
		l.set(1)
		l.waitNot(1)
	}},
	{"round trip, signals", func(l *link, n int) {
		for range n {
			<-usr1
			check(0, l.signalPeer(syscall.SIGUSR1))
		}
	}, func(l *link) {
		check(0, l.signalPeer(syscall.SIGUSR1))
		<-usr1
	}},
	{"1 MB through a stream", func(l *link, n int) {
		b := make([]byte, 64<<10)
		for range n {
			for left := bulk; left > 0; {
				left -= check(l.stream.Read(b[:min(left, len(b))]))
			}
			check(l.stream.Write(b[:1]))
		}
	}, func(l *link) {
		b := make([]byte, 64<<10)
		for range bulk / len(b) {
			check(l.stream.Write(b))
		}
		full(l.stream, b[:1])
	}},
	{"100 messages of 1 KiB, one way", func(l *link, n int) {
		b := make([]byte, message)
		for range n {
			for range burst {
				check(l.receive(b))
			}
			check(0, l.send(b[:1]))
		}
	}, func(l *link) {
		b := make([]byte, message)
		for range burst {
			check(0, l.send(b))
		}
		check(l.receive(b))
	}},
}

var usr1 = make(chan os.Signal, 1)

func check(n int, err error) int {
	if err != nil {
		log.Fatal(err)
	}
	return n
}

func full(r io.Reader, b []byte) { check(io.ReadFull(r, b)) }

const warmUp = 20

func main() {
	signal.Notify(usr1, syscall.SIGUSR1)
	if len(os.Args) > 3 { // of a native parent: kind, N, -
		k := kinds[number(os.Args[1])]
		k.child(inherited(), number(os.Args[2]))
		return
	}
	n, settle := number(os.Args[1]), 0
	if len(os.Args) > 2 {
		settle = number(os.Args[2])
	}
	out := bufio.NewWriter(os.Stdout)
	for i, k := range kinds {
		l, wait := begin(i, n+warmUp)
		time.Sleep(time.Duration(settle) * time.Millisecond)
		times := make([]time.Duration, 0, n)
		for j := range n + warmUp {
			t := time.Now()
			k.parent(l)
			if j >= warmUp {
				times = append(times, time.Since(t))
			}
		}
		wait()
		for _, d := range times {
			fmt.Fprintf(out, "%s: %d\n", k.name, d.Nanoseconds())
		}
	}
	out.Flush()
}

func number(s string) int {
	n, err := strconv.Atoi(s)
	if err != nil {
		log.Fatal(err)
	}
	return n
}

// begin starts the other side of kinds[i], n times.
func begin(i, n int) (*link, func()) {
	if l, wait, ok := family(i, n); ok {
		return l, wait
	}
	return processes(i, n)
}
