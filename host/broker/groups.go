package broker

import (
	"context"

	"golang.org/x/sys/unix"

	"noyau.dev/abi"
)

// A Grouper is a Family with process groups.
type Grouper interface {
	// Group answers getpgid, setpgid and setsid (op is abi.GroupGet …) of a member; pid 0
	// is this one.
	Group(op, pid, group uint32) (pgid, session uint32, err error)
	// SignalGroup signals the members of a group, 0: that of this member; or, if all is set,
	// all but the first and this one. narrowed: only descendants and this one. ESRCH: there
	// are none; EPERM: none that it may signal.
	SignalGroup(ctx context.Context, group uint32, all, narrowed bool, sig unix.Signal) error
	// WaitGroup is Wait for the children in a group, 0: that of this member.
	WaitGroup(ctx context.Context, group uint32, hang, keep bool) (uint32, uint32, error)
}

func doGroup(r *request) (reply, error) {
	f, ok := r.b.c.Family.(Grouper)
	if !ok {
		return reply{}, unix.ESRCH
	}
	pid, err := small(r.msg.A)
	if err != nil {
		return reply{}, err
	}
	group, err := small(r.msg.C)
	if err != nil || r.msg.B > abi.GroupSession || group > 1<<31-1 {
		return reply{}, unix.EINVAL
	}
	g, s, err := f.Group(uint32(r.msg.B), pid, group)
	return reply{a: uint64(g), b: uint64(s)}, err
}

// killGroup is doKill for more than one.
func (r *request) killGroup(group uint32) error {
	f, ok := r.b.c.Family.(Grouper)
	if !ok {
		return unix.ESRCH
	}
	return f.SignalGroup(r.ctx, group, r.msg.C == abi.KillAll, r.b.Narrowed()&abi.NarrowSignal != 0, unix.Signal(r.msg.B))
}
