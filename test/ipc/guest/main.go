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

	"noyau.dev/pvm"
)

var cases = map[string]func(args []string){
	"stream": stream, "abstract": abstract, "packet": packet, "web": web, "names": names, "load": load, "rights": rights,
	"fork": forked, "prefork": prefork, "narrow": narrow, "narrowchild": narrowChild, "narrowfork": narrowFork, "narrowother": narrowOther,

	"dial": dial, "get": get, "packets": packets, "hammer": hammer, "probe": probe,
	"channel-listen": channelListen, "channel-dial": channelDial,
}

func main() {
	f := cases[os.Args[1]]
	if f == nil {
		die("no case", os.Args[1])
	}
	f(os.Args[2:])
}

func die(v ...any) {
	fmt.Fprintln(os.Stderr, v...)
	os.Exit(99)
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

func check(ok bool, v ...any) {
	if !ok {
		panic(fmt.Sprintln(v...))
	}
}

// child starts this program again.
func child(args ...string) *exec.Cmd {
	path, err := os.Executable()
	must(err)
	c := exec.Command(path, args...)
	c.Stdout, c.Stderr = os.Stdout, os.Stderr
	must(c.Start())
	return c
}

func socket(name string) string { return filepath.Join(os.TempDir(), name) }

// answer echoes what each connection says, with a word before it.
func answer(l net.Listener, n int) {
	for range n {
		c, err := l.Accept()
		must(err)
		go func() {
			defer c.Close()
			b, err := io.ReadAll(c)
			must(err)
			fmt.Fprintf(c, "got %s", b)
		}()
	}
}

// dial says something and prints the answer.
func dial(args []string) {
	c, err := net.Dial("unix", args[0])
	must(err)
	check(c.RemoteAddr().String() == args[0], c.RemoteAddr())
	fmt.Fprint(c, args[1])
	must(c.(*net.UnixConn).CloseWrite())
	b, err := io.ReadAll(c)
	must(err)
	fmt.Printf("%s\n", b)
}

func stream([]string) {
	path := socket("stream")
	l, err := net.Listen("unix", path)
	must(err)
	st, err := os.Stat(path)
	check(err == nil && st.Mode()&os.ModeSocket != 0, err)
	go answer(l, 3)
	for _, s := range []string{"one", strings.Repeat("x", 10)} {
		must(child("dial", path, s).Wait())
	}
	dial([]string{path, "self"}) // inside
	must(l.Close())
	c := child("probe", path)
	must(c.Wait())
	// The name is free again.
	l, err = net.Listen("unix", path)
	must(err)
	go answer(l, 1)
	must(child("dial", path, "again").Wait())
	fmt.Println("done")
}

// probe finds nobody.
func probe(args []string) {
	_, err := net.Dial("unix", args[0])
	check(errors.Is(err, syscall.ENOENT) || errors.Is(err, syscall.ECONNREFUSED), err)
}

func abstract([]string) {
	name := fmt.Sprintf("@noyau-test-%d", os.Getpid())
	l, err := net.Listen("unix", name)
	must(err)
	go answer(l, 1)
	must(child("dial", name, "x").Wait())
	fmt.Println("done")
}

func packets(args []string) {
	c, err := net.Dial("unixpacket", args[0])
	must(err)
	for _, s := range []string{"a", "bcd", strings.Repeat("e", 5000)} {
		_, err := c.Write([]byte(s))
		must(err)
	}
	b := make([]byte, 64)
	n, err := c.Read(b)
	fmt.Println(string(b[:n]), err)
	c.Close()
}

func packet([]string) {
	path := socket("packet")
	l, err := net.Listen("unixpacket", path)
	must(err)
	p := child("packets", path)
	c, err := l.Accept()
	must(err)
	b := make([]byte, 100)
	for _, want := range []int{1, 3, 100} { // cut to the buffer
		n, err := c.Read(b)
		check(n == want && err == nil, n, want, err)
	}
	_, err = c.Write([]byte("answer"))
	must(err)
	n, err := c.Read(b)
	check(n == 0 && err != nil, n, err)
	must(p.Wait())
	_, err = net.Dial("unix", path)
	check(errors.Is(err, syscall.EPROTOTYPE), err)
	fmt.Println("done")
}

func get(args []string) {
	client := http.Client{Transport: &http.Transport{Dial: func(_, _ string) (net.Conn, error) { return net.Dial("unix", args[0]) }}}
	for range 20 {
		r, err := client.Get("http://service/hello")
		must(err)
		b, err := io.ReadAll(r.Body)
		r.Body.Close()
		check(err == nil && string(b) == "path /hello", string(b), err)
	}
}

func web([]string) {
	path := socket("web")
	l, err := net.Listen("unix", path)
	must(err)
	go http.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprintf(w, "path %s", r.URL.Path) }))
	for _, c := range []*exec.Cmd{child("get", path), child("get", path), child("get", path)} {
		must(c.Wait())
	}
	fmt.Println("done")
}

// names: a name is one listener's.
func names([]string) {
	path := socket("names")
	l, err := net.Listen("unix", path)
	must(err)
	_, err = net.Listen("unix", path)
	check(errors.Is(err, syscall.EADDRINUSE), err)
	must(os.Remove(path))
	second, err := net.Listen("unix", path)
	must(err)
	go answer(second, 1)
	must(child("dial", path, "second").Wait())
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	l.Close()
	go answer(second, 1)
	must(child("dial", path, "second").Wait())
	fmt.Println("done")
}

func hammer(args []string) {
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for j := range 25 {
				c, err := net.Dial("unix", args[0])
				must(err)
				say := fmt.Sprintf("%d-%d", i, j)
				fmt.Fprint(c, say)
				must(c.(*net.UnixConn).CloseWrite())
				b, err := io.ReadAll(c)
				check(err == nil && string(b) == "got "+say, string(b), err)
				c.Close()
			}
		})
	}
	wg.Wait()
}

func load([]string) {
	path := socket("load")
	l, err := net.Listen("unix", path)
	must(err)
	go answer(l, 3*200)
	for _, c := range []*exec.Cmd{child("hammer", path), child("hammer", path), child("hammer", path)} {
		must(c.Wait())
	}
	fmt.Println("done")
}

// rights: descriptors do not go to others.
func rights([]string) {
	path := socket("rights")
	l, err := net.Listen("unix", path)
	must(err)
	p := child("dial", path, "x")
	c, err := l.Accept()
	must(err)
	_, _, err = c.(*net.UnixConn).WriteMsgUnix([]byte("x"), syscall.UnixRights(0), nil)
	check(errors.Is(err, syscall.EOPNOTSUPP), err)
	io.ReadAll(c) // what is not read resets the connection
	c.Close()
	must(p.Wait())
	fmt.Println("done")
}

func fork(f func()) int {
	pid, err := pvm.Fork()
	must(err)
	if pid == 0 {
		f()
		os.Exit(0)
	}
	return pid
}

func join(pids ...int) {
	for _, pid := range pids {
		st, err := pvm.Wait(pid)
		check(err == nil && st.ExitStatus() == 0, st, err)
	}
}

// forked: siblings find each other, whoever was there first.
func forked([]string) {
	r, w, err := pvm.Pipe()
	must(err)
	server := fork(func() {
		l, err := net.Listen("unix", "/tmp/late")
		must(err)
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

// prefork: forks share the queue of a listener.
func prefork([]string) {
	l, err := net.Listen("unix", "/tmp/prefork")
	must(err)
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
	must(l.Close())
	seen := map[string]bool{}
	for range 200 {
		c, err := net.Dial("unix", "/tmp/prefork")
		must(err)
		b, err := io.ReadAll(c)
		must(err)
		seen[string(b)] = true
		c.Close()
	}
	check(len(seen) > 0 && !seen["1"], seen)
	for _, pid := range workers {
		must(pvm.Signal(pid, syscall.SIGKILL))
		pvm.Wait(pid)
	}
	_, err = net.Dial("unix", "/tmp/prefork")
	check(err != nil)
	fmt.Println("done")
}

func channelListen(args []string) {
	l, err := net.Listen("unix", "@noyau/"+args[0])
	if err != nil {
		die(err)
	}
	fmt.Println("listening")
	go answer(l, 1)
	io.Copy(io.Discard, os.Stdin)
}

func channelDial(args []string) {
	c, err := net.Dial("unix", "@noyau/"+args[0])
	if err != nil {
		die(err)
	}
	fmt.Fprint(c, "across")
	must(c.(*net.UnixConn).CloseWrite())
	b, err := io.ReadAll(c)
	must(err)
	fmt.Printf("%s\n", b)
}

// refused says what a pVM without these rights may not do.
func refused(r pvm.Rights) {
	var e syscall.Errno
	if r&pvm.Net != 0 {
		_, err := net.Dial("tcp", "192.0.2.1:9")
		check(errors.As(err, &e) && e == syscall.EACCES, err)
	}
	if r&pvm.Volumes != 0 {
		_, err := os.ReadFile("/data/file")
		check(errors.Is(err, os.ErrPermission), err)
	} else if r&pvm.Write != 0 {
		b, err := os.ReadFile("/data/file")
		check(err == nil && string(b) == "content", string(b), err)
		for what, err := range map[string]error{
			"write": os.WriteFile("/data/file", nil, 0o600), "new": os.WriteFile("/data/new", nil, 0o600), "remove": os.Remove("/data/file"),
			"mkdir": os.Mkdir("/data/dir", 0o700), "rename": os.Rename("/data/file", "/data/other"), "chmod": os.Chmod("/data/file", 0o700),
			"truncate": os.Truncate("/data/file", 0), "symlink": os.Symlink("x", "/data/link"), "link": os.Link("/data/file", "/data/link"),
		} {
			check(errors.Is(err, syscall.EROFS), what, err)
		}
	}
	if r&pvm.Forking != 0 {
		_, err := pvm.Fork()
		check(errors.Is(err, os.ErrPermission), err)
	}
	if r&pvm.Exec != 0 {
		path, err := os.Executable()
		must(err)
		check(errors.Is(exec.Command(path, "probe", "/x").Run(), os.ErrPermission))
	}
	if r&pvm.Names != 0 {
		_, err := net.Listen("unix", "/tmp/narrow")
		check(errors.Is(err, syscall.EACCES), err)
		_, err = net.Dial("unix", "@noyau/any")
		check(errors.Is(err, syscall.EACCES), err)
	}
	if r&pvm.Signals != 0 {
		check(errors.Is(pvm.Signal(os.Getppid(), syscall.SIGTERM), syscall.EPERM))
	}
}

const most = pvm.Net | pvm.Write | pvm.Exec | pvm.Names

// narrow: what is given up is gone, for oneself and for those that one starts.
func narrow([]string) {
	must(os.WriteFile("/data/file", []byte("content"), 0o600))
	must(pvm.Narrow(pvm.Write))
	refused(pvm.Write)
	must(child("narrowchild", fmt.Sprint(uint(pvm.Write))).Wait())
	must(pvm.Narrow(most))
	must(pvm.Narrow(0)) // gives nothing back
	refused(most)
	must(pvm.Narrow(pvm.Volumes))
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
	must(os.WriteFile("/data/file", []byte("content"), 0o600))
	const r = most | pvm.Forking | pvm.Signals
	for range 3 {
		pid, err := pvm.ForkWithout(r)
		must(err)
		if pid == 0 {
			refused(r)
			os.Exit(0)
		}
		join(pid)
		join(fork(func() { must(os.WriteFile("/data/file", []byte("content"), 0o600)) }))
	}
	must(pvm.Narrow(pvm.Forking)) // with a child prepared ahead
	refused(pvm.Forking)
	fmt.Println("done")
}

// narrowOther: an ancestor narrows its descendants, and nobody else does.
func narrowOther([]string) {
	must(os.WriteFile("/data/file", []byte("content"), 0o600))
	go1, goW, err := pvm.Pipe()
	must(err)
	upR, upW, err := pvm.Pipe()
	must(err)
	pid := fork(func() {
		inner := fork(func() {
			upW.Write([]byte{1})
			go1.Read(make([]byte, 1))
			refused(most)
		})
		check(errors.Is(pvm.NarrowChild(os.Getppid(), pvm.Net), syscall.EPERM))
		check(errors.Is(pvm.NarrowChild(os.Getpid(), pvm.Net), syscall.EPERM))
		check(errors.Is(pvm.NarrowChild(1234, pvm.Net), syscall.ESRCH))
		join(inner)
	})
	upR.Read(make([]byte, 1))
	must(pvm.NarrowChild(pid, most))
	goW.Write([]byte{1})
	join(pid)
	must(os.WriteFile("/data/file", []byte("more"), 0o600))
	fmt.Println("done")
}
