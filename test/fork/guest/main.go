// Guest is what the tests of package fork run as a pVM: its first argument says what.
package main

import (
	"bufio"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	mrand "math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"

	"noyau.dev/pvm"
	"noyau.dev/test/internal/cases"
)

func main() {
	cases.Run(map[string]func(args []string){
		"loop": loop, "ids": ids, "random": random, "http": serve, "bomb": bomb, "at-once": atOnce, "deadlock": deadlock,
		"goroutines": goroutines, "connection": connection, "signals": signals, "file": file,
		"orphan": orphan, "wild": wild, "listen": listen, "crash": crash, "dead": dead, "groups": groups, "time": timing, "idle": idle, "ipc": ipc, "count": count, "files": files, "udp": udp, "template": template, "trip": trip,
		"ahead": ahead, "crowd": crowd, "leak": leak, "together": together, "storm": storm,
		"links": links, "links-narrow": linksNarrow, "signal-trip": signalTrip,
		"killed": killed, "forged": forged, "pairs": pairFiles, "locked": locked, "idle-pairs": idlePairs, "turns": turns, "little": little, "rung": rung, "many": many,
	})
}

func number(s string) int {
	n, err := strconv.Atoi(s)
	if err != nil {
		cases.Die(err)
	}
	return n
}

// fork runs child in a fork and returns its id in the parent.
func fork(child func()) int {
	pid, err := pvm.Fork()
	if err != nil {
		cases.Die("fork:", err)
	}
	if pid == 0 {
		child()
		os.Exit(0)
	}
	return pid
}

func wait(pid, code int) {
	s, err := pvm.Wait(pid)
	if err != nil || !s.Exited() || s.ExitStatus() != code {
		cases.Die("waiting for", pid, err, "status", s, "want", code)
	}
}

// loop forks n times, one after the other.
func loop(args []string) {
	for i := range number(args[0]) {
		code := i % 200
		wait(fork(func() { os.Exit(code) }), code)
	}
	fmt.Println("done")
}

func ids([]string) {
	name := func() string { h, _ := os.Hostname(); return h }
	mine := name()
	pid := fork(func() {
		if os.Getppid() != 1 || os.Getpid() != 2 || name() == mine {
			cases.Die("child", os.Getpid(), os.Getppid(), name())
		}
		wait(fork(func() {
			if os.Getppid() != 2 {
				cases.Die("grandchild of", os.Getppid())
			}
		}), 0)
	})
	wait(pid, 0)
	if _, err := pvm.Wait(pid); !errors.Is(err, syscall.ECHILD) {
		cases.Die("second wait:", err)
	}
	fmt.Println("done")
}

func random(args []string) {
	print := func() {
		var b [16]byte
		rand.Read(b[:])
		fmt.Printf("%x\n%016x\n", b, mrand.Uint64())
	}
	mrand.Uint64()
	for range number(args[0]) {
		wait(fork(print), 0)
	}
	print()
}

// serve is a server of several processes: all accept from one listener.
func serve(args []string) {
	l, err := net.Listen("tcp", ":80")
	if err != nil {
		cases.Die(err)
	}
	var n atomic.Int64
	http.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintln(w, os.Getpid(), n.Add(1))
	})
	http.HandleFunc("/fork", func(w http.ResponseWriter, r *http.Request) {
		pid, err := pvm.Fork()
		if pid == 0 && err == nil {
			return // the connection is the parent's
		}
		fmt.Fprintln(w, pid, err)
	})
	for range number(args[0]) - 1 {
		if pid, _ := pvm.Fork(); pid == 0 {
			break
		}
	}
	fmt.Println("serving")
	cases.Die(http.Serve(l, nil))
}

// bomb forks as much as it can, in all members.
func bomb([]string) {
	for {
		if _, err := pvm.Fork(); err != nil {
			if !errors.Is(err, syscall.EAGAIN) {
				cases.Die("fork:", err)
			}
			fmt.Println("limit")
			time.Sleep(time.Hour)
		}
	}
}

// atOnce: many goroutines fork at the same moment, and each has its child.
func atOnce([]string) {
	const n = 60
	begin, errs := make(chan bool), make(chan error, n)
	for i := range n {
		go func() {
			<-begin
			pid, err := pvm.Fork()
			if err == nil && pid == 0 {
				os.Exit(i)
			}
			if os.Getpid() != 1 {
				select {} // a copy, in somebody else's child
			}
			if err == nil {
				var s pvm.Status
				if s, err = pvm.Wait(pid); err == nil && s.ExitStatus() != i {
					err = fmt.Errorf("exit status %d, want %d", s.ExitStatus(), i)
				}
			}
			errs <- err
		}()
	}
	close(begin)
	for range n {
		cases.Must(<-errs)
	}
	fmt.Println("done")
}

// deadlock: the runtime must notice in a child as well.
func deadlock([]string) {
	wait(fork(func() { select {} }), 2)
	fmt.Println("done")
}

// goroutines go on in the child, timers fire, and the collector runs.
func goroutines([]string) {
	var ticks, calls atomic.Int64
	go func() {
		for range time.Tick(time.Millisecond) {
			ticks.Add(1)
		}
	}()
	c := make(chan []byte)
	go func() {
		for {
			b := make([]byte, 10_000)
			b[0] = 7
			calls.Add(1)
			c <- b
		}
	}()
	var keep [][]byte
	for range 1000 {
		keep = append(keep, <-c)
	}
	check := func() {
		t, k := ticks.Load(), calls.Load()
		for i := range 2000 {
			if b := <-c; b[0] != 7 || keep[i%1000][0] != 7 {
				cases.Die("damaged")
			}
		}
		runtime.GC()
		time.Sleep(20 * time.Millisecond)
		if ticks.Load() == t || calls.Load() == k {
			cases.Die("goroutines stand still", ticks.Load()-t)
		}
		// Preemption: the tick is set anew in a child.
		var stop, x atomic.Bool
		go func() {
			for !stop.Load() {
			}
			x.Store(true)
		}()
		time.Sleep(5 * time.Millisecond)
		stop.Store(true)
		for !x.Load() {
			runtime.Gosched()
		}
	}
	for range 5 {
		pid := fork(check)
		check()
		wait(pid, 0)
	}
	fmt.Println("done")
}

// connection: it stays the parent's, and fails in the child, also for a goroutine that
// reads already.
func connection(args []string) {
	c, err := net.Dial("tcp", args[0])
	if err != nil {
		cases.Die(err)
	}
	lines := make(chan error)
	var text atomic.Value
	go func() {
		r := bufio.NewReader(c)
		for {
			s, err := r.ReadString('\n')
			text.Store(s)
			lines <- err
			if err != nil {
				return
			}
		}
	}()
	fmt.Fprintln(c, "one")
	if err := <-lines; err != nil {
		cases.Die(err)
	}
	pid := fork(func() {
		if err := <-lines; !errors.Is(err, syscall.ECONNRESET) {
			cases.Die("reading in the child:", err)
		}
		if _, err := c.Write([]byte("child\n")); !errors.Is(err, syscall.ECONNRESET) && !errors.Is(err, syscall.EPIPE) {
			cases.Die("writing in the child:", err)
		}
		c.Close()
		d, err := net.Dial("tcp", args[0]) // a new one works
		if err != nil {
			cases.Die(err)
		}
		fmt.Fprintln(d, "new")
		if s, err := bufio.NewReader(d).ReadString('\n'); s != "new\n" {
			cases.Die(s, err)
		}
	})
	wait(pid, 0)
	fmt.Fprintln(c, "two")
	if err := <-lines; err != nil || text.Load() != "two\n" {
		cases.Die("parent:", err, text.Load())
	}
	fmt.Println("done")
}

func signals([]string) {
	pid := fork(func() { time.Sleep(time.Hour) })
	if err := pvm.Signal(pid, syscall.SIGKILL); err != nil {
		cases.Die(err)
	}
	if s, err := pvm.Wait(pid); err != nil || !s.Signaled() || s.Signal() != syscall.SIGKILL {
		cases.Die("killed:", s, err)
	}
	pid = fork(func() { time.Sleep(time.Hour) })
	time.Sleep(10 * time.Millisecond)
	if err := pvm.Signal(pid, syscall.SIGTERM); err != nil {
		cases.Die(err)
	}
	if s, err := pvm.Wait(pid); err != nil || !s.Signaled() || s.Signal() != syscall.SIGTERM {
		cases.Die("terminated:", s, err)
	}
	c := make(chan os.Signal, 1)
	signal.Notify(c, syscall.SIGUSR1)
	chld := make(chan os.Signal, 1)
	signal.Notify(chld, syscall.SIGCHLD)
	pid = fork(func() {
		pvm.Signal(1, syscall.SIGUSR1)
		<-c
		os.Exit(3)
	})
	<-c
	if err := pvm.Signal(pid, syscall.SIGUSR1); err != nil {
		cases.Die(err)
	}
	<-chld
	wait(pid, 3)
	if err := pvm.Signal(pid, 0); !errors.Is(err, syscall.ESRCH) {
		cases.Die("signal to nobody:", err)
	}
	if err := pvm.Signal(12345, syscall.SIGTERM); !errors.Is(err, syscall.ESRCH) {
		cases.Die("signal to nobody:", err)
	}
	fmt.Println("done")
}

// file: a file of a volume stays open in both.
func file(args []string) {
	f, err := os.OpenFile(args[0], os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		cases.Die(err)
	}
	wait(fork(func() {
		if _, err := f.WriteAt([]byte("from the child"), 0); err != nil {
			cases.Die(err)
		}
		if err := f.Sync(); err != nil { // by the monitor's name
			cases.Die(err)
		}
		f.Close()
		g, err := os.Open(args[0])
		if err != nil {
			cases.Die(err)
		}
		g.Close()
	}), 0)
	b, err := io.ReadAll(f)
	if st, e := f.Stat(); string(b) != "from the child" || e != nil || st.Size() != 14 {
		cases.Die(string(b), err, e)
	}
	fmt.Println("done")
}

// orphan ends before its child, which is left with the streams.
func orphan([]string) {
	fork(func() {
		time.Sleep(50 * time.Millisecond)
		fmt.Println("child's last word")
	})
	os.Exit(5)
}

// wild forks past the monitor, as a hostile image would.
func wild([]string) { cases.Die("see hostile tests") }

// listen: a connection that the child answers while the parent does not accept.
func listen([]string) {
	l, err := net.Listen("tcp", ":80")
	if err != nil {
		cases.Die(err)
	}
	pid := fork(func() {
		fmt.Println("ready")
		c, err := l.Accept()
		if err != nil {
			cases.Die(err)
		}
		fmt.Fprintln(c, "child", os.Getpid())
		c.Close()
		l.Close()
	})
	wait(pid, 0)
	c, err := l.Accept()
	if err != nil {
		cases.Die(err)
	}
	fmt.Fprintln(c, "parent", os.Getpid())
	c.Close()
}

func crash([]string) {
	s, err := pvm.Wait(fork(func() {
		var p *int
		*p = 1
	}))
	fmt.Println("done", s.ExitStatus(), err)
}

// dead: forks that end by a signal of their own.
func dead([]string) {
	for want, end := range map[syscall.Signal]func(){
		syscall.SIGKILL: func() { syscall.Kill(os.Getpid(), syscall.SIGKILL) },
		syscall.SIGTERM: func() { syscall.Kill(os.Getpid(), syscall.SIGTERM) },
		syscall.SIGABRT: func() { debug.SetTraceback("crash"); panic("a panic") },
	} {
		s, err := pvm.Wait(fork(func() { end(); time.Sleep(time.Minute) }))
		if err != nil || !s.Signaled() || s.Signal() != want {
			cases.Die("ended by", want, "but", s, err)
		}
	}
	fmt.Println("done")
}

var ballast [][]byte

// timing prints the ns from before Fork to the first instruction of the child.
func timing(args []string) {
	for range 10 << 10 { // 10 MB
		ballast = append(ballast, make([]byte, 1024))
	}
	runtime.GC()
	for range number(args[0]) {
		t := time.Now()
		wait(fork(func() { fmt.Println(time.Since(t).Nanoseconds()) }), 0)
	}
}

// idle makes n children that wait.
func idle(args []string) {
	for range 10 << 10 {
		ballast = append(ballast, make([]byte, 1024))
	}
	runtime.GC()
	for range number(args[0]) {
		fork(func() { time.Sleep(time.Hour) })
	}
	fmt.Println("ready")
	time.Sleep(time.Hour)
}

// count is a server with a state.
func count(args []string) {
	l, err := net.Listen("tcp", ":80")
	if err != nil {
		cases.Die(err)
	}
	for range 10 << 10 {
		ballast = append(ballast, make([]byte, 1024))
	}
	var n atomic.Int64
	var ticks atomic.Int64
	go func() {
		for range time.Tick(time.Millisecond) {
			if ticks.Add(1); len(args) > 0 { // a thousand of them would be busy with that
				return
			}
		}
	}()
	http.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		var b [8]byte
		rand.Read(b[:])
		host, _ := os.Hostname()
		fmt.Fprintf(w, "%d %x %d %s\n", n.Add(1), b, ticks.Load(), host)
	})
	fmt.Println("serving")
	cases.Die(http.Serve(l, nil))
}

// template says so when it finds that it was restored: its id is another.
func template(args []string) {
	block := make([]byte, number(args[0])<<20)
	for i := range block {
		block[i] = byte(i)
	}
	first, _ := os.Hostname()
	host := func() string { h, _ := os.Hostname(); return h }
	fmt.Println("ready")
	for host() == first && len(block) > 0 {
		runtime.Gosched()
	}
	fmt.Println("restored")
	time.Sleep(time.Hour)
}
