package main

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"noyau.dev/pvm"
	"noyau.dev/test/internal/cases"
)

func must[T any](v T, err error) T {
	if err != nil {
		cases.Die(os.Getpid(), err)
	}
	return v
}

// end is closed when this program runs in a pVM that was made of a snapshot, or when it is
// told by SIGUSR1 that one was made and that it is the original.
func end() <-chan struct{} {
	c, usr1 := make(chan struct{}), make(chan os.Signal, 1)
	signal.Notify(usr1, syscall.SIGUSR1)
	first, _ := os.Hostname()
	go func() {
		defer close(c)
		for {
			select {
			case <-usr1:
				return
			case <-time.After(time.Millisecond):
				if h, _ := os.Hostname(); h != first {
					return
				}
			}
		}
	}()
	return c
}

func fork(child func()) int {
	pid := must(pvm.Fork())
	if pid == 0 {
		child()
		os.Exit(0)
	}
	return pid
}

func wait(pid, code int) {
	if s := must(pvm.Wait(pid)); !s.Exited() || s.ExitStatus() != code {
		cases.Die("waiting for", pid, "status", s, "want exit", code)
	}
}

// traffic: members send each other as much as they can, and count that nothing is lost and
// nothing comes twice, before a snapshot and after it.
func traffic(args []string) {
	rounds := 2_000
	if len(args) > 0 {
		rounds = must(strconv.Atoi(args[0]))
	}
	m := must(pvm.Share(1 << 16))
	over, done := m.Uint32(0), m.Uint64(8)
	r, w := must2(pvm.Pipe())
	jobs, results := must(pvm.NewQueue()), must(pvm.NewQueue())
	var pids []int
	pids = append(pids, fork(func() { // writes all numbers, in pieces of any size
		r.Close()
		jobs.CloseSend()
		results.CloseSend()
		b := make([]byte, 0, 1<<16)
		for n := uint32(0); over.Load() == 0; {
			for range 1 + rand.IntN(2000) {
				b = binary.LittleEndian.AppendUint32(b, n)
				n++
			}
			must(w.Write(b))
			b = b[:0]
		}
	}))
	for range 2 {
		pids = append(pids, fork(func() {
			r.Close()
			w.Close()
			jobs.CloseSend()
			b := make([]byte, 8)
			for {
				if _, err := jobs.Receive(b); err == io.EOF {
					return
				} else if err != nil {
					cases.Die("a worker:", err)
				}
				done.Add(1)
				binary.LittleEndian.PutUint64(b, binary.LittleEndian.Uint64(b)*2+1)
				if err := results.Send(b); err != nil {
					cases.Die("a worker:", err)
				}
			}
		}))
	}
	waiter := fork(func() {
		w.Close()
		jobs.CloseSend()
		results.CloseSend()
		for over.Load() == 0 {
			if err := m.Wait(over, 0); err != nil {
				cases.Die("a waiter:", err)
			}
		}
		os.Exit(5)
	})
	w.Close()
	results.CloseSend()
	ended := make(chan struct{})
	go func() { wait(waiter, 5); close(ended) }()

	var stop atomic.Bool
	var all sync.WaitGroup
	var numbers, sent, received atomic.Uint64
	all.Go(func() {
		in := bufio.NewReaderSize(r, 1<<16)
		for want := uint32(0); ; want++ {
			var b [4]byte
			if _, err := io.ReadFull(in, b[:]); err == io.EOF {
				return
			} else if err != nil {
				cases.Die("the stream:", err)
			}
			if got := binary.LittleEndian.Uint32(b[:]); got != want {
				cases.Die("the stream has", got, "in the place of", want)
			}
			numbers.Add(1)
		}
	})
	all.Go(func() {
		b := make([]byte, 8)
		for ; !stop.Load(); sent.Add(1) {
			binary.LittleEndian.PutUint64(b, sent.Load())
			if err := jobs.Send(b); err != nil {
				cases.Die("sending a job:", err)
			}
		}
		jobs.CloseSend()
	})
	all.Go(func() {
		early := map[uint64]bool{} // those above next
		next := uint64(0)
		b := make([]byte, 8)
		for {
			if _, err := results.Receive(b); err == io.EOF {
				break
			} else if err != nil {
				cases.Die("a result:", err)
			}
			v := binary.LittleEndian.Uint64(b)
			n := v / 2
			if v%2 != 1 || n < next || early[n] {
				cases.Die("result", v, "comes twice or is none; next is", next)
			}
			for early[n] = true; early[next]; next++ {
				delete(early, next)
			}
			received.Add(1)
		}
		if next != sent.Load() || len(early) != 0 {
			cases.Die(sent.Load(), "jobs, results of", next, "and", len(early))
		}
	})
	go func() { // whoever hangs says where
		for last := uint64(0); ; {
			time.Sleep(20 * time.Second)
			n := numbers.Load() + received.Load()
			if n == last {
				fmt.Fprintln(os.Stderr, "stuck:", numbers.Load(), sent.Load(), received.Load(), done.Load(), over.Load())
			}
			last = n
		}
	}()
	enough := func(n uint64) {
		a, b := numbers.Load(), received.Load()
		for numbers.Load() < a+n || received.Load() < b+n/10 {
			time.Sleep(time.Millisecond)
		}
	}
	e := end()
	enough(uint64(rounds))
	fmt.Println("ready")
	<-e
	enough(uint64(rounds))
	stop.Store(true)
	over.Store(1)
	cases.Must(m.Wake())
	all.Wait()
	<-ended
	for _, pid := range pids {
		wait(pid, 0)
	}
	if done.Load() != sent.Load() {
		cases.Die(sent.Load(), "jobs, counted", done.Load())
	}
	fmt.Println("done")
}

func must2[A, B any](a A, b B, err error) (A, B) {
	if err != nil {
		cases.Die(os.Getpid(), err)
	}
	return a, b
}

// tree: who is whose child, how children have ended, orphans, signals and rights.
func tree([]string) {
	m := must(pvm.Share(1 << 12))
	over, grandchild := m.Uint32(0), m.Uint32(4)
	pause := func() {
		for over.Load() == 0 {
			cases.Must(m.Wait(over, 0))
		}
	}
	zombie := fork(func() { os.Exit(3) })
	killed := fork(func() { syscall.Kill(os.Getpid(), syscall.SIGKILL) })
	parent := fork(func() {
		fork(func() {
			grandchild.Store(uint32(os.Getpid()))
			m.Wake()
			pause()
			if os.Getppid() != 0 {
				cases.Die("the parent of an orphan is", os.Getppid())
			}
			m.Uint32(8).Store(1)
			m.Wake()
		})
		for grandchild.Load() == 0 {
			m.Wait(grandchild, 0)
		}
		os.Exit(4)
	})
	narrow := must(pvm.ForkWithout(pvm.Forking))
	if narrow == 0 {
		pause()
		if _, err := pvm.Fork(); !errors.Is(err, syscall.EACCES) {
			cases.Die("a fork without the right to:", err)
		}
		if os.Getppid() != 1 {
			cases.Die("child of", os.Getppid())
		}
		os.Exit(6)
	}
	signals := fork(func() {
		c := make(chan os.Signal, 1)
		signal.Notify(c, syscall.SIGUSR2)
		m.Uint32(12).Store(1)
		m.Wake()
		<-c
		os.Exit(7)
	})
	for _, at := range []int{4, 12} {
		for m.Uint32(at).Load() == 0 {
			cases.Must(m.Wait(m.Uint32(at), 0))
		}
	}
	for _, pid := range []int{zombie, killed, parent} { // they have ended, and stay
		for pvm.Signal(pid, 0) == nil && !gone(pid) {
			time.Sleep(time.Millisecond)
		}
	}
	e := end()
	fmt.Println("ready")
	<-e
	over.Store(1)
	cases.Must(m.Wake())
	wait(zombie, 3)
	if s := must(pvm.Wait(killed)); s.Signal() != syscall.SIGKILL {
		cases.Die("killed:", s)
	}
	wait(parent, 4)
	wait(narrow, 6)
	cases.Must(pvm.Signal(signals, syscall.SIGUSR2))
	wait(signals, 7)
	for m.Uint32(8).Load() == 0 {
		cases.Must(m.Wait(m.Uint32(8), 0))
	}
	wait(fork(func() { os.Exit(8) }), 8)
	if _, err := pvm.Wait(zombie); !errors.Is(err, syscall.ECHILD) {
		cases.Die("a second wait:", err)
	}
	fmt.Println("done")
}

// gone says whether a child has ended, and leaves it to be waited for.
func gone(pid int) bool {
	var info [128]byte
	const pPid, exited, nohang, nowait = 1, 4, 1, 1 << 24
	_, _, e := syscall.Syscall6(syscall.SYS_WAITID, pPid, uintptr(pid), uintptr(ptr(&info)), exited|nohang|nowait, 0, 0)
	if e != 0 {
		cases.Die("waitid", pid, e)
	}
	return info[0] != 0
}

// programs: a program that was started by os/exec answers line by line, before and after. It is
// this one, or that which is named, and then both stay when they are restored.
func programs(args []string) {
	cmd := exec.Command(must(os.Executable()), "echo")
	if len(args) > 0 {
		cmd = exec.Command(args[0], "echo")
	}
	in, out := must(cmd.StdinPipe()), bufio.NewReader(must(cmd.StdoutPipe()))
	cmd.Stderr = cmd.Stdout // one pipe
	r, w := must2(os.Pipe())
	cmd.ExtraFiles = []*os.File{r}
	cases.Must(cmd.Start())
	r.Close()
	n := 0
	talk := func(rounds int) {
		for range rounds {
			fmt.Fprintln(in, n)
			if s, err := out.ReadString('\n'); err != nil || s != fmt.Sprintf("echo %d\n", n) {
				cases.Die("the program answers", s, err)
			}
			n++
		}
	}
	talk(100)
	fmt.Fprintln(in, n) // under way
	e := end()
	fmt.Println("ready")
	<-e
	if s, err := out.ReadString('\n'); err != nil || s != fmt.Sprintf("echo %d\n", n) {
		cases.Die("the program answers", s, err)
	}
	n++
	talk(100)
	if len(args) > 0 {
		fmt.Println("restored")
		time.Sleep(time.Hour)
	}
	fmt.Fprintln(w, "bye")
	in.Close()
	if s, err := out.ReadString('\n'); err != nil || s != "bye\n" {
		cases.Die("the last answer is", s, err)
	}
	cases.Must(cmd.Wait())
	fmt.Println("done")
}

// echo is the program.
func echo([]string) {
	in := bufio.NewScanner(os.Stdin)
	for in.Scan() {
		fmt.Fprint(os.Stderr, "echo ")
		fmt.Println(in.Text())
	}
	s, err := bufio.NewReader(os.NewFile(3, "extra")).ReadString('\n')
	if err != nil {
		cases.Die("extra file:", err)
	}
	fmt.Print(s)
}

// files: members have one open file in common, with its lock.
func files(args []string) {
	f := must(os.OpenFile(args[0], os.O_RDWR|os.O_CREATE, 0o600))
	cases.Must(syscall.Flock(int(f.Fd()), syscall.LOCK_EX))
	must(f.Write([]byte("before\n")))
	m := must(pvm.Share(1 << 12))
	over := m.Uint32(0)
	child := fork(func() {
		for over.Load() == 0 {
			cases.Must(m.Wait(over, 0))
		}
		must(f.WriteAt([]byte("child\n"), 7))
		// The lock is one that both have: another open file cannot have it.
		g := must(os.Open(args[0]))
		if err := syscall.Flock(int(g.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != syscall.EWOULDBLOCK {
			cases.Die("a lock that is held:", err)
		}
		cases.Must(syscall.Flock(int(f.Fd()), syscall.LOCK_UN))
		cases.Must(syscall.Flock(int(g.Fd()), syscall.LOCK_EX|syscall.LOCK_NB))
	})
	e := end()
	fmt.Println("ready")
	<-e
	over.Store(1)
	m.Wake()
	wait(child, 0)
	b := make([]byte, 100)
	if n, _ := f.ReadAt(b, 0); string(b[:n]) != "before\nchild\n" {
		cases.Die("the file has", string(b[:n]))
	}
	fmt.Println("done")
}

// prefork is a server of several processes: all accept from one listener. It has some MB
// that all have, and some of each.
func prefork(args []string) {
	l := must(net.Listen("tcp", ":80"))
	mb := must(strconv.Atoi(args[1]))
	block := make([]byte, mb<<20)
	for i := range block {
		block[i] = byte(rand.Uint32())
	}
	var n atomic.Int64
	http.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintln(w, os.Getpid(), n.Add(1))
	})
	for range must(strconv.Atoi(args[0])) - 1 {
		if must(pvm.Fork()) == 0 {
			break
		}
	}
	fmt.Println("serving")
	err := http.Serve(l, nil)
	runtime.KeepAlive(block)
	cases.Die(err)
}

// storm forks all the time, each child a short while.
func storm([]string) {
	var n atomic.Int64
	var forking sync.Mutex
	me := os.Getpid()
	for range 3 {
		go func() {
			for os.Getpid() == me { // a fork has copies of those that fork
				forking.Lock()
				pid, err := pvm.Fork()
				if pid == 0 && err == nil {
					time.Sleep(time.Duration(rand.IntN(5)) * time.Millisecond)
					os.Exit(9)
				}
				forking.Unlock()
				s := pvm.Status(0)
				if err == nil {
					s, err = pvm.Wait(pid)
				}
				switch {
				case os.Getpid() != me:
				case errors.Is(err, syscall.EINTR), errors.Is(err, syscall.EAGAIN): // a fork that was under way
				case err != nil || s.ExitStatus() != 9:
					cases.Die("fork:", err, "status", s)
				default:
					n.Add(1)
				}
			}
		}()
	}
	until := func(v int64) {
		for n.Load() < v {
			time.Sleep(time.Millisecond)
		}
		forking.Lock() // a fork has a copy of this one, which is not to speak
	}
	until(10)
	e := end()
	fmt.Println("ready")
	forking.Unlock()
	<-e
	until(n.Load() + 20)
	fmt.Println("done")
	os.Exit(0)
}

// busy has a member that only computes.
func busy([]string) {
	var n atomic.Uint64
	child := fork(func() {
		for i := uint64(0); ; i++ {
			n.Store(n.Load() + i*i)
		}
	})
	e := end()
	fmt.Println("ready")
	<-e
	cases.Must(pvm.Signal(child, syscall.SIGTERM)) // it hears of that as well
	if s := must(pvm.Wait(child)); s.Signal() != syscall.SIGTERM {
		cases.Die("the child has ended by", s)
	}
	fmt.Println("done")
}

// idle has members that do nothing.
func idle(args []string) {
	for range must(strconv.Atoi(args[0])) - 1 {
		if must(pvm.Fork()) == 0 {
			for {
				time.Sleep(time.Hour)
			}
		}
	}
	e := end()
	fmt.Println("ready")
	<-e
	fmt.Println("done")
	for {
		time.Sleep(time.Hour)
	}
}
