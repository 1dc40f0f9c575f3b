package host

import (
	"sync"

	"noyau.dev/abi"
	"noyau.dev/guest/linux"
	"noyau.dev/guest/rt"
)

// ahead is a child that the monitor has prepared at the fork before this one, so that
// this one need not ask and wait. control.mu guards it.
var ahead struct {
	pid    uint32 // its process id; 0: there is none
	give   rights
	asked  bool // the monitor will send one
	unsent bool // it wants that one back
	forks  int  // a pVM that forks once needs none
}

// conceiving counts the goroutines that have asked for a child and not forked it yet. The
// monitor bounds those (maxBirths of host/broker), and more than a few do not help: who
// finds so many waits. control.mu guards it.
var conceiving struct {
	n    int
	room sync.Cond // of control.mu
}

const maxConceiving = 8

func init() { conceiving.room.L = &control.mu }

// Fork copies this pVM. In the parent it returns the child's process id, in the child
// 0. asked says that somebody outside wants it, narrow which rights the child does not have.
//
// No message goes out between OpForked and the copy, so that the child's handles are
// those of this very moment. The child has a control channel of its own: answers to
// what its parent has asked never come there.
func Fork(asked bool, narrow uint32) (pid uint32, errno linux.Errno) {
	if rt.Boot().Flags&abi.BootFork == 0 {
		return 0, linux.EPERM
	}
	c := &control
	c.mu.Lock()
	copies := c.copies
	var give rights
	if pid = ahead.pid; pid != 0 && !asked {
		give, ahead.pid = ahead.give, 0
	} else {
		for conceiving.n >= maxConceiving {
			conceiving.room.Wait()
		}
		conceiving.n++
		defer conceived() // with control.mu not held
		same := c.copies == copies
		c.mu.Unlock()
		if !same {
			return 0, linux.EINTR // as for a request: see below
		}
		if pid, give, errno = conceive(asked); errno != 0 {
			return 0, errno
		}
		c.mu.Lock()
	}
	if c.copies == copies {
		m := abi.Msg{Op: abi.OpForked, A: uint64(pid), D: uint64(narrow)}
		if ahead.forks++; ahead.forks > 1 && !asked {
			askAhead(&m)
		}
		errno = send(&m, -1, nil)
	}
	if c.copies != copies {
		// Another goroutine has forked meanwhile, and this is the copy: what came was
		// its parent's.
		c.mu.Unlock()
		give.close()
		return 0, linux.EINTR
	}
	if errno == 0 {
		var child bool
		var e uint32
		child, e = rt.Fork(&give.fd)
		if child {
			interrupt()
			c.mu.Unlock()
			return 0, 0
		}
		if errno = linux.Errno(e); errno != 0 {
			send(&abi.Msg{Op: abi.OpForked, A: uint64(pid), B: uint64(e)}, -1, nil)
		}
	}
	c.mu.Unlock()
	give.close()
	return pid, errno
}

// conceived lets the next goroutine ask for a child.
func conceived() {
	control.mu.Lock()
	conceiving.n--
	control.mu.Unlock()
	conceiving.room.Signal()
}

// conceive asks the monitor for what a child starts with.
func conceive(asked bool) (pid uint32, give rights, errno linux.Errno) {
	m := abi.Msg{Op: abi.OpFork}
	if asked {
		m.A = 1
	}
	r, errno := Request(m)
	if errno == 0 && r.more.n != abi.ForkHandles {
		errno = linux.EMFILE // there are not so many left
	}
	if errno != 0 {
		r.more.close()
	}
	return uint32(r.A), r.more, errno
}

// askAhead makes m, an OpForked, ask for the next child too. mu is held.
func askAhead(m *abi.Msg) {
	c := &control
	if ahead.asked || ahead.pid != 0 || len(c.pending) >= abi.MaxPending {
		return
	}
	m.ID, m.C = c.newID(), 1
	c.pending[m.ID] = &pending{op: abi.OpForked, done: make(chan struct{}, 1)}
	ahead.asked = true
}

// keepAhead takes the answer to what askAhead asked.
func keepAhead(m *abi.Msg, give *rights) {
	control.mu.Lock()
	defer control.mu.Unlock()
	ahead.asked = false
	if m.Errno != 0 || give.n != abi.ForkHandles {
		give.close()
		return
	}
	ahead.pid, ahead.give = uint32(m.A), *give
	if ahead.unsent {
		rt.Spawn(GiveBack) // which may have to wait for this goroutine
	}
}

// GiveBack lets go of the child that was prepared ahead, as the family needs its place.
func GiveBack() {
	control.mu.Lock()
	defer control.mu.Unlock()
	ahead.unsent = ahead.asked
	if ahead.pid != 0 {
		send(&abi.Msg{Op: abi.OpForked, A: uint64(ahead.pid), B: uint64(linux.EAGAIN)}, -1, nil)
		dropAhead()
	}
}

// dropAhead closes what the child would have had. mu is held.
func dropAhead() {
	if ahead.pid != 0 {
		ahead.pid = 0
		ahead.give.close()
	}
}

// interrupt ends the requests that were under way in the parent. mu is held.
func interrupt() {
	c := &control
	c.copies++
	dropAhead() // its parent's
	ahead.asked, ahead.unsent, ahead.forks = false, false, 0
	for id, p := range c.pending {
		delete(c.pending, id)
		p.reply, p.errno = Reply{FD: -1}, linux.EINTR
		if p.op == abi.OpConnect || p.op == abi.OpNameDial {
			p.errno = linux.ECONNRESET // whose EINTR would mean "still connecting"
		}
		p.done <- struct{}{}
	}
	c.bad = 0
	c.room.Broadcast()
}

// Take stores the handles of a reply with exactly so many, and reports whether it has.
func (r *Reply) Take(h []int32) bool {
	if r.more.n != len(h) {
		r.more.close()
		return false
	}
	copy(h, r.more.fd[:])
	return true
}

// ReloadBoot reads the small boot block of a forked pVM.
func ReloadBoot(handle int32) (*Boot, linux.Errno) {
	h := rt.Boot()
	if h.Size < abi.BootSize || h.Size > 64<<10 {
		return nil, linux.EINVAL
	}
	b := make([]byte, h.Size)
	if !copyBoot(b) {
		if n, e := Pread(handle, b, 0); e != 0 || n != len(b) {
			return nil, linux.EIO
		}
	}
	boot, ok := ParseBoot(h, b[abi.BootSize:])
	if !ok {
		return nil, linux.EINVAL
	}
	return boot, 0
}
