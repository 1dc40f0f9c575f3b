package monitor

import (
	"context"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"noyau.dev/abi"
	"noyau.dev/host/broker"
)

// slow is an isolation whose processes run for a while before it says that they do.
type slow struct {
	native
	runs chan Process
	say  chan struct{}
}

func (b slow) Start(s *Spec) (Process, error) {
	p, err := b.native.Start(s)
	if err == nil && s.Args[0] == "child" {
		b.runs <- p
		<-b.say
	}
	return p, err
}

// TestSignalStarting: a signal to a group reaches the program that has just been started in it,
// of which its starter has not heard yet.
func TestSignalStarting(t *testing.T) {
	b := slow{runs: make(chan Process, 1), say: make(chan struct{})}
	Register("slow", b)
	env := []string{guestEnv + "=sleep"}
	i := run(t, Config{Image: "/proc/self/exe", Isolation: "slow", Env: env, Exec: []Exec{{Name: ExecSelf}}})
	first := i.family.first
	var pid uint32
	started := make(chan error, 1)
	go func() {
		var err error
		pid, err = first.Exec(t.Context(), &broker.Exec{Args: []string{"child"}, Env: env, Group: abi.ExecGroup})
		started <- err
	}()
	<-b.runs
	first.f.mu.Lock()
	var group uint32
	for _, m := range first.f.living {
		if m != first {
			group = m.group
		}
	}
	first.f.mu.Unlock()
	killed := make(chan error, 1)
	go func() { killed <- first.SignalGroup(t.Context(), group, false, false, unix.SIGKILL) }()
	select {
	case err := <-killed:
		t.Errorf("signalled before the process was known: %v", err)
	case <-time.After(20 * time.Millisecond):
	}
	close(b.say)
	if err := <-started; err != nil || pid != group {
		t.Fatalf("process %d of group %d: %v", pid, group, err)
	}
	if err := <-killed; err != nil {
		t.Error(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if id, status, err := first.Wait(ctx, pid, true, false); id != pid || unix.WaitStatus(status).Signal() != unix.SIGKILL || err != nil {
		t.Errorf("process %d ended with %#x (%v)", id, status, err)
	}
}
