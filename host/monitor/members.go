package monitor

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"
)

// A Member is a pVM of a family as others see it.
type Member struct {
	PID, Parent int // inside
	Pid         int // on the host
	Stats       Stats
}

// Members lists the family: this pVM and all that were forked of it and live.
func (i *Instance) Members() []Member {
	var list []Member
	if i.family == nil {
		if s, err := i.Stats(); err == nil {
			list = append(list, Member{PID: 1, Pid: i.proc.Pid(), Stats: s})
		}
		return list
	}
	for _, m := range i.family.all() {
		s, err := m.proc.Stats()
		if err != nil {
			continue // it has just ended
		}
		list = append(list, Member{PID: int(m.pid), Parent: int(m.ppid), Pid: m.proc.Pid(), Stats: s})
	}
	slices.SortFunc(list, func(a, b Member) int { return a.PID - b.PID })
	return list
}

// ErrPaused is what a paused pVM cannot do.
var ErrPaused = errors.New("the pVM is paused; let it go on first (noyau resume)")

// ErrNoFork says that a pVM was started without the permission to fork.
var ErrNoFork = errors.New("this pVM may not fork: run it with --fork N")

// Fork makes a copy of the pVM as it is now, and returns the id of the copy inside the
// family. The app does not notice, but for its connections, which the copy does not have.
func (i *Instance) Fork(ctx context.Context) (int, error) {
	f := i.family
	if f == nil || f.conf.Forks < 2 {
		return 0, ErrNoFork
	}
	if i.paused.Load() {
		return 0, ErrPaused
	}
	f.asks.Lock()
	defer f.asks.Unlock()
	select {
	case <-f.asked: // of somebody who did not wait for it
	default:
	}
	list := f.all()
	if len(list) == 0 {
		return 0, unix.ESRCH
	}
	if len(list) >= f.limit {
		return 0, fmt.Errorf("the family has %d pVMs, as many as it may have; run it with a larger --fork", len(list))
	}
	from := slices.MinFunc(list, func(a, b *member) int { return int(a.pid) - int(b.pid) })
	if err := from.broker.Fork(); err != nil {
		return 0, err
	}
	select {
	case pid := <-f.asked:
		return pid, nil
	case <-i.done:
		return 0, unix.ESRCH
	case <-ctx.Done():
		return 0, fmt.Errorf("the pVM has not forked: %w", ctx.Err())
	}
}

// A Pauser is a Process that can be stopped and continued, with all that it has forked.
type Pauser interface{ Pause(on bool) error }

// Pause stops the family where it is, or lets it go on. Time goes on for it.
func (i *Instance) Pause(on bool) error {
	i.pausing.Lock()
	defer i.pausing.Unlock()
	procs := []Process{i.proc}
	if i.family != nil {
		for _, m := range i.family.all() {
			procs = append(procs, m.proc) // images that were started are not of the first's group
		}
	}
	for _, proc := range procs {
		p, ok := proc.(Pauser)
		if !ok {
			return errors.New("this isolation cannot pause")
		}
		if err := p.Pause(on); err != nil && len(procs) == 1 {
			return err
		}
	}
	i.paused.Store(on)
	return nil
}
