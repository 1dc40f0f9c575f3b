// Guest is what the tests of package exec run, natively and as a pVM: its first argument
// says what. It starts itself again, and "helper", which is the same program.
package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"strings"
	"sync"
	"syscall"
	"time"

	"noyau.dev/test/internal/cases"
)

func main() {
	cases.Run(map[string]func(args []string){
		"run": run, "helper": helper, "pipes": pipes, "files": files, "signals": signals, "extra": extra, "deaf": deaf,
		"nested": nested, "refused": refused, "large": large, "bomb": bomb, "parallel": parallel, "wait": wait,
		"inherit": inherit, "orphan": orphan, "deathsig": deathsig, "closed": closed, "many": many, "streams": streams, "order": order, "both": both, "killed": killed, "groups": groups, "listener": listener, "handover": handover,

		// What children do.
		"echo": echo, "cat": cat, "exit": exit, "die": die, "given": given, "ids": ids, "tree": tree, "group0": group0, "sleep": sleep, "term": term, "fill": fill, "write3": write3, "fork": again, "late": late,
	})
}

func self(args ...string) *exec.Cmd {
	path, err := os.Executable()
	cases.Must(err)
	return exec.Command(path, args...)
}

func echo(args []string) {
	in, _ := io.ReadAll(os.Stdin)
	wd, _ := os.Getwd()
	fmt.Printf("%q %q %q %s", args, in, os.Getenv("VALUE"), wd)
	fmt.Fprint(os.Stderr, "to stderr")
	os.Exit(len(args))
}

func run([]string) {
	c := self("echo", "a", "b c")
	c.Stdin, c.Env, c.Dir = strings.NewReader("input"), append(os.Environ(), "VALUE=x=y"), os.TempDir()
	var out, errs bytes.Buffer
	c.Stdout, c.Stderr = &out, &errs
	err := c.Run()
	var exit *exec.ExitError
	cases.Check(errors.As(err, &exit) && exit.ExitCode() == 2, err)
	dir, err := filepath.EvalSymlinks(os.TempDir())
	cases.Must(err)
	cases.Check(out.String() == fmt.Sprintf(`["a" "b c"] "input" "x=y" %s`, dir), out.String())
	cases.Check(errs.String() == "to stderr", errs.String())
	fmt.Println("done")
}

// helper looks for a program by name.
func helper([]string) {
	path, err := exec.LookPath("helper")
	cases.Must(err)
	st, err := os.Stat(path)
	cases.Must(err)
	cases.Check(st.Mode().IsRegular() && st.Mode().Perm()&0o111 != 0, st.Mode())
	out, err := exec.Command("helper", "echo", "x").Output()
	var exit *exec.ExitError
	cases.Check(errors.As(err, &exit) && exit.ExitCode() == 1 && strings.HasPrefix(string(out), `["x"]`), string(out), err)
	cases.Check(string(exit.Stderr) == "to stderr", string(exit.Stderr))
	// argv[0] is the caller's choice.
	c := exec.Command("helper")
	c.Args = []string{"/some/where/echo"}
	out, err = c.Output()
	cases.Check(err == nil && strings.HasPrefix(string(out), `[] "" ""`), string(out), err)
	// A relative path is one in the child's directory.
	c = exec.Command("./helper", "echo")
	c.Dir = filepath.Dir(path)
	cases.Must(c.Run())
	fmt.Println("done")
}

func cat([]string) {
	_, err := io.Copy(os.Stdout, os.Stdin)
	cases.Must(err)
}

// pipes moves much through a child, both ways at once.
// order: what a child writes to two descriptors that are one file of its parent's stays in
// order.
func order([]string) {
	var want strings.Builder
	for i := range 300 {
		fmt.Fprintf(&want, "out %d\nerr %d\n", i, i)
	}
	got, err := self("both").CombinedOutput()
	cases.Check(err == nil && string(got) == want.String(), len(got), err)
	f, err := os.CreateTemp("", "order")
	cases.Must(err)
	c := self("both")
	c.Stdout, c.Stderr = f, f
	cases.Must(c.Run())
	got, err = os.ReadFile(f.Name())
	cases.Check(err == nil && string(got) == want.String(), len(got), err)
	// One of them is closed, and the other not.
	c = self("both", "close")
	out, err := c.StdoutPipe()
	cases.Must(err)
	c.Stderr = c.Stdout
	cases.Must(c.Start())
	got, err = io.ReadAll(out)
	cases.Check(err == nil && string(got) == want.String()+"last", len(got), err)
	cases.Must(c.Wait())
	fmt.Println("done")
}

func both(args []string) {
	for i := range 300 {
		fmt.Fprintf(os.Stdout, "out %d\n", i)
		fmt.Fprintf(os.Stderr, "err %d\n", i)
	}
	if len(args) > 0 {
		cases.Must(os.Stdout.Close())
		time.Sleep(20 * time.Millisecond)
		fmt.Fprint(os.Stderr, "last")
	}
}

func pipes([]string) {
	c := self("cat")
	in, err := c.StdinPipe()
	cases.Must(err)
	out, err := c.StdoutPipe()
	cases.Must(err)
	cases.Must(c.Start())
	data := bytes.Repeat([]byte("0123456789abcdef"), 1<<18) // 4 MB
	go func() {
		in.Write(data)
		in.Close()
	}()
	got, err := io.ReadAll(out)
	cases.Must(err)
	cases.Check(bytes.Equal(got, data), len(got))
	cases.Must(c.Wait())
	// And a conversation.
	c = self("cat")
	in, _ = c.StdinPipe()
	out, _ = c.StdoutPipe()
	cases.Must(c.Start())
	for i := range 100 {
		fmt.Fprintf(in, "line %d\n", i)
		var b [64]byte
		n, err := out.Read(b[:])
		cases.Check(err == nil && string(b[:n]) == fmt.Sprintf("line %d\n", i), string(b[:n]), err)
	}
	in.Close()
	cases.Must(c.Wait())
	fmt.Println("done")
}

// fill writes as much as it is told and ends at once.
func fill(args []string) {
	var n int
	fmt.Sscan(args[0], &n)
	w := io.Writer(os.Stdout)
	b := bytes.Repeat([]byte{'x'}, 1000)
	for range n / 1000 {
		w.Write(b)
	}
}

// files: what a child has written is in the file when Wait returns.
func files(args []string) {
	for _, dir := range append(args, os.TempDir()) {
		for range 20 {
			f, err := os.Create(filepath.Join(dir, "out"))
			cases.Must(err)
			f.WriteString("head\n")
			c := self("fill", "100000")
			c.Stdout, c.Stderr = f, f
			cases.Must(c.Run())
			f.WriteString("tail")
			cases.Must(f.Close())
			b, err := os.ReadFile(f.Name())
			cases.Must(err)
			cases.Check(len(b) == 100000+9 && bytes.HasPrefix(b, []byte("head\nx")) && bytes.HasSuffix(b, []byte("xtail")), len(b))
		}
		in, err := os.Open(filepath.Join(dir, "out"))
		cases.Must(err)
		c := self("cat")
		c.Stdin = in
		out, err := c.Output()
		cases.Check(err == nil && len(out) == 100009, len(out), err)
		in.Close()
	}
	fmt.Println("done")
}

func exit(args []string) {
	var n int
	fmt.Sscan(args[0], &n)
	os.Exit(n)
}

func sleep([]string) {
	fmt.Println("ready")
	time.Sleep(time.Hour)
}

func term([]string) {
	c := make(chan os.Signal, 1)
	signal.Notify(c, syscall.SIGTERM)
	fmt.Println("ready")
	<-c
	os.Exit(7)
}

// started starts a child and waits for its first line.
func started(arg string) *exec.Cmd {
	c := self(arg)
	out, err := c.StdoutPipe()
	cases.Must(err)
	cases.Must(c.Start())
	var b [16]byte
	n, err := out.Read(b[:])
	cases.Check(err == nil && string(b[:n]) == "ready\n", string(b[:n]), err)
	return c
}

func signals([]string) {
	c := started("sleep")
	cases.Must(c.Process.Signal(syscall.Signal(0)))
	cases.Must(c.Process.Kill())
	err := c.Wait()
	st, _ := c.ProcessState.Sys().(syscall.WaitStatus)
	cases.Check(err != nil && st.Signaled() && st.Signal() == syscall.SIGKILL, err)
	cases.Check(errors.Is(c.Process.Kill(), os.ErrProcessDone))
	c = started("sleep")
	cases.Must(c.Process.Signal(syscall.SIGTERM))
	c.Wait()
	st, _ = c.ProcessState.Sys().(syscall.WaitStatus)
	cases.Check(st.Signaled() && st.Signal() == syscall.SIGTERM, c.ProcessState)
	c = started("term")
	cases.Must(c.Process.Signal(syscall.SIGTERM))
	c.Wait()
	cases.Check(c.ProcessState.ExitCode() == 7, c.ProcessState)
	_, err = os.FindProcess(c.Process.Pid)
	cases.Must(err)
	fmt.Println("done")
}

// die ends by a signal of its own.
func die(args []string) {
	switch args[0] {
	case "kill":
		syscall.Kill(os.Getpid(), syscall.SIGKILL)
	case "term":
		syscall.Kill(os.Getpid(), syscall.SIGTERM)
	case "process":
		p, err := os.FindProcess(os.Getpid())
		cases.Must(err)
		p.Signal(syscall.SIGHUP)
	case "reset":
		signal.Notify(make(chan os.Signal, 1), syscall.SIGINT)
		signal.Reset(syscall.SIGINT)
		syscall.Kill(os.Getpid(), syscall.SIGINT)
	case "quit":
		syscall.Kill(os.Getpid(), syscall.SIGQUIT)
	case "panic", "nil":
		debug.SetTraceback("crash")
		var p *int
		if args[0] == "panic" {
			panic("a panic")
		}
		*p = 1
	case "stack":
		debug.SetTraceback("crash")
		debug.SetMaxStack(1 << 16)
		die([]string{"stack", args[0]})
	}
	time.Sleep(time.Minute)
}

// killed: children that end by a signal of their own.
func killed([]string) {
	for _, how := range []string{"kill", "term", "process", "reset", "quit", "panic", "nil", "stack"} {
		c := self("die", how)
		err := c.Run()
		st, _ := c.ProcessState.Sys().(syscall.WaitStatus)
		fmt.Println(how, st.Exited(), st.ExitStatus(), st.Signaled(), st.Signal(), c.ProcessState.ExitCode(), err != nil)
	}
	fmt.Println("done")
}

func write3([]string) {
	f := os.NewFile(3, "three")
	b, err := io.ReadAll(os.NewFile(4, "four"))
	cases.Must(err)
	fmt.Fprintf(f, "got %s", b)
}

// extra gives a child more descriptors.
func extra([]string) {
	r, w, err := os.Pipe()
	cases.Must(err)
	r2, w2, err := os.Pipe()
	cases.Must(err)
	c := self("write3")
	c.Stderr = os.Stderr
	c.ExtraFiles = []*os.File{w, r2}
	cases.Must(c.Start())
	w.Close()
	r2.Close()
	w2.WriteString("words")
	w2.Close()
	b, err := io.ReadAll(r)
	cases.Check(err == nil && string(b) == "got words", string(b), err)
	cases.Must(c.Wait())
	fmt.Println("done")
}

// deaf: a child that does not read its input ends, and so does who writes to it.
func deaf([]string) {
	c := self("exit", "0")
	c.Stdin = bytes.NewReader(make([]byte, 8<<20))
	cases.Must(c.Run())
	// And a child whose output nobody reads.
	r, w, err := os.Pipe()
	cases.Must(err)
	c = self("fill", "100000000")
	c.Stdout = w
	cases.Must(c.Start())
	w.Close()
	io.ReadFull(r, make([]byte, 1000))
	r.Close()
	c.Wait()
	st, _ := c.ProcessState.Sys().(syscall.WaitStatus)
	cases.Check(st.Signaled() && st.Signal() == syscall.SIGPIPE, c.ProcessState)
	c = self("exit", "0")
	in, _ := c.StdinPipe()
	cases.Must(c.Start())
	cases.Must(c.Process.Release())
	for { // the pipe breaks although nobody waits
		if _, err := in.Write(make([]byte, 4096)); err != nil {
			cases.Check(errors.Is(err, syscall.EPIPE), err)
			break
		}
	}
	fmt.Println("done")
}

// again starts itself until the count is 0.
func again(args []string) {
	var n int
	fmt.Sscan(args[0], &n)
	if n == 0 {
		fmt.Print("bottom")
		return
	}
	c := self("fork", fmt.Sprint(n-1))
	c.Stdout, c.Stderr = os.Stdout, os.Stderr
	cases.Must(c.Run())
}

func nested([]string) {
	out, err := self("fork", "4").Output()
	cases.Check(err == nil && string(out) == "bottom", string(out), err)
	fmt.Println("done")
}

func refused([]string) {
	for _, name := range []string{"/bin/nothing", "nothing/here"} {
		err := exec.Command(name).Run()
		cases.Check(errors.Is(err, os.ErrNotExist), name, err)
	}
	_, err := exec.LookPath("nothing")
	cases.Check(errors.Is(err, exec.ErrNotFound), err)
	plain := filepath.Join(os.TempDir(), "plain")
	cases.Must(os.WriteFile(plain, []byte("no program"), 0o644))
	err = exec.Command(plain).Run()
	cases.Check(errors.Is(err, os.ErrPermission), err)
	err = exec.Command(os.TempDir()).Run()
	cases.Check(errors.Is(err, os.ErrPermission), err)
	c := self("exit", "0")
	c.Dir = filepath.Join(os.TempDir(), "nowhere")
	cases.Check(errors.Is(c.Run(), os.ErrNotExist))
	c = self("exit", "0")
	c.Args = append(c.Args, "zero\x00byte")
	cases.Check(errors.Is(c.Run(), syscall.EINVAL))
	_, err = os.StartProcess("/proc/self/exe", []string{"self", "exit", "0"}, &os.ProcAttr{Files: []*os.File{nil, nil, nil}})
	cases.Must(err)
	fmt.Println("done")
}

// large has arguments up to the limit and beyond.
func large([]string) {
	var args []string
	for range 10 {
		args = append(args, strings.Repeat("a", 10_000))
	}
	c := self(append([]string{"exit", "0"}, args...)...)
	cases.Must(c.Run())
	for range 500 {
		args = append(args, strings.Repeat("a", 10_000))
	}
	c = self(append([]string{"exit", "0"}, args...)...)
	cases.Check(errors.Is(c.Run(), syscall.E2BIG))
	c = self("exit", strings.Repeat("a", 200_000))
	cases.Check(errors.Is(c.Run(), syscall.E2BIG))
	cases.Must(self("exit", "0").Run())
	fmt.Println("done")
}

// bomb starts children until it may not. Natively there is no limit worth the wait.
func bomb([]string) {
	var all []*exec.Cmd
	for {
		c := self("sleep")
		if err := c.Start(); err != nil {
			cases.Check(errors.Is(err, syscall.EAGAIN), err)
			break
		}
		all = append(all, c)
	}
	fmt.Println(len(all))
	for _, c := range all {
		cases.Must(c.Process.Kill())
	}
	for _, c := range all {
		c.Wait()
	}
	cases.Must(self("exit", "0").Run())
	fmt.Println("done")
}

func parallel([]string) {
	var wg sync.WaitGroup
	for i := range 12 {
		wg.Go(func() {
			for range 3 {
				c := self("cat")
				c.Stdin = strings.NewReader(strings.Repeat(fmt.Sprint(i), 10_000))
				out, err := c.Output()
				cases.Check(err == nil && strings.Count(string(out), fmt.Sprint(i)[:1]) >= 10_000, i, err)
			}
		})
	}
	wg.Wait()
	fmt.Println("done")
}

// many starts one child after the other.
func many(args []string) {
	var n int
	fmt.Sscan(args[0], &n)
	for range n {
		cases.Must(self("exit", "0").Run())
	}
	fmt.Println("done")
}

func wait([]string) {
	c := self("exit", "5")
	cases.Must(c.Start())
	_, err := syscall.Wait4(c.Process.Pid, nil, 0, nil)
	cases.Must(err)
	_, err = syscall.Wait4(c.Process.Pid, nil, 0, nil)
	cases.Check(err == syscall.ECHILD, err)
	c = started("sleep")
	var st syscall.WaitStatus
	pid, err := syscall.Wait4(-1, &st, syscall.WNOHANG, nil)
	cases.Check(pid == 0 && err == nil, pid, err)
	c.Process.Kill()
	pid, err = syscall.Wait4(-1, &st, 0, nil)
	cases.Check(pid == c.Process.Pid && st.Signaled(), pid, err)
	sig := make(chan os.Signal, 1)
	signal.Notify(sig, syscall.SIGCHLD)
	cases.Must(self("exit", "0").Start())
	<-sig
	fmt.Println("done")
}

// inherit: standard streams are the same in children.
func inherit([]string) {
	for _, s := range []string{"one", "two"} {
		c := self("say", s)
		c.Args, c.Dir = []string{"echo"}, "/"
		c.Stdin, c.Stdout = strings.NewReader(s), os.Stdout
		cases.Must(c.Run())
		fmt.Println()
	}
	c := self("cat")
	c.Stdin, c.Stdout = os.Stdin, os.Stdout
	cases.Must(c.Run())
	fmt.Println("done")
}

// streams: a child that goes on alone has its parent's streams.
func streams([]string) {
	c := self("late")
	c.Env = append(os.Environ(), fmt.Sprintf("PARENT=%d", os.Getpid()))
	c.Stdin, c.Stdout, c.Stderr = os.Stdin, os.Stdout, os.Stderr
	cases.Must(c.Start())
}

func late([]string) {
	for fmt.Sprint(os.Getppid()) == os.Getenv("PARENT") {
		time.Sleep(time.Millisecond)
	}
	fmt.Println("alone")
	cat(nil)
}

// orphan: a middle one ends, its child goes on and learns of it.
func orphan(args []string) {
	if len(args) > 0 {
		c := self("late")
		c.Env = append(os.Environ(), fmt.Sprintf("PARENT=%d", os.Getpid()))
		c.Stdin, c.Stdout, c.Stderr = os.Stdin, os.Stdout, os.Stderr
		cases.Must(c.Start())
		return
	}
	c := self("orphan", "middle")
	c.Stdin, c.Stderr = strings.NewReader("input\n"), os.Stderr
	out, err := c.Output()
	cases.Check(err == nil && string(out) == "alone\ninput\n", string(out), err)
	fmt.Println("done")
}

// deathsig: a child that asked for it ends with its parent.
func deathsig(args []string) {
	if len(args) > 0 {
		c := self("sleep")
		c.Stdout = os.Stdout
		c.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		cases.Must(c.Start())
		time.Sleep(50 * time.Millisecond)
		return
	}
	_, err := self("deathsig", "middle").Output() // which waits until nobody can write any more
	cases.Must(err)
	fmt.Println("done")
}

// closed: a child without any descriptors.
func closed([]string) {
	p, err := os.StartProcess("/proc/self/exe", []string{"self", "exit", "4"}, &os.ProcAttr{})
	cases.Must(err)
	st, err := p.Wait()
	cases.Check(err == nil && st.ExitCode() == 4, st, err)
	fmt.Println("done")
}
