package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"noyau.dev/host/monitor"
	"noyau.dev/host/state"
)

// Descriptors that a background monitor starts with, besides 0 to 2.
const (
	readyFD = 3 // pipe: one started message
	imageFD = 4
)

// started is what a background monitor tells the command that made it.
type started struct {
	Error string `json:"error,omitempty"`
	Code  int    `json:"code,omitempty"` // exit code for Error
}

// untilInterrupted gives cmd a context that ends when the user wants no more of a command that
// starts something in the background: it then takes back what it has begun.
func untilInterrupted(cmd *cobra.Command) context.CancelFunc {
	ctx, cancel := context.WithCancel(cmd.Context())
	cmd.SetContext(ctx)
	signals := notify(unix.SIGINT, unix.SIGTERM, unix.SIGHUP, unix.SIGQUIT)
	context.AfterFunc(ctx, func() { signal.Stop(signals) })
	go func() {
		select {
		case <-signals:
			cancel()
		case <-ctx.Done():
		}
	}()
	return cancel
}

var errInterrupted = &exitCode{128 + int(unix.SIGINT), errors.New("interrupted: nothing is left of what was begun")}

// detach starts a monitor in the background and prints the id once the app runs.
func detach(ctx context.Context, l *listing, c monitor.Config) error {
	e := l.entry
	img := c.ImageFile
	c.ImageFile = nil
	if err := startMonitor(ctx, e, c, img, "monitor", e.Meta.ID); err != nil {
		return err
	}
	fmt.Println(e.Meta.ID)
	return nil
}

// startMonitor runs this program in the background with args, which finds spec in the entry,
// and returns when it says that all is started. If ctx ends before, so does the monitor.
func startMonitor(ctx context.Context, e *state.Entry, spec any, img *os.File, args ...string) error {
	if err := e.WriteSpec(spec); err != nil {
		return err
	}
	logf, err := os.OpenFile(e.Path("monitor.log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer logf.Close()
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	defer r.Close()
	self, err := os.Executable()
	if err != nil {
		self = "/proc/self/exe"
	}
	cmd := exec.Command(self, args...)
	cmd.Dir = "/" // hold on to no directory of the user's
	cmd.Stdout, cmd.Stderr = logf, logf
	cmd.ExtraFiles = []*os.File{w, img}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	err = cmd.Start()
	w.Close()
	if err != nil {
		return fmt.Errorf("start the monitor: %w", err)
	}
	var s started
	kill := context.AfterFunc(ctx, func() { cmd.Process.Kill() })
	err = json.NewDecoder(r).Decode(&s)
	if !kill() {
		cmd.Wait()
		return errInterrupted
	}
	if err != nil {
		cmd.Wait()
		text, _ := os.ReadFile(e.Path("monitor.log"))
		return &exitCode{exitError, fmt.Errorf("the monitor ended without starting the app (%s): %s", cmd.ProcessState, tail(text, 2000))}
	}
	if s.Error != "" {
		cmd.Wait()
		return &exitCode{s.Code, errors.New(s.Error)}
	}
	return nil
}

func tail(b []byte, n int) []byte { return b[max(0, len(b)-n):] }

// newMonitor is the command that startMonitor runs. Users have no use for it.
func newMonitor() *cobra.Command {
	var clones bool
	cmd := &cobra.Command{
		Use:    "monitor ID",
		Hidden: true,
		Args:   cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			if clones {
				return background(func() ([]*session, error) { return startClones(args[0]) })
			}
			return background(func() ([]*session, error) {
				s, err := startDetached(args[0])
				return []*session{s}, err
			})
		},
	}
	cmd.Flags().BoolVar(&clones, "clones", false, "the spec is that of noyau clone")
	return cmd
}

// background runs what begin starts until all of it has ended.
func background(begin func() ([]*session, error)) error {
	if err := dropInherited(imageFD); err != nil {
		return err
	}
	catch(unix.SIGHUP, unix.SIGPIPE)
	ready := os.NewFile(readyFD, "ready")
	defer ready.Close()
	list, err := begin()
	if err != nil {
		msg := started{Error: err.Error(), Code: exitError}
		if code := new(exitCode); errors.As(err, &code) {
			msg.Code = code.code
		}
		json.NewEncoder(ready).Encode(msg)
		return err
	}
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, unix.SIGTERM, unix.SIGINT)
	go func() { // the machine shuts down, or the user's session ends
		for range signals {
			for _, s := range list {
				go s.inst.Stop(stopTimeout(s.entry))
			}
		}
	}()
	json.NewEncoder(ready).Encode(started{})
	ready.Close()
	errs := make(chan error)
	for _, s := range list {
		go func() { _, err := s.wait(); errs <- err }()
	}
	for range list {
		err = errors.Join(err, <-errs)
	}
	return err
}

func stopTimeout(e *state.Entry) time.Duration { return e.Meta.StopTimeout }

// startDetached takes over the entry that the command made, and starts its pVM.
func startDetached(id string) (*session, error) {
	d, err := state.Open()
	if err != nil {
		return nil, err
	}
	e, err := takeOver(d, id)
	if err != nil {
		return nil, err
	}
	var c monitor.Config
	if err := e.ReadSpec(&c); err != nil {
		return nil, err
	}
	// The environment may hold secrets, and nobody needs it any more.
	os.Remove(e.Path("spec.json"))
	c.ImageFile = os.NewFile(imageFD, c.Image)
	defer c.ImageFile.Close()
	return startLogged(d, e, c)
}

// takeOver gives the entry that a command made to this process.
func takeOver(d *state.Dir, id string) (*state.Entry, error) {
	e, err := d.Get(id)
	if err != nil {
		return nil, err
	}
	return e, e.SetStatus(state.Status{Phase: state.Created, Monitor: state.Self()})
}

// startLogged starts a pVM whose output goes to its log.
func startLogged(d *state.Dir, e *state.Entry, c monitor.Config) (*session, error) {
	log, err := e.OpenLog(state.DefaultLogLimits)
	if err != nil {
		return nil, err
	}
	c.Stdout, c.Stderr = log.Stream("stdout"), log.Stream("stderr")
	s, err := startSession(c, &listing{dir: d, entry: e})
	if err != nil {
		return nil, startError(err)
	}
	return s, nil
}

// dropInherited closes what the user's shell left open besides the descriptors
// up to keep. These lack the close-on-exec flag, or they would not be here;
// those that the Go runtime has opened meanwhile have it.
func dropInherited(keep int) error {
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return fmt.Errorf("list our descriptors: %w", err)
	}
	for _, x := range fds {
		fd, err := strconv.Atoi(x.Name())
		if err != nil || fd < 3 {
			continue
		}
		flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
		if err != nil || flags&unix.FD_CLOEXEC != 0 {
			continue
		}
		if fd > keep {
			unix.Close(fd)
		} else {
			unix.CloseOnExec(fd)
		}
	}
	return nil
}

// imageName shortens what is shown of an image in tables.
func imageName(s string) string {
	if filepath.IsAbs(s) {
		return filepath.Base(s)
	}
	return s
}
