package monitor

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"noyau.dev/host/snapshot"
	"noyau.dev/host/volume"
)

// snapshotFamily writes the pVM and all its forks, as they are at one moment.
func (i *Instance) snapshotFamily(ctx context.Context, path string, m snapshot.Meta, o SnapshotOptions) error {
	f := i.family
	f.saving.Lock()
	defer f.saving.Unlock()
	return snapshot.SaveFamily(ctx, path, m, snapshot.Options{Compress: o.Compress},
		func(ctx context.Context, create func() (*os.File, error), m *snapshot.Meta) (drafts []*os.File, err error) {
			z := &freeze{f: f, create: create}
			var cancel context.CancelFunc
			z.ctx, cancel = context.WithCancel(ctx)
			defer cancel()
			defer z.release()
			if err := z.stop(); err != nil {
				return nil, err
			}
			if m.Family, err = z.describe(); err != nil {
				return nil, err
			}
			if err := z.write(); err != nil {
				return nil, err
			}
			for _, x := range z.list {
				drafts = append(drafts, x.draft)
			}
			z.goOn()
			return drafts, nil
		})
}

// describe puts down what the members have besides their memory. All stand still.
func (z *freeze) describe() (*snapshot.Family, error) {
	f := z.f
	f.mu.Lock()
	defer f.mu.Unlock()
	// A parent comes before its children, which can refer to its pages.
	slices.SortFunc(z.list, func(a, b *frozen) int {
		return cmp.Or(cmp.Compare(a.m.depth(), b.m.depth()), cmp.Compare(a.m.pid, b.m.pid))
	})
	fam := &snapshot.Family{LastPID: f.lastPID, NextPair: f.nextPair + 1, NextShare: f.nextShare}
	w := wiring{f: f, fam: fam, known: make(map[uint64]end), at: make(map[end]uint64), fds: make(map[end]int)}
	if err := addExecs(fam, f.execs); err != nil {
		return nil, err
	}
	open := make(map[*volume.File]int)
	for _, x := range z.list {
		m := x.m
		s := snapshot.Member{PID: m.pid, Signals: x.state.Signals, Rights: x.state.Rights, DeathSig: int(m.deathSig), NextHandle: x.state.Next,
			Started: m.started, Group: m.group, Session: m.session}
		if m.parent != nil && f.living[m.parent.pid] == m.parent {
			s.Parent = m.parent.pid
		}
		if m.image != nil {
			s.Exec = m.image.name
		}
		for pid, c := range m.children {
			s.Children = append(s.Children, snapshot.Child{PID: pid, Over: c.over, Status: c.status, Group: c.group})
		}
		slices.SortFunc(s.Children, func(a, b snapshot.Child) int { return cmp.Compare(a.PID, b.PID) })
		for _, r := range x.state.Files {
			n, ok := open[r.File]
			if !ok {
				n = len(open)
				open[r.File] = n
			}
			s.Files = append(s.Files, snapshot.OpenFile{Record: r.Record, Open: n})
		}
		fam.Members = append(fam.Members, s)
		if err := w.learn(x); err != nil {
			return nil, err
		}
	}
	for i, x := range z.list {
		w.wire(x, &fam.Members[i])
	}
	z.describePieces(fam)
	return fam, w.queues()
}

// depth is how many of m's ancestors live, above all of them the first.
func (m *member) depth() int {
	if m == m.f.first {
		return -1
	}
	n := 0
	for p := m.parent; p != nil && m.f.living[p.pid] == p; p = p.parent {
		n++
	}
	return n
}

// addExecs puts down the images that may be started.
func addExecs(fam *snapshot.Family, all map[string]*executable) error {
	for _, e := range all {
		if e.name == "" {
			fam.ExecSelf = true
			continue
		}
		sum, err := snapshot.SumImage(e.file)
		if err != nil {
			return fmt.Errorf("image %s: %w", e.name, err)
		}
		fam.Execs = append(fam.Execs, snapshot.Exec{Name: e.name, Image: e.image, Sum: sum})
	}
	slices.SortFunc(fam.Execs, func(a, b snapshot.Exec) int { return cmp.Compare(a.Name, b.Name) })
	return nil
}

// An end is one of the two ends of a pair.
type end struct {
	pair uint64
	n    int
}

// wiring finds out who is connected with whom. What members say of a socket that they show
// is believed as far as they were given such a one, and it agrees with what others say: it is told
// by its inode which it is.
type wiring struct {
	f     *family
	fam   *snapshot.Family
	known map[uint64]end // by inode
	at    map[end]uint64
	fds   map[end]int // a descriptor of it
}

// inode tells a socket from all others that are open.
func inode(fd int) (uint64, error) {
	var st unix.Stat_t
	err := unix.Fstat(fd, &st)
	return st.Ino, err
}

// learn takes in what x says. f.mu is held.
func (w *wiring) learn(x *frozen) error {
	own := x.m.allPairs()
	for i := range x.state.Kept {
		k := &x.state.Kept[i]
		e := end{k.Pair, k.End}
		if e.pair == 0 {
			e = x.m.given[k.Handle]
		}
		ino, err := inode(k.FD)
		if err != nil {
			return err
		}
		if e.pair == 0 {
			continue
		}
		if !own[e.pair] {
			return fmt.Errorf("member %d says that it has a connection that it was not given", x.m.pid)
		}
		old, ok := w.known[ino]
		was, other := w.at[e]
		if ok && old != e || other && was != ino {
			return fmt.Errorf("member %d says of a connection what others do not", x.m.pid)
		}
		w.known[ino], w.at[e], w.fds[e] = e, ino, k.FD
	}
	return nil
}

// wire puts down which standard streams and ends x has.
func (w *wiring) wire(x *frozen, s *snapshot.Member) {
	for _, k := range x.state.Kept {
		ino, err := inode(k.FD)
		if err != nil {
			continue
		}
		e, ok := w.known[ino]
		std := slices.Index(w.f.stdio[:], ino) + 1
		switch {
		case k.Handle < 3 && std > 0:
			s.Streams[k.Handle] = snapshot.Stream{Std: std}
		case !ok:
		case k.Handle < 3:
			s.Streams[k.Handle] = snapshot.Stream{Pair: e.pair, End: e.n}
		default:
			s.Ends = append(s.Ends, snapshot.End{Handle: k.Handle, Pair: e.pair, End: e.n})
		}
	}
}

// queues puts down what is under way.
func (w *wiring) queues() error {
	pairs := make(map[uint64]*snapshot.Pair)
	for e, fd := range w.fds {
		p := pairs[e.pair]
		if p == nil {
			typ, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TYPE)
			if err != nil {
				return err
			}
			p = &snapshot.Pair{ID: e.pair, Type: typ}
			pairs[e.pair] = p
		}
		var err error
		if p.Queue[e.n], err = peek(fd, p.Type); err != nil {
			return fmt.Errorf("a connection between members: %w", err)
		}
	}
	for _, p := range pairs {
		w.fam.Pairs = append(w.fam.Pairs, *p)
	}
	slices.SortFunc(w.fam.Pairs, func(a, b snapshot.Pair) int { return cmp.Compare(a.ID, b.ID) })
	return nil
}

// peek is what can be received from a socket, which it leaves there. Nobody uses it
// meanwhile.
func peek(fd, typ int) (q snapshot.Queue, err error) {
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PEEK_OFF, 0); err != nil {
		return q, err
	}
	defer unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PEEK_OFF, -1)
	b := make([]byte, 256<<10)
	for {
		n, _, err := unix.Recvfrom(fd, b, unix.MSG_PEEK|unix.MSG_DONTWAIT)
		switch {
		case err == unix.EINTR:
			continue
		case err == unix.EAGAIN:
			return q, nil
		case err != nil, n == 0:
			q.Over = true
			return q, nil
		}
		if typ == unix.SOCK_STREAM && len(q.Data) > 0 {
			q.Data[0] = append(q.Data[0], b[:n]...)
		} else {
			q.Data = append(q.Data, slices.Clone(b[:n]))
		}
	}
}
