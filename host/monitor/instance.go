package monitor

import (
	"context"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"noyau.dev/host/broker"
	"noyau.dev/host/snapshot"
)

// An Instance is a pVM that was started. Its methods are safe for concurrent use.
type Instance struct {
	info     Info
	stopSig  unix.Signal
	broker   *broker.Broker
	proc     Process
	family   *family       // nil: it may not fork
	describe snapshot.Meta // as far as it is known at the start
	ending   func()        // nil, or called before it is killed

	mu     sync.Mutex
	image  *os.File // what runs; closed at the end
	why    string   // reason of a kill of ours
	killed atomic.Bool
	end    atomic.Bool  // the process is gone
	asked  atomic.Int32 // the last signal that asks a program to end

	pausing sync.Mutex // one at a time
	paused  atomic.Bool

	done chan struct{}
	exit Exit
}

func newInstance(c *Config, isolation string, ports *broker.Ports) *Instance {
	i := &Instance{
		info:     Info{Name: c.Name, Isolation: isolation, Started: time.Now()},
		stopSig:  c.StopSignal,
		done:     make(chan struct{}),
		describe: c.describe(),
	}
	bound := ports.Bound()
	for _, p := range ports.List() {
		i.describe.Publish = append(i.describe.Publish, p.String())
		i.info.Ports = append(i.info.Ports, Port{Publish: p, Host: bound[p].String()})
	}
	return i
}

// run starts all that works for a pVM whose process was started.
func (i *Instance) run(ctx context.Context, c *Config, proc Process, l *launch) {
	i.mu.Lock()
	i.proc = proc
	i.info.Pid = proc.Pid()
	i.image, _ = duplicate(l.image) // without it a snapshot believes the name
	i.mu.Unlock()
	if i.family != nil {
		i.family.begin(i.broker, proc)
	}
	if i.killed.Load() { // the broker failed meanwhile
		proc.Kill()
	}
	i.info.Sandbox, i.info.Missing = proc.Sandbox()

	restore := saveTerminals(c.Terminal)
	go i.broker.Serve()
	var out sync.WaitGroup
	if l.stdout != nil {
		out.Go(func() { c.Timing.markData("first output", l.stdout); drain(c.Stdout, l.stdout) })
	}
	if l.stderr != nil {
		out.Go(func() { drain(c.Stderr, l.stderr) })
	}
	if l.trace != nil {
		out.Go(func() { drain(c.TraceTo, l.trace) })
	}
	var stop stopper
	var fed chan struct{} // closed when no input is taken any more
	if c.Stdin == nil {
		l.stdin.Close()
	} else {
		ended := make(chan struct{})
		go func() { defer close(ended); feed(l.stdin, c.Stdin, &stop) }()
		if _, ok := c.Stdin.(*os.File); ok {
			fed = ended
		}
	}
	unwatch := context.AfterFunc(ctx, func() { i.kill("killed: " + context.Cause(ctx).Error()) })
	go func() {
		status := proc.Wait()
		c.Timing.Mark("process gone")
		i.end.Store(true)
		if i.family != nil {
			i.finishBroker()
			i.family.first.leave()
			if sig := unix.Signal(i.asked.Load()); sig != 0 {
				i.family.signalAll(sig)
			}
			i.family.members.Wait()
		}
		unwatch()
		stop.stop()
		i.finishBroker()
		out.Wait()
		if fed != nil {
			// Other readers, which cannot be stopped, are left behind.
			within(inputPatience, fed)
		}
		restore()
		i.exit = i.verdict(status)
		i.mu.Lock()
		i.image.Close()
		i.mu.Unlock()
		c.Timing.Mark("all closed")
		close(i.done)
	}()
}

// brokerPatience is how long a request that hangs in a host's file system may
// hold up Wait. It goes on in the background then.
const brokerPatience = 5 * time.Second

// inputPatience is how long Wait waits for a read of standard input to give up.
const inputPatience = time.Second

// within waits for c to be closed, but no longer than d, and says whether it was.
func within(d time.Duration, c <-chan struct{}) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-c:
		return true
	case <-t.C:
		return false
	}
}

// finishBroker lets the broker read what the guest sent last, which ends by
// itself now that nobody holds the other side, and release everything.
func (i *Instance) finishBroker() {
	if !within(brokerPatience, i.broker.Done()) {
		i.broker.Close()
	}
}

// verdict puts together how the pVM ended.
func (i *Instance) verdict(s Status) Exit {
	i.mu.Lock()
	why := i.why
	i.mu.Unlock()
	e := Exit{Code: s.Code, OOM: s.OOM}
	if s.Signal == 0 {
		if sig := i.broker.KilledBy(); sig != 0 && s.Code == 128+int(sig) {
			e.Signal = sig
			e.Reason = fmt.Sprintf("ended by signal %d (%s)", int(sig), unix.SignalName(sig))
		}
		return e
	}
	e.Signal, e.Code = s.Signal, 128+int(s.Signal)
	switch {
	case s.OOM:
		e.Reason = "killed by the host's kernel: out of memory"
	case s.Signal == unix.SIGSYS:
		e.Reason = "killed: made a forbidden system call"
	case s.Signal == unix.SIGKILL && why != "":
		e.Reason = why
	case s.Signal == unix.SIGKILL:
		e.Reason = "killed from outside (SIGKILL)"
	default:
		e.Reason = fmt.Sprintf("killed by signal %d (%s)", int(s.Signal), unix.SignalName(s.Signal))
	}
	if s.Detail != "" {
		e.Reason += ": " + s.Detail
	}
	return e
}

// failed ends a pVM for which the broker could not go on.
func (i *Instance) failed(err error) { i.kill(err.Error()) }

func (i *Instance) kill(why string) error {
	i.mu.Lock()
	if i.why == "" {
		i.why = why
	}
	proc := i.proc
	i.mu.Unlock()
	if i.ending != nil {
		i.ending()
	}
	i.killed.Store(true)
	if proc != nil && i.family != nil {
		return i.family.kill()
	}
	if proc == nil || i.end.Load() {
		return nil
	}
	return proc.Kill()
}

// Wait returns when the pVM and all that it has forked have ended, and all output was
// written. The Exit is that of the pVM itself. It may be called any number of times.
func (i *Instance) Wait() Exit { <-i.done; return i.exit }

// Done is closed when Wait would return.
func (i *Instance) Done() <-chan struct{} { return i.done }

// Signal delivers sig to the app as kill(2) would to a process; once that has ended to
// all that it has forked. If it ends after a signal that asks for that, such as SIGTERM,
// its forks get it too. SIGKILL ends the family at once. ESRCH means that it has ended.
func (i *Instance) Signal(sig unix.Signal) error {
	switch sig {
	case unix.SIGTERM, unix.SIGINT, unix.SIGHUP, unix.SIGQUIT, i.stopSig:
		i.asked.Store(int32(sig))
	}
	if i.end.Load() && i.family != nil && sig != unix.SIGKILL {
		return i.family.signalAll(sig)
	}
	if i.end.Load() && i.family == nil {
		return unix.ESRCH
	}
	if sig == unix.SIGKILL {
		return i.Kill()
	}
	return i.broker.Signal(sig)
}

// Kill ends the pVM at once.
func (i *Instance) Kill() error { return i.kill("killed") }

// Stop sends the stop signal, waits up to timeout and then kills. It returns
// when the pVM has ended. A negative timeout waits for ever. A pVM that is paused goes on,
// as it could not stop by itself otherwise.
func (i *Instance) Stop(timeout time.Duration) Exit {
	i.Signal(i.stopSig)
	if i.paused.Load() {
		i.Pause(false)
	}
	if timeout < 0 {
		return i.Wait()
	}
	if !within(timeout, i.done) {
		i.kill(fmt.Sprintf("killed: did not stop within %v of %s", timeout, unix.SignalName(i.stopSig)))
	}
	return i.Wait()
}

// Resize tells the app the new size of its terminal's window.
func (i *Instance) Resize(rows, cols uint16) error { return i.broker.Resize(rows, cols) }

// Stats returns figures of this moment; ESRCH if the pVM has ended.
func (i *Instance) Stats() (Stats, error) {
	if i.end.Load() && i.family == nil {
		return Stats{}, unix.ESRCH
	}
	if i.family != nil {
		return i.family.stats(), nil
	}
	s, err := i.proc.Stats()
	if err != nil {
		return s, err
	}
	f := i.broker.Figures()
	s.Handles, s.Pending, s.Requests, s.Connections = f.Handles, f.Pending, f.Requests, f.Connects
	return s, nil
}

// Info tells what is in force.
func (i *Instance) Info() Info { return i.info }
