package broker

import (
	"math/bits"

	"golang.org/x/sys/unix"
)

// A Keeper is a Family that can be saved as a whole: it numbers what its members have in
// common, and a restored one gives it again.
type Keeper interface {
	// NewPair is an id for a pair of sockets, of which this member may have ends from now on.
	// EMFILE: it has too many.
	NewPair() (uint64, error)
	// NewShare is the place of a piece of shared memory of n bytes, which is this member's from
	// now on, and the id of a pair of sockets that comes with it, if there is one. EMFILE likewise.
	NewShare(n uint64, withPair bool) (place, pair uint64, err error)
	// Unshare is told that this member has a piece, or the ends of a pair without one, no more.
	Unshare(place, pair uint64)
	// Rejoin gives the socket that is now what this member's handle of before was. EBADF:
	// there is none.
	Rejoin(handle uint32) (fd int, pair uint64, end int, err error)
	// Rejoined is told that this member has asked for all that it had.
	Rejoined()
}

func (r *request) newPair() (uint64, error) {
	if k, ok := r.b.c.Family.(Keeper); ok {
		return k.NewPair()
	}
	return 0, nil
}

func (r *request) newShare(n uint64, withPair bool) (place, pair uint64, err error) {
	if k, ok := r.b.c.Family.(Keeper); ok {
		return k.NewShare(n, withPair)
	}
	return 0, 0, nil
}

// Kept is a handle of a guest that is to be in a snapshot of its family, as it says.
type Kept struct {
	Handle uint32
	Pair   uint64 // 0: not known
	End    int
	FD     int // of the same socket
}

// maxKept bounds what one guest can show.
const maxKept = 4096

// doKeep takes a descriptor that the guest shows while a snapshot of its family is made.
// What it says of it is compared with what others say.
func doKeep(r *request) (reply, error) {
	h, err := small(r.msg.A)
	if err != nil || r.msg.C > 1 || r.fd < 0 {
		return reply{}, unix.EINVAL
	}
	domain, err := unix.GetsockoptInt(r.fd, unix.SOL_SOCKET, unix.SO_DOMAIN)
	if err != nil || domain != unix.AF_UNIX {
		return reply{}, unix.EINVAL
	}
	s := &r.b.snap
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.gate == nil || s.file == nil:
		return reply{}, unix.EPERM
	case len(s.kept) >= maxKept:
		return reply{}, unix.EMFILE
	}
	s.kept = append(s.kept, Kept{Handle: h, Pair: r.msg.B, End: int(r.msg.C), FD: r.fd})
	r.fd = -1
	return reply{}, nil
}

// State is what a guest that stands still has, besides its memory.
type State struct {
	Opened
	Kept    []Kept // the caller's
	Signals uint64 // that it has not heard of: bit n-1: signal n
	Rights  uint32 // that it has given up
}

// State describes a guest while Snapshot has it stand still. It gives what the guest has shown
// once.
func (b *Broker) State() State {
	s := &b.snap
	s.mu.Lock()
	st := State{Opened: Opened{s.open, s.next}, Kept: s.kept, Rights: b.Narrowed()}
	s.kept = nil
	s.mu.Unlock()
	b.events.mu.Lock()
	st.Signals = b.events.signals
	b.events.mu.Unlock()
	return st
}

// Signals adds signals that the guest has not heard of.
func (b *Broker) Signals(set uint64) {
	for ; set != 0; set &= set - 1 {
		b.Signal(unix.Signal(bits.TrailingZeros64(set) + 1))
	}
}

func doRejoin(r *request) (reply, error) {
	h, err := small(r.msg.A)
	if err != nil {
		return reply{}, unix.EINVAL
	}
	k, ok := r.b.c.Family.(Keeper)
	switch {
	case ok && h == 0:
		k.Rejoined()
		return reply{}, errNoReply
	case !ok:
		return reply{}, unix.EBADF
	case h == 0:
		return reply{}, errNoReply
	}
	fd, pair, end, err := k.Rejoin(h)
	if err != nil {
		return reply{}, err
	}
	rep := give(fd)
	rep.a, rep.b = pair, uint64(end)
	return rep, nil
}
