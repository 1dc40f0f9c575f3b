package monitor

import (
	"slices"

	"golang.org/x/sys/unix"

	"noyau.dev/abi"
	"noyau.dev/host/broker"
)

// A signalLink is known to two members, who signal each other by it. The monitor has
// nothing of it but this note.
type signalLink struct {
	id   uint64
	a, b *member
}

func (l signalLink) has(m *member) bool { return l.a == m || l.b == m }

// Link implements broker.Linker.
func (m *member) Link(pid uint32) (end broker.LinkEnd, err error) {
	f := m.f
	f.mu.Lock()
	defer f.mu.Unlock()
	to := f.living[pid]
	switch {
	case to == nil || to == m || to.proc == nil || f.living[m.pid] != m:
		return end, unix.ESRCH
	case f.conf.Forks < 2: // they have no host calls for it
		return end, unix.EPERM
	case (m.broker.Narrowed()|to.broker.Narrowed())&abi.NarrowSignal != 0:
		return end, unix.EPERM // it would work in both directions
	}
	f.unlink(false, func(l signalLink) bool { return l.has(m) && l.has(to) })
	for _, x := range []*member{m, to} {
		f.makeRoom(x)
	}
	end, others, err := broker.NewLink(f.lastLink+1, m.pid, pid)
	if err != nil {
		return end, err
	}
	if err := to.broker.Linked(others); err != nil {
		end.Close()
		others.Close()
		return end, err
	}
	f.lastLink++
	f.links = append(f.links, signalLink{f.lastLink, m, to})
	return end, nil
}

// makeRoom takes the oldest link of m away if it has as many as it may have. mu is held.
func (f *family) makeRoom(m *member) {
	n := 0
	for i := len(f.links) - 1; i >= 0; i-- {
		if l := f.links[i]; l.has(m) {
			if n++; n == abi.LinkMost {
				f.unlink(false, func(x signalLink) bool { return x == l })
				return
			}
		}
	}
}

// unlink takes links away and tells both ends. revoked: as a right was lost. mu is held.
func (f *family) unlink(revoked bool, which func(signalLink) bool) {
	f.links = slices.DeleteFunc(f.links, func(l signalLink) bool {
		if !which(l) {
			return false
		}
		l.a.broker.Unlinked(l.id, l.b.pid, revoked)
		l.b.broker.Unlinked(l.id, l.a.pid, revoked)
		return true
	})
}

// Unlink implements broker.Linker.
func (m *member) Unlink(id uint64) {
	m.f.mu.Lock()
	defer m.f.mu.Unlock()
	m.f.unlink(false, func(l signalLink) bool { return l.id == id && l.has(m) })
}

// UnlinkAll implements broker.Linker.
func (m *member) UnlinkAll() {
	m.f.mu.Lock()
	defer m.f.mu.Unlock()
	m.f.unlink(true, func(signalLink) bool { return true })
}
