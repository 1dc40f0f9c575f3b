package monitor

import (
	"context"
	"slices"

	"golang.org/x/sys/unix"

	"noyau.dev/abi"
	"noyau.dev/host/broker"
)

// Group implements broker.Grouper.
func (m *member) Group(op, pid, group uint32) (pgid, session uint32, err error) {
	f := m.f
	f.mu.Lock()
	defer f.mu.Unlock()
	t := m
	if pid != 0 {
		t = f.living[pid]
	}
	if t == nil || !t.there() {
		return 0, 0, unix.ESRCH
	}
	switch op {
	case abi.GroupSet:
		err = m.setGroup(t, group)
	case abi.GroupSession:
		if t != m || f.groupMember(m.pid, 0) != nil {
			err = unix.EPERM // it leads a group
		} else {
			m.group, m.session = m.pid, m.pid
		}
	}
	return t.group, t.session, err
}

// there says whether m runs or is just being forked or started. What is started runs before
// its starter is told of it. mu is held.
func (m *member) there() bool {
	if m.proc != nil || m.started {
		return true
	}
	return m.parent != nil && m.parent.children[m.pid] != nil
}

// setGroup is setpgid(2). mu is held.
func (m *member) setGroup(t *member, group uint32) error {
	switch {
	case t != m && t.parent != m:
		return unix.ESRCH
	case t != m && t.started:
		return unix.EACCES
	case t.session != m.session || t.session == t.pid:
		return unix.EPERM
	}
	if group == 0 {
		group = t.pid
	}
	if group != t.pid && m.f.groupMember(group, t.session) == nil {
		return unix.EPERM
	}
	t.group = group
	return nil
}

// groupMember is a member of a group, in that session if it is not 0; nil if there is
// none. mu is held.
func (f *family) groupMember(group, session uint32) *member {
	for _, m := range f.living {
		if m.group == group && (session == 0 || m.session == session) && m.there() {
			return m
		}
	}
	return nil
}

// startGroup gives a child that is started the group that x wants. mu is held.
func (m *member) startGroup(parent *member, x *broker.Exec) error {
	m.group, m.session = parent.group, parent.session
	switch x.Group {
	case abi.ExecGroup:
		m.group = m.pid
	case abi.ExecSession:
		m.group, m.session = m.pid, m.pid
	case abi.ExecJoin:
		if m.f.groupMember(x.Join, m.session) == nil {
			return unix.EPERM
		}
		m.group = x.Join
	}
	return nil
}

// SignalGroup implements broker.Grouper.
func (m *member) SignalGroup(ctx context.Context, group uint32, all, narrowed bool, sig unix.Signal) error {
	f := m.f
	f.mu.Lock()
	if group == 0 {
		group = m.group
	}
	var pids []uint32
	err := error(unix.ESRCH)
	for _, t := range f.living {
		switch {
		case !t.there() || all && (t == m || t == f.first) || !all && t.group != group:
		case narrowed && t != m && !t.descends(m):
			err = unix.EPERM
		default:
			pids = append(pids, t.pid)
		}
	}
	for _, c := range m.children {
		if c.over && !all && c.group == group {
			err = nil // ended and not waited for
		}
	}
	f.mu.Unlock()
	// Itself last: SIGKILL would be the end of it.
	slices.SortFunc(pids, func(a, b uint32) int {
		switch {
		case a == m.pid:
			return 1
		case b == m.pid:
			return -1
		}
		return int(a) - int(b)
	})
	for _, pid := range pids {
		if m.Signal(ctx, pid, sig) == nil {
			err = nil
		}
	}
	return err
}

// WaitGroup implements broker.Grouper.
func (m *member) WaitGroup(ctx context.Context, group uint32, hang, keep bool) (uint32, uint32, error) {
	return m.wait(ctx, hang, keep, func(pid uint32, c *child) bool {
		want := group
		if want == 0 {
			want = m.group
		}
		if t := m.f.living[pid]; t != nil {
			return t.group == want
		}
		return c.group == want
	})
}
