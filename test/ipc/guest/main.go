// Guest is what the tests of package ipc run, natively and as a pVM: its first argument
// says what.
package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"noyau.dev/pvm"
	"noyau.dev/test/internal/cases"
)

func main() {
	cases.Run(map[string]func(args []string){
		"stream": stream, "abstract": abstract, "packet": packet, "web": web, "names": names, "load": load, "rights": rights,
		"datagrams": datagrams, "post": post, "post-stream": postStream, "post-nobody": postNobody, "flood": flood, "flooder": flooder,
		"datagramfork": datagramFork,
		"fork":         forked, "prefork": prefork, "supervised": supervised, "narrow": narrow, "narrowchild": narrowChild, "narrowfork": narrowFork, "narrowother": narrowOther,

		"dial": dial, "get": get, "packets": packets, "hammer": hammer, "probe": probe,
		"channel-listen": channelListen, "channel-dial": channelDial,
	})
}

// child starts this program again.
func child(args ...string) *exec.Cmd {
	path, err := os.Executable()
	cases.Must(err)
	c := exec.Command(path, args...)
	c.Stdout, c.Stderr = os.Stdout, os.Stderr
	cases.Must(c.Start())
	return c
}

func socket(name string) string { return filepath.Join(os.TempDir(), name) }

// answer echoes what each connection says, with a word before it.
func answer(l net.Listener, n int) {
	for range n {
		c, err := l.Accept()
		cases.Must(err)
		go func() {
			defer c.Close()
			cases.Must(c.(*net.UnixConn).SetReadBuffer(100_000))
			b, err := io.ReadAll(c)
			cases.Must(err)
			fmt.Fprintf(c, "got %s", b)
		}()
	}
}

// dial says something and prints the answer.
func dial(args []string) {
	c, err := net.Dial("unix", args[0])
	cases.Must(err)
	cases.Check(c.RemoteAddr().String() == args[0], c.RemoteAddr())
	cases.Must(c.(*net.UnixConn).SetWriteBuffer(100_000))
	fmt.Fprint(c, args[1])
	cases.Must(c.(*net.UnixConn).CloseWrite())
	_, err = c.Write([]byte("too late"))
	cases.Check(errors.Is(err, syscall.EPIPE), err)
	b, err := io.ReadAll(c)
	cases.Must(err)
	fmt.Printf("%s\n", b)
}

func stream([]string) {
	path := socket("stream")
	l, err := net.Listen("unix", path)
	cases.Must(err)
	st, err := os.Stat(path)
	cases.Check(err == nil && st.Mode()&os.ModeSocket != 0, err)
	go answer(l, 3)
	for _, s := range []string{"one", strings.Repeat("x", 10)} {
		cases.Must(child("dial", path, s).Wait())
	}
	dial([]string{path, "self"}) // inside
	cases.Must(l.Close())
	c := child("probe", path)
	cases.Must(c.Wait())
	// The name is free again.
	l, err = net.Listen("unix", path)
	cases.Must(err)
	go answer(l, 1)
	cases.Must(child("dial", path, "again").Wait())
	fmt.Println("done")
}

// probe finds nobody.
func probe(args []string) {
	_, err := net.Dial("unix", args[0])
	nobody(err)
}

func abstract([]string) {
	name := fmt.Sprintf("@noyau-test-%d", os.Getpid())
	l, err := net.Listen("unix", name)
	cases.Must(err)
	go answer(l, 1)
	cases.Must(child("dial", name, "x").Wait())
	fmt.Println("done")
}

func packets(args []string) {
	c, err := net.Dial("unixpacket", args[0])
	cases.Must(err)
	for _, s := range []string{"a", "bcd", strings.Repeat("e", 5000)} {
		_, err := c.Write([]byte(s))
		cases.Must(err)
	}
	for i := range 1000 {
		_, err := fmt.Fprint(c, strings.Repeat("f", i%30), i)
		cases.Must(err)
	}
	cases.Must(c.(*net.UnixConn).CloseWrite())
	b := make([]byte, 64)
	n, err := c.Read(b)
	fmt.Println(string(b[:n]), err)
	c.Close()
}

func packet([]string) {
	path := socket("packet")
	l, err := net.Listen("unixpacket", path)
	cases.Must(err)
	p := child("packets", path)
	c, err := l.Accept()
	cases.Must(err)
	b := make([]byte, 100)
	for _, want := range []int{1, 3, 100} { // cut to the buffer
		n, err := c.Read(b)
		cases.Check(n == want && err == nil, n, want, err)
	}
	for i := range 1000 {
		n, err := c.Read(b)
		want := fmt.Sprint(strings.Repeat("f", i%30), i)
		cases.Check(err == nil && string(b[:n]) == want, string(b[:n]), want, err)
	}
	n, err := c.Read(b) // it sends no more, and still reads
	cases.Check(n == 0 && err == io.EOF, n, err)
	_, err = c.Write([]byte("answer"))
	cases.Must(err)
	cases.Must(p.Wait())
	_, err = net.Dial("unix", path)
	cases.Check(errors.Is(err, syscall.EPROTOTYPE), err)
	fmt.Println("done")
}

func get(args []string) {
	client := http.Client{Transport: &http.Transport{Dial: func(_, _ string) (net.Conn, error) { return net.Dial("unix", args[0]) }}}
	for range 20 {
		r, err := client.Get("http://service/hello")
		cases.Must(err)
		b, err := io.ReadAll(r.Body)
		r.Body.Close()
		cases.Check(err == nil && string(b) == "path /hello", string(b), err)
	}
}

func web([]string) {
	path := socket("web")
	l, err := net.Listen("unix", path)
	cases.Must(err)
	go http.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprintf(w, "path %s", r.URL.Path) }))
	for _, c := range []*exec.Cmd{child("get", path), child("get", path), child("get", path)} {
		cases.Must(c.Wait())
	}
	fmt.Println("done")
}

// names: a name is one listener's.
func names([]string) {
	path := socket("names")
	l, err := net.Listen("unix", path)
	cases.Must(err)
	_, err = net.Listen("unix", path)
	cases.Check(errors.Is(err, syscall.EADDRINUSE), err)
	cases.Must(os.Remove(path))
	second, err := net.Listen("unix", path)
	cases.Must(err)
	go answer(second, 1)
	cases.Must(child("dial", path, "second").Wait())
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	l.Close()
	go answer(second, 1)
	cases.Must(child("dial", path, "second").Wait())
	fmt.Println("done")
}

func hammer(args []string) {
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for j := range 25 {
				c, err := net.Dial("unix", args[0])
				cases.Must(err)
				say := fmt.Sprintf("%d-%d", i, j)
				fmt.Fprint(c, say)
				cases.Must(c.(*net.UnixConn).CloseWrite())
				b, err := io.ReadAll(c)
				cases.Check(err == nil && string(b) == "got "+say, string(b), err)
				c.Close()
			}
		})
	}
	wg.Wait()
}

func load([]string) {
	path := socket("load")
	l, err := net.Listen("unix", path)
	cases.Must(err)
	go answer(l, 3*200)
	for _, c := range []*exec.Cmd{child("hammer", path), child("hammer", path), child("hammer", path)} {
		cases.Must(c.Wait())
	}
	fmt.Println("done")
}

// rights: descriptors do not go to others.
func rights([]string) {
	path := socket("rights")
	l, err := net.Listen("unix", path)
	cases.Must(err)
	p := child("dial", path, "x")
	c, err := l.Accept()
	cases.Must(err)
	_, _, err = c.(*net.UnixConn).WriteMsgUnix([]byte("x"), syscall.UnixRights(0), nil)
	cases.Check(errors.Is(err, syscall.EOPNOTSUPP), err)
	io.ReadAll(c) // what is not read resets the connection
	c.Close()
	cases.Must(p.Wait())
	fmt.Println("done")
}

func fork(f func()) int {
	pid, err := pvm.Fork()
	cases.Must(err)
	if pid == 0 {
		f()
		os.Exit(0)
	}
	return pid
}

func join(pids ...int) {
	for _, pid := range pids {
		st, err := pvm.Wait(pid)
		cases.Check(err == nil && st.ExitStatus() == 0, st, err)
	}
}

// forked: siblings find each other, whoever was there first.
func forked([]string) {
	r, w, err := pvm.Pipe()
	cases.Must(err)
	server := fork(func() {
		l, err := net.Listen("unix", "/tmp/late")
		cases.Must(err)
		w.Write([]byte("x"))
		answer(l, 2)
		b := make([]byte, 1)
		r.Read(b) // the connections are served by goroutines
	})
	r.Read(make([]byte, 1))
	dial([]string{"/tmp/late", "parent"})
	join(fork(func() { dial([]string{"/tmp/late", "sibling"}) }))
	w.Write([]byte("x"))
	join(server)
	fmt.Println("done")
}

// supervised: who has the listener too, and does not accept, reaches those that do, and one
// that is alone again reaches itself.
func supervised([]string) {
	for _, name := range []string{"/tmp/supervised", "@supervised"} {
		l, err := net.Listen("unix", name)
		cases.Must(err)
		dial := func() string {
			c, err := net.Dial("unix", name)
			cases.Must(err)
			defer c.Close()
			c.SetDeadline(time.Now().Add(10 * time.Second))
			b, err := io.ReadAll(c)
			cases.Must(err)
			return string(b)
		}
		answer := func(n int) {
			for range n {
				c, err := l.Accept()
				cases.Must(err)
				fmt.Fprintf(c, "%d", os.Getpid())
				c.Close()
			}
		}
		worker := fork(func() { answer(20) })
		for range 20 {
			cases.Check(dial() == fmt.Sprint(worker), name)
		}
		join(worker)
		join(fork(func() { go answer(1); cases.Check(dial() == fmt.Sprint(os.Getpid()), name) }))
		go answer(1)
		cases.Check(dial() == "1", name)
		cases.Must(l.Close())
	}
	fmt.Println("done")
}

// prefork: forks share the queue of a listener.
func prefork([]string) {
	l, err := net.Listen("unix", "/tmp/prefork")
	cases.Must(err)
	var workers []int
	for range 3 {
		workers = append(workers, fork(func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				fmt.Fprintf(c, "%d", os.Getpid())
				c.Close()
			}
		}))
	}
	cases.Must(l.Close())
	seen := map[string]bool{}
	for range 200 {
		c, err := net.Dial("unix", "/tmp/prefork")
		cases.Must(err)
		b, err := io.ReadAll(c)
		cases.Must(err)
		seen[string(b)] = true
		c.Close()
	}
	cases.Check(len(seen) > 0 && !seen["1"], seen)
	for _, pid := range workers {
		cases.Must(pvm.Signal(pid, syscall.SIGKILL))
		pvm.Wait(pid)
	}
	_, err = net.Dial("unix", "/tmp/prefork")
	cases.Check(err != nil)
	fmt.Println("done")
}

func channelListen(args []string) {
	l, err := net.Listen("unix", "@noyau/"+args[0])
	if err != nil {
		cases.Die(err)
	}
	fmt.Println("listening")
	go answer(l, 1)
	io.Copy(io.Discard, os.Stdin)
}

func channelDial(args []string) {
	c, err := net.Dial("unix", "@noyau/"+args[0])
	if err != nil {
		cases.Die(err)
	}
	fmt.Fprint(c, "across")
	cases.Must(c.(*net.UnixConn).CloseWrite())
	b, err := io.ReadAll(c)
	cases.Must(err)
	fmt.Printf("%s\n", b)
}

// refused says what a pVM without these rights may not do.
func refused(r pvm.Rights) {
	var e syscall.Errno
	if r&pvm.Net != 0 {
		_, err := net.Dial("tcp", "192.0.2.1:9")
		cases.Check(errors.As(err, &e) && e == syscall.EACCES, err)
	}
	if r&pvm.Volumes != 0 {
		_, err := os.ReadFile("/data/file")
		cases.Check(errors.Is(err, os.ErrPermission), err)
	} else if r&pvm.Write != 0 {
		b, err := os.ReadFile("/data/file")
		cases.Check(err == nil && string(b) == "content", string(b), err)
		for what, err := range map[string]error{
			"write": os.WriteFile("/data/file", nil, 0o600), "new": os.WriteFile("/data/new", nil, 0o600), "remove": os.Remove("/data/file"),
			"mkdir": os.Mkdir("/data/dir", 0o700), "rename": os.Rename("/data/file", "/data/other"), "chmod": os.Chmod("/data/file", 0o700),
			"truncate": os.Truncate("/data/file", 0), "symlink": os.Symlink("x", "/data/link"), "link": os.Link("/data/file", "/data/link"),
		} {
			cases.Check(errors.Is(err, syscall.EROFS), what, err)
		}
	}
	if r&pvm.Forking != 0 {
		_, err := pvm.Fork()
		cases.Check(errors.Is(err, os.ErrPermission), err)
	}
	if r&pvm.Exec != 0 {
		path, err := os.Executable()
		cases.Must(err)
		cases.Check(errors.Is(exec.Command(path, "probe", "/x").Run(), os.ErrPermission))
	}
	if r&pvm.Names != 0 {
		_, err := net.Listen("unix", "/tmp/narrow")
		cases.Check(errors.Is(err, syscall.EACCES), err)
		_, err = net.Dial("unix", "@noyau/any")
		cases.Check(errors.Is(err, syscall.EACCES), err)
		_, err = net.Dial("unixgram", "/tmp/narrow")
		cases.Check(errors.Is(err, syscall.EACCES), err)
		bound("@narrow").Close() // it is its own
	}
	if r&pvm.Signals != 0 {
		cases.Check(errors.Is(pvm.Signal(os.Getppid(), syscall.SIGTERM), syscall.EPERM))
	}
}

const most = pvm.Net | pvm.Write | pvm.Exec | pvm.Names

// narrow: what is given up is gone, for oneself and for those that one starts.
func narrow([]string) {
	cases.Must(os.WriteFile("/data/file", []byte("content"), 0o600))
	cases.Must(pvm.Narrow(pvm.Write))
	refused(pvm.Write)
	cases.Must(child("narrowchild", fmt.Sprint(uint(pvm.Write))).Wait())
	cases.Must(pvm.Narrow(most))
	cases.Must(pvm.Narrow(0)) // gives nothing back
	refused(most)
	cases.Must(pvm.Narrow(pvm.Volumes))
	refused(pvm.Volumes)
	fmt.Println("done")
}

func narrowChild(args []string) {
	var r uint
	fmt.Sscan(args[0], &r)
	refused(pvm.Rights(r))
}

// narrowFork: a fork is narrower from the start, its parent is not.
func narrowFork([]string) {
	cases.Must(os.WriteFile("/data/file", []byte("content"), 0o600))
	const r = most | pvm.Forking | pvm.Signals
	for range 3 {
		pid, err := pvm.ForkWithout(r)
		cases.Must(err)
		if pid == 0 {
			refused(r)
			os.Exit(0)
		}
		join(pid)
		join(fork(func() { cases.Must(os.WriteFile("/data/file", []byte("content"), 0o600)) }))
	}
	cases.Must(pvm.Narrow(pvm.Forking)) // with a child prepared ahead
	refused(pvm.Forking)
	fmt.Println("done")
}

// narrowOther: an ancestor narrows its descendants, and nobody else does.
func narrowOther([]string) {
	cases.Must(os.WriteFile("/data/file", []byte("content"), 0o600))
	go1, goW, err := pvm.Pipe()
	cases.Must(err)
	upR, upW, err := pvm.Pipe()
	cases.Must(err)
	pid := fork(func() {
		inner := fork(func() {
			upW.Write([]byte{1})
			go1.Read(make([]byte, 1))
			refused(most)
		})
		cases.Check(errors.Is(pvm.NarrowChild(os.Getppid(), pvm.Net), syscall.EPERM))
		cases.Check(errors.Is(pvm.NarrowChild(os.Getpid(), pvm.Net), syscall.EPERM))
		cases.Check(errors.Is(pvm.NarrowChild(1234, pvm.Net), syscall.ESRCH))
		join(inner)
	})
	upR.Read(make([]byte, 1))
	cases.Must(pvm.NarrowChild(pid, most))
	goW.Write([]byte{1})
	join(pid)
	cases.Must(os.WriteFile("/data/file", []byte("more"), 0o600))
	fmt.Println("done")
}
