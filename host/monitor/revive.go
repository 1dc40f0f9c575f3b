package monitor

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"noyau.dev/host/broker"
	"noyau.dev/host/snapshot"
)

// again is what a launch of a member of a restored family has besides.
type again struct {
	k    int // which of the members in the snapshot it is
	exec string
	std  [3]*os.File // the guest's ends of the family's standard streams
	f    *family
}

// rejoin is what members of a restored family have in common, until all have asked for
// what they had. The family's mutex guards it.
type rejoin struct {
	pairs map[uint64]*[2]int // descriptors
	ends  map[*member]map[uint32]end
}

// revive makes the members of a restored family, but the first, and launches them. The
// brokers do not serve yet.
func (f *family) revive(first *launch) (err error) {
	fam := first.snapshot.Family
	if fam == nil {
		return nil
	}
	if n := len(fam.Members); n > f.limit {
		return fmt.Errorf("the family has %d members, and may have %d; restore it with --fork %d or more", n, f.limit, n)
	}
	f.lastPID, f.nextPair, f.nextShare = max(fam.LastPID, 1), fam.NextPair-min(fam.NextPair, 1), fam.NextShare
	f.rejoin = &rejoin{pairs: make(map[uint64]*[2]int), ends: make(map[*member]map[uint32]end)}
	defer func() {
		if err != nil {
			f.unrevive()
		}
	}()
	for i := range fam.Pairs {
		if err := f.rejoin.pair(&fam.Pairs[i]); err != nil {
			return err
		}
	}
	pieces, withMemory := make(map[uint64]piece, len(fam.Pieces)), make(map[uint64]bool, len(fam.Pieces))
	for _, p := range fam.Pieces {
		pieces[p.At], withMemory[p.Pair] = piece{p.Len, p.Pair}, true
	}
	members := make(map[uint32]*member)
	for k := range fam.Members {
		x := &fam.Members[k]
		m := f.first
		if k > 0 {
			m = &member{f: f, pid: x.PID, ppid: x.Parent, parent: members[x.Parent], changed: make(chan struct{}), deathSig: unix.Signal(x.DeathSig), started: x.Started}
		}
		m.group, m.session = x.Group, x.Session
		for _, at := range x.Areas {
			m.has(at, pieces[at])
		}
		for _, e := range x.Ends {
			if !withMemory[e.Pair] {
				m.hasPair(e.Pair)
			}
		}
		members[x.PID] = m
		m.children = make(map[uint32]*child, len(x.Children))
		for _, c := range x.Children {
			m.children[c.PID] = &child{over: c.Over, status: c.Status, group: c.Group}
		}
		f.rejoin.add(m, x)
		if k == 0 {
			continue
		}
		if x.Exec != "" {
			if m.image = f.execs[x.Exec]; m.image == nil {
				return fmt.Errorf("member %d runs the image %s: say which it is, by --exec %s=IMAGE", x.PID, x.Exec, x.Exec)
			}
		}
		f.mu.Lock()
		f.living[m.pid] = m
		f.users++
		f.members.Add(1)
		f.mu.Unlock()
	}
	for k := range fam.Members[1:] {
		m := members[fam.Members[k+1].PID]
		if err := m.launchAgain(first, k+1); err != nil {
			return fmt.Errorf("member %d: %w", m.pid, err)
		}
	}
	return nil
}

// add notes what handles of a member are to be again.
func (r *rejoin) add(m *member, x *snapshot.Member) {
	ends := make(map[uint32]end)
	for _, e := range x.Ends {
		ends[e.Handle] = end{e.Pair, e.End}
	}
	r.ends[m] = ends
	for n, s := range x.Streams {
		if s.Pair != 0 {
			if m.given == nil {
				m.given = make(map[uint32]end)
			}
			m.given[uint32(n)] = end{s.Pair, s.End}
		}
	}
}

// pair makes a connection, with what was under way in it.
func (r *rejoin) pair(p *snapshot.Pair) error {
	fds, err := unix.Socketpair(unix.AF_UNIX, p.Type|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("a connection between members: %w", err)
	}
	r.pairs[p.ID] = &fds
	for n, q := range p.Queue {
		for _, d := range q.Data {
			for len(d) > 0 {
				k, err := unix.SendmsgN(fds[1-n], d, nil, nil, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
				if err == unix.EINTR {
					continue
				}
				if err != nil {
					return fmt.Errorf("%d bytes that were under way between members: %w", len(d), err)
				}
				d = d[k:]
			}
		}
		if q.Over {
			unix.Shutdown(fds[1-n], unix.SHUT_WR)
		}
	}
	return nil
}

// launchAgain launches a member.
func (m *member) launchAgain(first *launch, k int) error {
	f := m.f
	c := f.conf
	if m.image != nil {
		c.Image, c.ImageFile = m.image.image, m.image.file
	} else {
		c.ImageFile = first.image
	}
	c.Name = fmt.Sprintf("%s-%d", f.conf.Name, m.pid)
	c.Hostname = fmt.Sprintf("%.50s-%d", f.conf.Hostname, m.pid)
	c.Timing, c.Template = nil, nil
	c.Trace = false
	c.Snapshot = first.snapshot
	x := &first.snapshot.Family.Members[k]
	terminals := [4]*os.File{nil, c.Terminal.In, c.Terminal.Out, c.Terminal.Err}
	c.Terminal = Terminal{Rows: c.Terminal.Rows, Cols: c.Terminal.Cols}
	for n, t := range []**os.File{&c.Terminal.In, &c.Terminal.Out, &c.Terminal.Err} {
		m.terminal[n] = terminals[x.Streams[n].Std]
		*t = m.terminal[n]
	}
	l := launch{roots: f.shape.Roots, ports: f.shape.Ports, volumes: f.volumes, pieces: first.pieces, pid: m.pid, ppid: m.ppid,
		again: &again{k: k, exec: x.Exec, std: [3]*os.File(first.handles[:3]), f: f}}
	defer l.closeGuests()
	if err := l.prepare(&c); err != nil {
		l.fail()
		return err
	}
	m.boot = l.boot.head
	bc := m.config(l.control)
	bc.Restored = first.others[k-1]
	b, err := broker.New(bc)
	if err != nil {
		l.fail()
		return err
	}
	s := c.spec(&l)
	s.Above = int(first.snapshot.Headers[k].Handles)
	p, err := f.backend.Start(s)
	if err != nil {
		b.Discard()
		l.fail()
		return err
	}
	f.mu.Lock()
	m.broker, m.proc = b, p
	f.mu.Unlock()
	return nil
}

// streamsAgain gives a member of a restored family the standard streams that it had.
func (l *launch) streamsAgain() error {
	a := l.again
	for n, s := range l.snapshot.Family.Members[a.k].Streams {
		from := -1
		switch {
		case s.Std != 0:
			from = int(fdOf(a.std[s.Std-1]))
		case s.Pair != 0:
			from = a.f.rejoin.pairs[s.Pair][s.End]
		}
		if from < 0 {
			if err := l.giveNull(); err != nil {
				return err
			}
			continue
		}
		fd, err := unix.FcntlInt(uintptr(from), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			return fmt.Errorf("standard stream %d: %w", n, err)
		}
		l.give(os.NewFile(uintptr(fd), fmt.Sprintf("descriptor %d", n)))
	}
	return nil
}

// beginAgain lets the members of a restored family, but the first, live.
func (f *family) beginAgain(fam *snapshot.Family) {
	for k := range fam.Members {
		x := &fam.Members[k]
		f.mu.Lock()
		m := f.living[x.PID]
		f.mu.Unlock()
		if m != f.first {
			go m.broker.Serve()
			go m.see(m.parent)
		}
		signals := x.Signals
		for _, c := range x.Children {
			if c.Over { // it may not have heard
				signals |= 1 << (unix.SIGCHLD - 1)
			}
		}
		m.broker.Signals(signals)
	}
}

// unrevive ends the members that were launched, as the family cannot be.
func (f *family) unrevive() {
	list, _ := f.roster()
	for _, m := range list {
		if m == f.first {
			continue
		}
		m.proc.Kill()
		go m.proc.Wait()
		m.broker.Discard()
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.settle()
}

// Rejoin implements broker.Keeper.
func (m *member) Rejoin(handle uint32) (fd int, pair uint64, n int, err error) {
	m.f.mu.Lock()
	defer m.f.mu.Unlock()
	r := m.f.rejoin
	if r == nil {
		return -1, 0, 0, unix.EBADF
	}
	e, ok := r.ends[m][handle]
	if !ok {
		return -1, 0, 0, unix.EBADF
	}
	fd, err = unix.FcntlInt(uintptr(r.pairs[e.pair][e.n]), unix.F_DUPFD_CLOEXEC, 0)
	return fd, e.pair, e.n, err
}

// Rejoined implements broker.Keeper.
func (m *member) Rejoined() {
	m.f.mu.Lock()
	defer m.f.mu.Unlock()
	m.f.rejoined(m)
}

// rejoined says that m has what it had, or has ended. mu is held.
func (f *family) rejoined(m *member) {
	if f.rejoin == nil {
		return
	}
	delete(f.rejoin.ends, m)
	if len(f.rejoin.ends) == 0 {
		f.settle()
	}
}

// settle closes what was kept for members of a restored family: who has the other end of a
// connection sees from now on that nobody has it any more. mu is held.
func (f *family) settle() {
	if f.rejoin == nil {
		return
	}
	for _, fds := range f.rejoin.pairs {
		unix.Close(fds[0])
		unix.Close(fds[1])
	}
	f.rejoin = nil
	f.shape.Sockets.Restoring(false)
}

var errNoFamily = errors.New("the snapshot is of a family with several members: restore it with --fork N, N at least as many")

// checkFamily refuses what cannot become of a snapshot of a family.
func (c *Config) checkFamily(s *snapshot.File) error {
	if s == nil || s.Family == nil || len(s.Family.Members) == 1 || c.hasFamily() {
		return nil
	}
	return errNoFamily
}
