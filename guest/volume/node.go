package volume

import (
	"sync/atomic"

	"noyau.dev/abi"
	"noyau.dev/guest/fs"
	"noyau.dev/guest/host"
	"noyau.dev/guest/linux"
	"noyau.dev/guest/rt"
)

// A node is what open files and directories have in common: a handle.
type node struct {
	fs.Location
	v    *volume
	name uint32 // the monitor's name for it
	fd   int32  // for host calls

	opened linux.Stat // as it was when it was opened,
	until  int64      // good until then (rt.Nanotime),
	as     uint32     // unless changes is no longer this
}

// fresh is how long, in ns, the attributes that came with the answer to open are
// good for fstat. Reading a file whole is open, fstat, read: this spares it half
// of the questions to the monitor.
const fresh = 1e6

// changes counts what this pVM changes in volumes.
var changes atomic.Uint32

// ask sends a request about the handle.
func (n *node) ask(m abi.Msg) (host.Reply, linux.Errno) {
	m.Handle = n.name
	return host.Request(m)
}

func (n *node) drop() {
	gate.RLock()
	defer gate.RUnlock()
	forget(n)
	n.giveBack()
}

// giveBack is drop for a node that nobody has seen. gate is held.
func (n *node) giveBack() {
	if n.fd >= 0 {
		host.Close(n.fd)
	}
	host.Post(abi.Msg{Op: abi.OpDrop, Handle: n.name})
}

func (n *node) Stat(st *linux.Stat) linux.Errno {
	if n.until != 0 && n.as == changes.Load() && rt.Nanotime() < n.until {
		*st = n.opened
		return 0
	}
	r, e := n.ask(abi.Msg{Op: abi.OpFstat})
	if e != 0 {
		return e
	}
	return takeStat(r.Payload, st)
}

func (n *node) Statfs(st *linux.Statfs) linux.Errno { return n.v.Statfs(st) }

func (n *node) Sync(dataOnly bool) linux.Errno {
	m := abi.Msg{Op: abi.OpSync}
	if dataOnly {
		m.A = 1
	}
	_, e := n.ask(m)
	return e
}

func (n *node) Chmod(mode uint32) linux.Errno {
	changes.Add(1)
	_, e := n.ask(abi.Msg{Op: abi.OpChmod, C: uint64(mode)})
	return e
}

func (n *node) Chown(uid, gid uint32) linux.Errno {
	changes.Add(1)
	_, e := n.ask(abi.Msg{Op: abi.OpChown, B: uint64(uid), C: uint64(gid)})
	return e
}

func (n *node) SetTimes(atime, mtime linux.Timespec) linux.Errno {
	changes.Add(1)
	ns := func(t linux.Timespec) uint64 {
		if t.Nsec == linux.UTIME_OMIT {
			return abi.TimeOmit
		}
		return uint64(t.Nano())
	}
	_, e := n.ask(abi.Msg{Op: abi.OpTimes, C: ns(atime), D: ns(mtime)})
	return e
}

// Flock takes or gives up a lock on the whole file. The monitor answers a
// waiting one when it has it.
func (n *node) Flock(op int) linux.Errno {
	_, e := n.ask(abi.Msg{Op: abi.OpFlock, A: uint64(op)})
	return e
}
