package broker

import (
	"golang.org/x/sys/unix"

	"noyau.dev/abi"
)

// A Linker is a Family whose members may signal each other directly.
type Linker interface {
	// Link makes a link between this member and another, which is told, and returns this
	// member's end.
	Link(pid uint32) (LinkEnd, error)
	// Unlink takes one of this member's links away.
	Unlink(id uint64)
	// UnlinkAll takes away all links of the family: who loses the right to signal may
	// have the memory of links that were its parent's.
	UnlinkAll()
}

// A LinkEnd is what one of the two members gets.
type LinkEnd struct {
	ID  uint64 // of the link
	PID uint32 // the other
	Box uint32
	FDs [abi.LinkHandles]int
}

// Close closes the descriptors.
func (e *LinkEnd) Close() {
	for _, fd := range e.FDs {
		unix.Close(fd)
	}
}

// NewLink makes both ends of a link: the first is for from.
func NewLink(id uint64, from, to uint32) (a, b LinkEnd, err error) {
	mem, err := Sealed("noyau-link", abi.LinkSize)
	if err != nil {
		return a, b, err
	}
	// Nobody looks yet.
	for box := range int64(2) {
		if _, err := unix.Pwrite(mem, []byte{1}, box*abi.LinkBoxSize+abi.LinkAsleep); err != nil {
			unix.Close(mem)
			return a, b, err
		}
	}
	again, err := unix.FcntlInt(uintptr(mem), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		unix.Close(mem)
		return a, b, err
	}
	bells, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		unix.Close(mem)
		unix.Close(again)
		return a, b, err
	}
	a = LinkEnd{ID: id, PID: to, Box: 0, FDs: [...]int{abi.LinkDoorbell: bells[0], abi.LinkMemory: mem}}
	b = LinkEnd{ID: id, PID: from, Box: 1, FDs: [...]int{abi.LinkDoorbell: bells[1], abi.LinkMemory: again}}
	return a, b, nil
}

// A linkEvent is one that the guest is to be told of: a new link, or the end of one.
type linkEvent struct {
	end           LinkEnd
	gone, revoked bool
}

// Linked gives the guest its end of a link. EAGAIN: it does not read.
func (b *Broker) Linked(end LinkEnd) error {
	b.events.mu.Lock()
	if b.events.closed || len(b.events.links) >= 2*abi.LinkMost {
		b.events.mu.Unlock()
		return unix.EAGAIN
	}
	b.events.links = append(b.events.links, linkEvent{end: end})
	b.events.mu.Unlock()
	b.flush()
	return nil
}

// Unlinked tells the guest that a link is no more. There are no more of these waiting than
// links that were made known: the end of one that was not takes it back.
func (b *Broker) Unlinked(id uint64, pid uint32, revoked bool) {
	e := &b.events
	e.mu.Lock()
	for i, l := range e.links {
		if l.end.ID == id && !l.gone {
			l.end.Close()
			e.links = append(e.links[:i], e.links[i+1:]...)
			e.mu.Unlock()
			return
		}
	}
	e.links = append(e.links, linkEvent{end: LinkEnd{ID: id, PID: pid}, gone: true, revoked: revoked})
	e.mu.Unlock()
	b.flush()
}

// closeLinks forgets what the guest will not be told.
func (e *events) closeLinks() {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, l := range e.links {
		if !l.gone {
			l.end.Close()
		}
	}
	e.links, e.closed = nil, true
}

func (r *request) linker() (Linker, error) {
	if f, ok := r.b.c.Family.(Linker); ok {
		return f, nil
	}
	return nil, unix.ESRCH
}

func doSignalLink(r *request) (reply, error) {
	f, err := r.linker()
	if err != nil {
		return reply{}, err
	}
	pid, err := small(r.msg.A)
	if err != nil {
		return reply{}, err
	}
	end, err := f.Link(pid)
	if err != nil {
		return reply{}, err
	}
	rep := give(end.FDs[:]...)
	rep.b, rep.c = uint64(end.Box), end.ID
	return rep, nil
}

func doSignalUnlink(r *request) (reply, error) {
	if f, err := r.linker(); err == nil {
		f.Unlink(r.msg.C)
	}
	return reply{}, errNoReply
}
