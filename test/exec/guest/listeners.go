package main

import (
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"

	"noyau.dev/test/internal/cases"
)

// third is the listener that a child has as descriptor 3.
func third() net.Listener {
	f := os.NewFile(3, "listener")
	l, err := net.FileListener(f)
	cases.Must(err)
	cases.Must(f.Close())
	return l
}

// given answers some connections of the listener that it was given.
func given(args []string) {
	l := third()
	fmt.Println("ready", l.Addr().Network(), filepath.Base(l.Addr().String()))
	for range 3 {
		c, err := l.Accept()
		cases.Must(err)
		_, err = io.Copy(c, c)
		cases.Must(err)
		c.Close()
	}
	cases.Must(l.Close())
}

// listener gives a child a listener, and talks to it by the name that the listener has, whether
// it has the listener itself or not.
func listener([]string) {
	for i, network := range []string{"unix", "unixpacket", "unix", "unixpacket"} {
		path := filepath.Join(os.TempDir(), "given-"+network)
		l, err := net.Listen(network, path)
		cases.Must(err)
		l.(*net.UnixListener).SetUnlinkOnClose(false)
		f, err := l.(*net.UnixListener).File()
		cases.Must(err)
		c := self("given")
		c.ExtraFiles, c.Stderr = []*os.File{f}, os.Stderr
		out, err := c.StdoutPipe()
		cases.Must(err)
		cases.Must(c.Start())
		f.Close()
		if i < 2 {
			l.Close() // it is the child's alone
		}
		line := make([]byte, 64)
		n, err := out.Read(line)
		cases.Must(err)
		fmt.Print(string(line[:n]))
		for range 3 {
			conn, err := net.Dial(network, path)
			cases.Must(err)
			_, err = conn.Write([]byte("words"))
			cases.Must(err)
			b := make([]byte, 16)
			n, err := conn.Read(b)
			cases.Check(err == nil && string(b[:n]) == "words", string(b[:n]), err)
			conn.Close()
		}
		cases.Must(c.Wait())
		l.Close()
		_, err = net.Dial(network, path)
		cases.Check(err != nil)
		os.Remove(path)
	}
	fmt.Println("done")
}

// handover answers ten connections and starts the next generation with its listener.
func handover(args []string) {
	var n, most int
	fmt.Sscan(args[0], &n)
	fmt.Sscan(args[1], &most)
	var l net.Listener
	if n > 0 {
		l = third()
	} else {
		var err error
		l, err = net.Listen("tcp", ":80")
		cases.Must(err)
		fmt.Println("ready")
	}
	for range 10 {
		c, err := l.Accept()
		cases.Must(err)
		fmt.Fprint(c, n)
		c.Close()
	}
	if n+1 == most {
		return
	}
	f, err := l.(*net.TCPListener).File()
	cases.Must(err)
	c := self("handover", fmt.Sprint(n+1), fmt.Sprint(most))
	c.ExtraFiles, c.Stdout, c.Stderr = []*os.File{f}, os.Stdout, os.Stderr
	cases.Must(c.Start())
}
