package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"noyau.dev/test/internal/cases"
)

func unixgram(name string) *net.UnixAddr { return &net.UnixAddr{Name: name, Net: "unixgram"} }

func bound(name string) *net.UnixConn {
	c, err := net.ListenUnixgram("unixgram", unixgram(name))
	cases.Must(err)
	c.SetDeadline(time.Now().Add(time.Minute))
	return c
}

// nobody wants an error that says that no socket of the name receives.
func nobody(err error) {
	cases.Check(errors.Is(err, syscall.ENOENT) || errors.Is(err, syscall.ECONNREFUSED), err)
}

// datagrams: members reach each other's datagram sockets by name, by connect and by address, and
// know who has sent.
func datagrams([]string) {
	for _, name := range []string{socket("datagrams"), fmt.Sprintf("@datagrams-%d", os.Getpid())} {
		_, err := net.DialUnix("unixgram", nil, unixgram(name))
		nobody(err)
		c := bound(name)
		p := child("post", name)
		b := make([]byte, 100)
		for _, want := range []string{"connected", "", strings.Repeat("x", 100), "by address"} {
			n, from, err := c.ReadFromUnix(b)
			cases.Check(err == nil && string(b[:n]) == want, string(b[:n]), err)
			if want == "by address" {
				cases.Check(from != nil && filepath.Base(from.Name) == "post-answers", from)
				_, err := c.WriteToUnix([]byte("answer"), from)
				cases.Must(err)
			} else {
				cases.Check(from == nil || from.Name == "", from)
			}
		}
		n, _, flags, _, err := c.ReadMsgUnix(b[:5], nil)
		cases.Check(err == nil && string(b[:n]) == "01234" && flags&syscall.MSG_TRUNC != 0, n, flags, err)
		cases.Must(p.Wait())
		if name[0] != '@' { // abstract names are another's for each type of socket
			postStream([]string{name})
			cases.Must(child("post-stream", name).Wait())
		}
		cases.Must(c.Close())
		cases.Must(child("post-nobody", name).Wait())
	}
	fmt.Println("done")
}

func post(args []string) {
	c, err := net.DialUnix("unixgram", nil, unixgram(args[0]))
	cases.Must(err)
	cases.Check(c.RemoteAddr().String() == args[0], c.RemoteAddr())
	for _, s := range []string{"connected", "", strings.Repeat("x", 200)} {
		n, err := c.Write([]byte(s))
		cases.Check(n == len(s) && err == nil, n, err)
	}
	me := bound(socket("post-answers"))
	_, err = me.WriteToUnix([]byte("by address"), unixgram(args[0]))
	cases.Must(err)
	b := make([]byte, 100)
	n, from, err := me.ReadFromUnix(b)
	cases.Check(err == nil && string(b[:n]) == "answer" && from.Name == args[0], string(b[:n]), from, err)
	_, err = c.Write([]byte("0123456789"))
	cases.Must(err)
	cases.Must(me.Close())
	cases.Must(os.Remove(socket("post-answers")))
}

func postStream(args []string) {
	_, err := net.Dial("unix", args[0])
	cases.Check(errors.Is(err, syscall.EPROTOTYPE), err)
}

func postNobody(args []string) {
	_, err := net.DialUnix("unixgram", nil, unixgram(args[0]))
	nobody(err)
	c := bound("")
	_, err = c.WriteToUnix([]byte("x"), unixgram(args[0]))
	nobody(err)
}

// flood: a full queue holds up who sends, and loses nothing.
func flood([]string) {
	c := bound(socket("flood"))
	const senders, each = 3, 2000
	var list []interface{ Wait() error }
	for i := range senders {
		list = append(list, child("flooder", socket("flood"), fmt.Sprint(i), fmt.Sprint(each)))
	}
	time.Sleep(100 * time.Millisecond)
	next := map[string]int{}
	b := make([]byte, 3000)
	for range senders * each {
		n, err := c.Read(b)
		cases.Must(err)
		who, rest, _ := strings.Cut(string(b[:n]), " ")
		number, fill, _ := strings.Cut(rest, " ")
		cases.Check(number == fmt.Sprint(next[who]) && fill == filling(next[who]), who, number, next[who], len(fill))
		next[who]++
	}
	for _, p := range list {
		cases.Must(p.Wait())
	}
	fmt.Println("done")
}

func filling(i int) string { return strings.Repeat("f", i*7%2500) }

func flooder(args []string) {
	var each int
	fmt.Sscan(args[2], &each)
	c, err := net.DialUnix("unixgram", nil, unixgram(args[0]))
	cases.Must(err)
	c.SetDeadline(time.Now().Add(time.Minute))
	if args[1] == "1" { // a blocking descriptor, as the socket calls have it
		f, err := c.File()
		cases.Must(err)
		cases.Must(syscall.SetNonblock(int(f.Fd()), false))
		for i := range each {
			_, err := syscall.Write(int(f.Fd()), fmt.Appendf(nil, "%s %d %s", args[1], i, filling(i)))
			cases.Must(err)
		}
		return
	}
	for i := range each {
		_, err := c.Write(fmt.Appendf(nil, "%s %d %s", args[1], i, filling(i)))
		cases.Must(err)
	}
}

// datagramFork: a fork has its parent's socket, and its connections are made again. Whoever reads
// first has a datagram.
func datagramFork([]string) {
	const n = 50
	in, back := bound("/tmp/in"), bound("/tmp/back")
	out, err := net.DialUnix("unixgram", nil, unixgram("/tmp/in"))
	cases.Must(err)
	b := make([]byte, 100)
	for range 3 {
		join(fork(func() {
			_, err := out.Write([]byte("child's"))
			cases.Must(err)
			_, err = back.WriteToUnix([]byte("child's"), unixgram("/tmp/in"))
			cases.Must(err)
		}))
		for _, name := range []string{"", "/tmp/back"} {
			k, from, err := in.ReadFromUnix(b)
			cases.Check(err == nil && string(b[:k]) == "child's" && (name == "" || from.Name == name), string(b[:k]), from, err)
		}
	}
	workers := []int{}
	for range 2 {
		workers = append(workers, fork(func() {
			b := make([]byte, 100)
			for {
				k, err := in.Read(b)
				cases.Must(err)
				if string(b[:k]) == "end" {
					return
				}
				_, err = in.WriteToUnix(b[:k], unixgram("@result"))
				cases.Must(err)
			}
		}))
	}
	in.Close() // the parent only sends
	os.Remove("/tmp/in")
	result := bound("@result")
	go func() {
		for i := range n {
			_, err := out.Write(fmt.Appendf(nil, "%d", i))
			for errors.Is(err, syscall.ECONNREFUSED) { // it was connected to its own, which is closed
				out, err = net.DialUnix("unixgram", nil, unixgram("/tmp/in"))
				cases.Must(err)
				_, err = out.Write(fmt.Appendf(nil, "%d", i))
			}
			cases.Must(err)
		}
	}()
	seen := map[string]bool{}
	for range n {
		k, from, err := result.ReadFromUnix(b)
		cases.Check(err == nil && from.Name == "/tmp/in" && !seen[string(b[:k])], from, err)
		seen[string(b[:k])] = true
	}
	for range workers {
		_, err := out.Write([]byte("end"))
		cases.Must(err)
	}
	join(workers...)
	back.Close()
	fmt.Println("done")
}
