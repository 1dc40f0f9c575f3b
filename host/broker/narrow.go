package broker

import (
	"golang.org/x/sys/unix"

	"noyau.dev/abi"
)

// Narrow takes rights away for good (abi.NarrowNet …).
func (b *Broker) Narrow(rights uint32) {
	if b.narrowed.Or(rights)&abi.NarrowFork == 0 && rights&abi.NarrowFork != 0 {
		b.GiveBack() // so that the next fork is refused, and not the one after it
	}
}

// Narrowed is what has been taken away.
func (b *Broker) Narrowed() uint32 { return b.narrowed.Load() }

// needs are the rights that requests need, beside those that depend on their fields.
var needs = [abi.OpLast + 1]uint32{
	abi.OpListen: abi.NarrowListen, abi.OpConnect: abi.NarrowNet,

	abi.OpOpen: abi.NarrowVolumes, abi.OpStat: abi.NarrowVolumes, abi.OpReadlink: abi.NarrowVolumes,
	abi.OpAccess: abi.NarrowVolumes, abi.OpStatfs: abi.NarrowVolumes,
	abi.OpMkdir: changes, abi.OpUnlink: changes, abi.OpRename: changes, abi.OpLink: changes, abi.OpSymlink: changes,
	abi.OpChmod: changes, abi.OpChown: changes, abi.OpTruncate: changes, abi.OpTimes: changes, abi.OpFalloc: changes,
	abi.OpMknod: changes,

	abi.OpFork: abi.NarrowFork, abi.OpPair: abi.NarrowFork, abi.OpShare: abi.NarrowFork,
	abi.OpExecNew: abi.NarrowExec, abi.OpExecStart: abi.NarrowExec,
	abi.OpNameListen: abi.NarrowNames, abi.OpNameDial: abi.NarrowNames,
}

const changes = abi.NarrowVolumes | abi.NarrowWrite

// allowed says whether the pVM still has the right to r.
func (r *request) allowed() error {
	gone := r.b.narrowed.Load()
	if gone == 0 {
		return nil
	}
	switch lost := needs[r.msg.Op] & gone; {
	case lost&abi.NarrowVolumes == 0 && lost&abi.NarrowWrite != 0:
		return unix.EROFS
	case lost != 0:
		return unix.EACCES
	}
	switch r.msg.Op {
	case abi.OpOpen:
		const reads = unix.O_CLOEXEC | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_NONBLOCK | unix.O_LARGEFILE | unix.O_PATH | unix.O_NOATIME
		if gone&abi.NarrowWrite != 0 && r.msg.B&^reads != unix.O_RDONLY {
			return unix.EROFS
		}
	case abi.OpReopen: // what was open stays open
		if gone&^r.b.narrowedBefore&changes != 0 {
			return unix.EACCES
		}
	case abi.OpUDP, abi.OpSendTo:
		if gone&(abi.NarrowNet|abi.NarrowListen) != 0 {
			return r.udpAllowed(gone)
		}
	case abi.OpForked:
		if gone&abi.NarrowFork != 0 && r.msg.B == 0 {
			r.b.unfork()
		}
	}
	return nil
}

// udpAllowed decides on datagrams: a published port is a listener, others are the network.
func (r *request) udpAllowed(gone uint32) error {
	published := false
	if r.msg.Op == abi.OpUDP {
		if a, _, err := takeAddr(r.payload); err == nil {
			published = r.b.c.Ports.find(true, a.Port()) != nil
		}
	} else if h, err := r.b.table.get(r.msg.Handle, kindUDP); err == nil {
		published = h.port != nil
		h.put()
	}
	if published && gone&abi.NarrowListen == 0 || !published && gone&abi.NarrowNet == 0 {
		return nil
	}
	return unix.EACCES
}

// unfork makes nothing of the children that are prepared: a guest that may not fork any
// more may have been given one before.
func (b *Broker) unfork() {
	b.births.mu.Lock()
	defer b.births.mu.Unlock()
	for _, birth := range b.births.m {
		birth.Child.Close()
	}
}

func doNarrow(r *request) (reply, error) {
	pid, err := small(r.msg.B)
	if err != nil || r.msg.A&^abi.NarrowAll != 0 {
		return reply{}, unix.EINVAL
	}
	rights := uint32(r.msg.A)
	if pid == 0 {
		r.b.Narrow(rights)
		if f, ok := r.b.c.Family.(Linker); ok && rights&abi.NarrowSignal != 0 {
			f.UnlinkAll()
		}
		return reply{}, nil
	}
	f, ok := r.b.c.Family.(Narrower)
	if !ok {
		return reply{}, unix.ESRCH
	}
	return reply{}, f.Narrow(r.ctx, pid, rights)
}
