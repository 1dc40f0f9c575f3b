package fs

import (
	"noyau.dev/guest/kernel"
	"noyau.dev/guest/linux"
	"noyau.dev/guest/rt"
)

// Locks are the locks on one inode of the in-memory tree: whole-file locks
// (flock) and record locks (fcntl), which do not see each other. The tree's
// mutex guards them. An owner is an open file description; the process, the
// owner of POSIX record locks, is nil: there is one process per pVM, so POSIX
// locks conflict only with those of open file descriptions.
type Locks struct {
	whole   []wholeLock
	records []record
	freed   kernel.WaitQueue // told when a lock goes
}

type wholeLock struct {
	owner any
	excl  bool
}

// A record is a lock on the bytes from start to end, both included.
type record struct {
	owner      any
	excl       bool
	start, end int64
}

func (l *Locks) wake() { l.freed.Notify(rt.In) }

// flock tries once; EAGAIN if somebody else is in the way. An old lock of the
// owner is given up first, as Linux does.
func (l *Locks) flock(owner any, op int) linux.Errno {
	excl := op == linux.LOCK_EX
	for i, w := range l.whole {
		if w.owner != owner {
			continue
		}
		if op != linux.LOCK_UN && w.excl == excl {
			return 0
		}
		l.whole = append(l.whole[:i], l.whole[i+1:]...)
		l.wake()
		break
	}
	if op == linux.LOCK_UN {
		return 0
	}
	for _, w := range l.whole {
		if excl || w.excl {
			return linux.EAGAIN
		}
	}
	l.whole = append(l.whole, wholeLock{owner, excl})
	return 0
}

// conflict returns a record that keeps owner from locking, or nil.
func (l *Locks) conflict(want record) *record {
	for i := range l.records {
		r := &l.records[i]
		if r.owner != want.owner && (r.excl || want.excl) && r.start <= want.end && want.start <= r.end {
			return r
		}
	}
	return nil
}

// cut takes the owner's records in a range away, splitting those that stick out.
func (l *Locks) cut(owner any, start, end int64) {
	old := l.records
	l.records = nil
	for _, r := range old {
		if r.owner != owner || r.end < start || r.start > end {
			l.records = append(l.records, r)
			continue
		}
		if r.start < start {
			l.records = append(l.records, record{owner, r.excl, r.start, start - 1})
		}
		if r.end > end {
			l.records = append(l.records, record{owner, r.excl, end + 1, r.end})
		}
	}
}

// set enters a record that conflicts with none, merged with the owner's like
// ones that it touches.
func (l *Locks) set(want record) {
	l.cut(want.owner, want.start, want.end)
	kept := l.records[:0]
	for _, r := range l.records {
		if r.owner == want.owner && r.excl == want.excl {
			if r.end < maxSize && r.end+1 == want.start {
				want.start = r.start
				continue
			}
			if want.end < maxSize && want.end+1 == r.start {
				want.end = r.end
				continue
			}
		}
		kept = append(kept, r)
	}
	l.records = append(kept, want)
}

// release drops all locks of a description.
func (l *Locks) release(owner any) {
	l.flock(owner, linux.LOCK_UN)
	l.cut(owner, 0, maxSize)
	l.wake()
}

// locked runs try with the inode's locks, and again after each change to them
// while it returns EAGAIN and wait is set.
func (t *Tree) locked(n *inode, wait bool, try func(l *Locks) linux.Errno) linux.Errno {
	t.mu.Lock()
	if n.locks == nil {
		n.locks = new(Locks)
	}
	l := n.locks
	e := try(l)
	if e != linux.EAGAIN || !wait {
		t.mu.Unlock()
		return e
	}
	p := kernel.GetParker()
	w := &kernel.Watcher{Mask: rt.In, To: p}
	l.freed.Add(w)
	for e == linux.EAGAIN {
		t.mu.Unlock()
		p.Park(0)
		t.mu.Lock()
		e = try(l)
	}
	t.mu.Unlock()
	l.freed.Remove(w)
	p.Put()
	return e
}

// flock is flock(2) by the description owner.
func (t *Tree) flock(n *inode, owner any, op int) linux.Errno {
	kind := op &^ linux.LOCK_NB
	switch kind {
	case linux.LOCK_SH, linux.LOCK_EX, linux.LOCK_UN:
	default:
		return linux.EINVAL
	}
	return t.locked(n, op&linux.LOCK_NB == 0, func(l *Locks) linux.Errno { return l.flock(owner, kind) })
}

func (f *memFile) Flock(op int) linux.Errno { return f.t.flock(f.n, f, op) }
func (f *dirFile) Flock(op int) linux.Errno { return f.t.flock(f.p.ino, f, op) }

// Range turns the range of a lock request into the first and last byte, the
// file's position and size being as given. EINVAL, EOVERFLOW.
func Range(l *linux.Flock, pos, size int64) (start, end int64, e linux.Errno) {
	switch l.Whence {
	case linux.SEEK_SET:
	case linux.SEEK_CUR:
		start = pos
	case linux.SEEK_END:
		start = size
	default:
		return 0, 0, linux.EINVAL
	}
	if l.Start > maxSize-start {
		return 0, 0, linux.EOVERFLOW
	}
	start += l.Start
	switch {
	case start < 0:
		return 0, 0, linux.EINVAL
	case l.Len > 0:
		if l.Len-1 > maxSize-start {
			return 0, 0, linux.EOVERFLOW
		}
		return start, start + l.Len - 1, 0
	case l.Len < 0:
		if start+l.Len < 0 {
			return 0, 0, linux.EINVAL
		}
		return start + l.Len, start - 1, 0
	}
	return start, maxSize, 0
}

// RecordLock is fcntl(2) with F_GETLK … F_OFD_SETLKW.
func (f *memFile) RecordLock(cmd int, l *linux.Flock) linux.Errno {
	f.t.mu.Lock()
	start, end, e := Range(l, f.pos, f.n.size())
	f.t.mu.Unlock()
	if e != 0 {
		return e
	}
	var owner any
	if cmd >= linux.F_OFD_GETLK {
		owner = f
		if l.PID != 0 {
			return linux.EINVAL
		}
	}
	get := cmd == linux.F_GETLK || cmd == linux.F_OFD_GETLK
	acc := f.flags.Load() & linux.O_ACCMODE
	switch l.Type {
	case linux.F_RDLCK:
		if !get && acc == linux.O_WRONLY {
			return linux.EBADF
		}
	case linux.F_WRLCK:
		if !get && acc == linux.O_RDONLY {
			return linux.EBADF
		}
	case linux.F_UNLCK:
		if get && cmd == linux.F_GETLK {
			return linux.EINVAL
		}
	default:
		return linux.EINVAL
	}
	want := record{owner, l.Type == linux.F_WRLCK, start, end}
	if get {
		return f.t.locked(f.n, false, func(ls *Locks) linux.Errno {
			getLock(ls, want, l)
			return 0
		})
	}
	wait := cmd == linux.F_SETLKW || cmd == linux.F_OFD_SETLKW
	return f.t.locked(f.n, wait, func(ls *Locks) linux.Errno {
		if l.Type == linux.F_UNLCK {
			ls.cut(owner, start, end)
			ls.wake()
			return 0
		}
		if ls.conflict(want) != nil {
			return linux.EAGAIN
		}
		ls.set(want)
		ls.wake()
		return 0
	})
}

// getLock answers whether want could be locked, with the first obstacle.
func getLock(ls *Locks, want record, l *linux.Flock) {
	r := ls.conflict(want)
	if r == nil {
		l.Type = linux.F_UNLCK
		return
	}
	l.Type, l.Whence, l.Start, l.Len, l.PID = linux.F_RDLCK, linux.SEEK_SET, r.start, 0, -1
	if r.excl {
		l.Type = linux.F_WRLCK
	}
	if r.end < maxSize {
		l.Len = r.end - r.start + 1
	}
	if r.owner == nil {
		l.PID = int32(rt.Boot().PID)
	}
}

// PosixClose ends the process's record locks on the file: the well-known rule
// that closing any descriptor of a file does so.
func (f *memFile) PosixClose() {
	f.t.mu.Lock()
	if l := f.n.locks; l != nil && len(l.records) > 0 {
		l.cut(nil, 0, maxSize)
		l.wake()
	}
	f.t.mu.Unlock()
}
