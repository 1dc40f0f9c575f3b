package monitor

import (
	"encoding/json"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"noyau.dev/abi"
)

// The test binary is its own guest: started by the isolation "native", which is
// a plain host process without any sandbox, it speaks the control protocol on
// the descriptors that an image gets.
const guestEnv = "NOYAU_TEST_GUEST"

func TestMain(m *testing.M) {
	if what := os.Getenv(guestEnv); what != "" {
		guestMain(what)
		os.Exit(0)
	}
	Register("native", native{})
	os.Exit(m.Run())
}

type native struct{}

func (native) Available() error { return nil }

func (native) Start(s *Spec) (Process, error) {
	c := exec.Command("/proc/self/exe", s.Args[1:]...)
	c.Args[0] = s.Args[0]
	c.Env = s.Env
	c.Stdin, c.Stdout, c.Stderr = s.Handles[0], s.Handles[1], s.Handles[2]
	c.ExtraFiles = s.Handles[3:]
	if err := c.Start(); err != nil {
		return nil, err
	}
	return &nativeProcess{c}, nil
}

type nativeProcess struct{ c *exec.Cmd }

func (p *nativeProcess) Pid() int                    { return p.c.Process.Pid }
func (p *nativeProcess) Kill() error                 { return p.c.Process.Kill() }
func (p *nativeProcess) Stats() (Stats, error)       { return procStats(p.Pid()) }
func (p *nativeProcess) Sandbox() (in, out []string) { return []string{"nothing"}, nil }
func (p *nativeProcess) Wait() Status {
	p.c.Wait()
	w := p.c.ProcessState.Sys().(interface {
		Exited() bool
		ExitStatus() int
	})
	if w.Exited() {
		return Status{Code: w.ExitStatus()}
	}
	return Status{Signal: unix.Signal(p.c.ProcessState.Sys().(interface{ Signal() unix.Signal }).Signal())}
}

// seen is what a guest found in its boot block.
type seen struct {
	Head     abi.BootHeader
	Hostname string
	Dir      string
	Files    map[string]string
	HostFile map[string]string
	Volumes  map[string]uint32
	Rows     uint16
	TraceTo  int
	Sealed   bool
}

func readBoot() seen {
	var head [abi.BootSize]byte
	unix.Pread(abi.HandleBoot, head[:], 0)
	s := seen{Files: map[string]string{}, HostFile: map[string]string{}, Volumes: map[string]uint32{}, TraceTo: 2}
	if !s.Head.Take(head[:]) {
		panic("no boot block")
	}
	rest := make([]byte, s.Head.Size-abi.BootSize)
	unix.Pread(abi.HandleBoot, rest, abi.BootSize)
	_, err := unix.Pwrite(abi.HandleBoot, []byte("x"), 0)
	s.Sealed = err != nil
	for len(rest) > 0 {
		kind, c, r, ok := abi.TakeRecord(rest)
		if !ok {
			panic("bad record")
		}
		rest = r
		switch kind {
		case abi.RecHostname:
			s.Hostname, _, _ = abi.TakeString(c)
		case abi.RecDir:
			s.Dir, _, _ = abi.TakeString(c)
		case abi.RecFile:
			path, c, _ := abi.TakeString(c)
			_, c, _ = abi.Take32(c)
			s.Files[path] = string(c)
		case abi.RecHostFile:
			path, c, _ := abi.TakeString(c)
			_, c, _ = abi.Take32(c)
			h, c, _ := abi.Take32(c)
			size, _, _ := abi.Take64(c)
			b := make([]byte, size)
			n, err := unix.Pread(int(h), b, 0)
			s.HostFile[path] = fmt.Sprint(uint64(n) == size, err)
		case abi.RecVolume:
			path, c, _ := abi.TakeString(c)
			n, c, _ := abi.Take32(c)
			fl, _, _ := abi.Take32(c)
			s.Volumes[path] = n<<8 | fl
		case abi.RecWinsize:
			s.Rows, _, _ = abi.Take16(c)
		case abi.RecTraceTo:
			h, _, _ := abi.Take32(c)
			s.TraceTo = int(h)
		}
	}
	return s
}

// request sends a message and waits for the answer to it.
func request(m abi.Msg, payload []byte) (abi.Msg, []byte, int) {
	m.ID = 1
	p := make([]byte, abi.MsgSize)
	m.Put(p)
	pollOne(abi.HandleControl, unix.POLLOUT)
	if err := unix.Sendmsg(abi.HandleControl, append(p, payload...), nil, nil, 0); err != nil {
		panic(err)
	}
	if m.Op == abi.OpKilled {
		return m, nil, -1
	}
	return message()
}

func message() (abi.Msg, []byte, int) {
	pollOne(abi.HandleControl, unix.POLLIN)
	buf, oob := make([]byte, abi.MaxMsg), make([]byte, 64)
	n, oobn, _, _, err := unix.Recvmsg(abi.HandleControl, buf, oob, 0)
	if err != nil {
		panic(err)
	}
	fd := -1
	if c, err := unix.ParseSocketControlMessage(oob[:oobn]); err == nil && len(c) > 0 {
		fds, _ := unix.ParseUnixRights(&c[0])
		fd = fds[0]
	}
	m, payload, ok := abi.TakeMsg(buf[:n])
	if !ok {
		panic(fmt.Sprintf("%d bytes that are no message", n))
	}
	return m, payload, fd
}

func pollOne(fd int, ev int16) {
	for {
		if _, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: ev}}, -1); err != unix.EINTR {
			return
		}
	}
}

// guestMain is the app of a test.
func guestMain(what string) {
	signal.Ignore(unix.SIGPIPE)
	what, arg, _ := strings.Cut(what, ":")
	switch what {
	case "boot":
		s := readBoot()
		if s.TraceTo != 2 {
			unix.Write(s.TraceTo, []byte("traced\n"))
		}
		json.NewEncoder(os.Stdout).Encode(s)
	case "exit":
		n, _ := strconv.Atoi(arg)
		os.Exit(n)
	case "sleep":
		time.Sleep(time.Minute)
	case "echo":
		io.Copy(os.Stdout, os.Stdin)
		fmt.Print("end")
	case "much":
		n, _ := strconv.Atoi(arg)
		line := []byte(strings.Repeat("0123456789abcde\n", 64))
		for range n / len(line) {
			if _, err := os.Stdout.Write(line); err != nil {
				os.Exit(3) // broken pipe
			}
		}
	case "both":
		for n := range 500 {
			fmt.Fprintf(os.Stdout, "o%d ", n)
			fmt.Fprintf(os.Stderr, "e%d ", n)
		}
	case "signals":
		fmt.Print("ready ")
		for {
			m, _, _ := message()
			fmt.Printf("op%d:%d ", m.Op, m.A)
			if m.Op == abi.EvSignal && m.A == uint64(unix.SIGTERM) {
				request(abi.Msg{Op: abi.OpKilled, A: m.A}, nil)
				os.Exit(128 + int(m.A))
			}
		}
	case "deaf":
		fmt.Print("ready ")
		select {}
	case "sigsys":
		// Go's runtime would catch it.
		panic(unix.Exec("/bin/sh", []string{"sh", "-c", "kill -SYS $$"}, nil))
	case "terminal":
		m, b, _ := request(abi.Msg{Op: abi.OpTermGet, A: 0}, nil)
		if m.Errno != 0 {
			panic(unix.Errno(m.Errno))
		}
		b[12] &^= unix.ECHO
		if m, _, _ := request(abi.Msg{Op: abi.OpTermSet, A: 0, B: unix.TCSETS}, b); m.Errno != 0 {
			panic(unix.Errno(m.Errno))
		}
		m, _, _ = request(abi.Msg{Op: abi.OpTermGet, A: 1}, nil)
		fmt.Print("quiet ", unix.Errno(m.Errno) == unix.ENOTTY, readBoot().Head.Flags)
		for {
			message()
		}
	case "file":
		m, _, fd := request(abi.Msg{Op: abi.OpOpen, B: unix.O_CREAT | unix.O_RDWR, C: 0o640}, abi.AppendString(nil, "note"))
		if m.Errno != 0 {
			panic(unix.Errno(m.Errno))
		}
		unix.Pwrite(fd, []byte(arg), 0)
	case "serve":
		a := abi.Addr{Family: 4, Port: 80}
		m, _, fd := request(abi.Msg{Op: abi.OpListen, A: abi.ProtoTCP, B: 16}, abi.AppendAddr(nil, a))
		if m.Errno != 0 {
			panic(unix.Errno(m.Errno))
		}
		fmt.Print("ready ")
		pollOne(fd, unix.POLLIN)
		c, _, err := unix.Accept4(fd, 0)
		if err != nil {
			panic(err)
		}
		unix.Write(c, []byte("hello from "+netip.MustParseAddr(abi.GuestIP4).String()))
		unix.Close(c)
	default:
		panic("unknown guest " + what)
	}
}
