package vmtest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"noyau.dev/abi"
	"noyau.dev/host/vm/runner"
)

// Result is how a guest ended and what it said.
type Result struct {
	Code   int         // exit code; 128+n if the runner process itself died of signal n
	Signal unix.Signal // that killed the runner process; 0 is what it should be
	Out    []byte
	Err    []byte
	// Messages are those that came on the control channel.
	Messages []abi.Msg
	CPU      time.Duration // of the whole runner process
	Wall     time.Duration
}

// Options change how a guest is run.
type Options struct {
	Args, Env []string
	Memory    uint64 // limit of the region; default 64 MiB
	Flags     uint32 // of the boot block
	TickUS    uint32
	Timeout   time.Duration // default 20 s
	Stats     bool
	Exe       string     // the runner binary; default this one
	Handles   []*os.File // further handles from abi.HandleFirst on
}

// Available says why there is no KVM here, or "".
func Available() string {
	f, err := os.OpenFile("/dev/kvm", os.O_RDWR, 0)
	if err != nil {
		return "isolation=vm cannot be tested here: " + err.Error()
	}
	f.Close()
	return ""
}

// memfd returns a sealed memory file with the given content.
func memfd(name string, content []byte) (*os.File, error) {
	fd, err := unix.MemfdCreate(name, unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), name)
	if _, err := f.Write(content); err != nil {
		return nil, err
	}
	_, err = unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, unix.F_SEAL_SEAL|unix.F_SEAL_SHRINK|unix.F_SEAL_GROW|unix.F_SEAL_WRITE)
	return f, err
}

// pair returns the two ends of a socket: the guest's nonblocking, ours blocking.
func pair(kind int) (guest, ours *os.File, err error) {
	p, err := unix.Socketpair(unix.AF_UNIX, kind|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, err
	}
	unix.SetNonblock(p[0], true)
	return os.NewFile(uintptr(p[0]), "guest"), os.NewFile(uintptr(p[1]), "host"), nil
}

// Run runs an image in a runner process: this binary, whose main (or TestMain)
// calls runner.Main if runner.Wanted.
func Run(image []byte, o Options) (*Result, error) {
	if o.Memory == 0 {
		o.Memory = 64 << 20
	}
	if o.Timeout == 0 {
		o.Timeout = 20 * time.Second
	}
	var closers []io.Closer
	defer func() {
		for _, c := range closers {
			c.Close()
		}
	}()
	h := abi.BootHeader{Magic: abi.Magic, Version: abi.Version, Flags: abi.BootVM | o.Flags, Size: abi.BootSize,
		Memory: o.Memory, ID: 1, PID: 1, UID: 1000, GID: 1000, TickUS: o.TickUS}
	b := make([]byte, abi.BootSize)
	h.Put(b)
	boot, err := memfd("boot", b)
	if err != nil {
		return nil, err
	}
	img, err := memfd("image", image)
	if err != nil {
		return nil, err
	}
	kvm, err := os.OpenFile("/dev/kvm", os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	ep, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, err
	}
	epoll := os.NewFile(uintptr(ep), "epoll")
	closers = append(closers, boot, img, kvm, epoll)
	var guest, ours [4]*os.File
	for i := range guest {
		kind := unix.SOCK_STREAM
		if i == 3 {
			kind = unix.SOCK_SEQPACKET
		}
		if guest[i], ours[i], err = pair(kind); err != nil {
			return nil, err
		}
		closers = append(closers, ours[i])
	}
	exe := o.Exe
	if exe == "" {
		exe = "/proc/self/exe"
	}
	args := o.Args
	if args == nil {
		args = []string{"guest"}
	}
	cmd := &exec.Cmd{Path: exe, Args: args, Env: runner.Env(runner.Order{Image: 6 + len(o.Handles), KVM: 7 + len(o.Handles), Stats: o.Stats}, o.Env),
		Stdin: guest[0], Stdout: guest[1], Stderr: guest[2],
		ExtraFiles: slices.Concat([]*os.File{guest[3], boot, epoll}, o.Handles, []*os.File{img, kvm})}
	begin := time.Now()
	err = cmd.Start()
	for _, g := range guest {
		g.Close()
	}
	if err != nil {
		return nil, err
	}
	timer := time.AfterFunc(o.Timeout, func() { cmd.Process.Kill() })
	defer timer.Stop()
	res := &Result{}
	done := make(chan struct{}, 3)
	var out, errs bytes.Buffer
	go func() { io.Copy(&out, ours[1]); done <- struct{}{} }()
	go func() { io.Copy(&errs, ours[2]); done <- struct{}{} }()
	go func() {
		defer func() { done <- struct{}{} }()
		p := make([]byte, abi.MaxMsg)
		for {
			n, err := ours[3].Read(p)
			if err != nil || n == 0 {
				return
			}
			if m, _, ok := abi.TakeMsg(p[:n]); ok {
				res.Messages = append(res.Messages, m)
			}
		}
	}()
	err = cmd.Wait()
	res.Wall = time.Since(begin)
	for range 3 {
		<-done
	}
	res.Out, res.Err = out.Bytes(), errs.Bytes()
	var ee *exec.ExitError
	if err != nil && !errors.As(err, &ee) {
		return nil, err
	}
	ws := cmd.ProcessState.Sys().(interface {
		Signaled() bool
		ExitStatus() int
	})
	res.CPU = cmd.ProcessState.SystemTime() + cmd.ProcessState.UserTime()
	if ws.Signaled() {
		res.Signal = unix.Signal(cmd.ProcessState.Sys().(interface{ Signal() unix.Signal }).Signal())
		res.Code = 128 + int(res.Signal)
		return res, fmt.Errorf("the runner was killed by %v; it said %q", res.Signal, res.Err)
	}
	res.Code = ws.ExitStatus()
	return res, nil
}
