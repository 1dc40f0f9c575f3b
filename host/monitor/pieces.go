package monitor

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"noyau.dev/abi"
	"noyau.dev/host/broker"
	"noyau.dev/host/snapshot"
)

// A piece is memory that members of a family share: a memory file. The monitor keeps nothing
// of it but who was given it, by its place: a number that no other piece of the family has. What
// a member says that it has, when the family is saved, is measured against that.
type piece struct {
	size uint64
	pair uint64 // id of the pair whose ends come with it; 0: none
}

// NewPair implements broker.Keeper.
func (m *member) NewPair() (uint64, error) {
	m.f.mu.Lock()
	defer m.f.mu.Unlock()
	if len(m.pairs) >= abi.ShareMost {
		return 0, unix.EMFILE
	}
	m.f.nextPair++
	m.hasPair(m.f.nextPair)
	return m.f.nextPair, nil
}

// NewShare implements broker.Keeper.
func (m *member) NewShare(n uint64, withPair bool) (place, pair uint64, err error) {
	m.f.mu.Lock()
	defer m.f.mu.Unlock()
	if len(m.pieces) >= abi.ShareMost {
		return 0, 0, unix.EMFILE
	}
	p := piece{size: (n + abi.PageSize - 1) &^ (abi.PageSize - 1)}
	if withPair {
		m.f.nextPair++
		p.pair = m.f.nextPair
	}
	place = m.f.nextShare
	m.f.nextShare += p.size
	m.has(place, p)
	return place, p.pair, nil
}

// Unshare implements broker.Keeper.
func (m *member) Unshare(place, pair uint64) {
	m.f.mu.Lock()
	defer m.f.mu.Unlock()
	delete(m.pieces, place)
	delete(m.pairs, pair)
}

// has notes that m was given a piece. mu is held.
func (m *member) has(place uint64, p piece) {
	if m.pieces == nil {
		m.pieces = make(map[uint64]piece)
	}
	m.pieces[place] = p
}

// hasPair notes that m was given an end of a pair without memory. mu is held.
func (m *member) hasPair(id uint64) {
	if m.pairs == nil {
		m.pairs = make(map[uint64]bool)
	}
	m.pairs[id] = true
}

// inherit gives a fork what its parent has been given so far. mu is held.
func (m *member) inherit(parent *member) {
	m.pieces, m.pairs = maps.Clone(parent.pieces), maps.Clone(parent.pairs)
}

// allPairs are the ids of all pairs of which m was given an end. mu is held.
func (m *member) allPairs() map[uint64]bool {
	set := maps.Clone(m.pairs)
	if set == nil {
		set = make(map[uint64]bool)
	}
	for _, p := range m.pieces {
		set[p.pair] = true
	}
	for _, e := range m.given {
		set[e.pair] = true
	}
	return set
}

// takeAreas takes what a member says that it shares: the number of pieces, and their places. It
// is refused if the member was not given all of them.
func (x *frozen) takeAreas(b []byte) error {
	n := uint64(0)
	if len(b) >= 8 {
		n = binary.LittleEndian.Uint64(b)
	}
	switch {
	case n > abi.SnapAreas:
		return fmt.Errorf("member %d shares more than %d pieces of memory", x.m.pid, abi.SnapAreas)
	case uint64(len(b)) != 8+8*n:
		return fmt.Errorf("member %d does not say what it shares", x.m.pid)
	}
	x.m.f.mu.Lock()
	defer x.m.f.mu.Unlock()
	x.areas = make([]uint64, n)
	seen := make(map[uint64]bool, n)
	for i := range x.areas {
		at := binary.LittleEndian.Uint64(b[8+8*i:])
		if _, ok := x.m.pieces[at]; !ok {
			return fmt.Errorf("member %d says that it has shared memory that it was not given", x.m.pid)
		}
		if seen[at] {
			return fmt.Errorf("member %d says twice that it has the same shared memory", x.m.pid)
		}
		x.areas[i], seen[at] = at, true
	}
	return nil
}

// describePieces puts down what members share, and which of them is to write each piece. One
// that is alone shares nothing.
func (z *freeze) describePieces(fam *snapshot.Family) {
	if len(z.list) < 2 {
		return
	}
	known := make(map[uint64]bool)
	for i, x := range z.list {
		fam.Members[i].Areas = x.areas
		x.writes = make([]bool, len(x.areas))
		for k, at := range x.areas {
			if known[at] {
				continue
			}
			known[at], x.writes[k] = true, true
			p := x.m.pieces[at]
			fam.Pieces = append(fam.Pieces, snapshot.Piece{At: at, Len: p.size, Pair: p.pair, Writer: i})
		}
	}
	slices.SortFunc(fam.Pieces, snapshot.ByPlace)
}

// openPieces makes the memory that members of a restored family share: a file for each piece.
func (l *launch) openPieces() error {
	fam := l.snapshot.Family
	if fam == nil || len(fam.Pieces) == 0 {
		return nil
	}
	l.pieces = make(map[uint64]*os.File, len(fam.Pieces))
	shares := fam.Shares // both are in the order of places, and each share is in one piece
	for _, p := range fam.Pieces {
		fd, err := broker.Sealed("noyau-share", int64(p.Len))
		if err != nil {
			return fmt.Errorf("shared memory: %w", err)
		}
		f := os.NewFile(uintptr(fd), "noyau-share")
		l.pieces[p.At] = f
		for ; len(shares) > 0 && shares[0].Off < p.At+p.Len; shares = shares[1:] {
			if err := l.snapshot.CopyShare(f, &shares[0], int64(shares[0].Off-p.At)); err != nil {
				return fmt.Errorf("shared memory: %w", err)
			}
		}
	}
	return nil
}

// closePieces closes them.
func (l *launch) closePieces() {
	for _, f := range l.pieces {
		f.Close()
	}
}

// givePieces puts the memory that a member of a restored family has into its control channel,
// before anything else: see abi.ShareBatch. It has no descriptor of any other.
func (l *launch) givePieces(places []uint64) error {
	l.boot.head.Shared = uint32(len(places))
	for part := range slices.Chunk(places, abi.ShareBatch) {
		var b []byte
		var fds []int
		for _, at := range part {
			f := l.pieces[at]
			if f == nil {
				return errors.New("shared memory: a member has a piece that is not in the list")
			}
			b, fds = abi.Append64(b, at), append(fds, int(fdOf(f)))
		}
		if err := unix.Sendmsg(int(fdOf(l.control)), b, unix.UnixRights(fds...), nil, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL); err != nil {
			return fmt.Errorf("shared memory: %w", err)
		}
	}
	return nil
}
