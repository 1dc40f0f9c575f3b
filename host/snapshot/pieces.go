package snapshot

import (
	"slices"

	"noyau.dev/abi"
)

// checkPieces reports whether pieces of shared memory are in the order of their places and
// apart, and all that is in the file of their content lies in one of them each. It gives the
// places of those that come with pairs, by their ids.
func (f *Family) checkPieces(m *Meta) (ofPair map[uint64]uint64, ok bool) {
	const page = abi.PageSize
	ofPair = make(map[uint64]uint64)
	end := uint64(0)
	for _, p := range f.Pieces {
		if p.Len == 0 || p.Len > abi.ShareMax || (p.At|p.Len)%page != 0 || p.At < end || p.At > f.NextShare || p.Len > f.NextShare-p.At {
			return nil, false
		}
		end = p.At + p.Len
		if p.Pair == 0 {
			continue
		}
		if _, twice := ofPair[p.Pair]; twice || p.Pair >= f.NextPair {
			return nil, false
		}
		ofPair[p.Pair] = p.At
	}
	end = 0
	total := uint64(0)
	for _, s := range f.Shares {
		if s.Len == 0 || (s.Off|s.Len|uint64(s.At))%page != 0 || s.Off < end || f.piece(s.Off, s.Len) == nil ||
			s.At < abi.SnapData || s.At > m.Size || s.Len > uint64(m.Size-s.At) {
			return nil, false
		}
		// None is in the file twice: it could become more memory than anybody has.
		if total += s.Len; total > uint64(m.Size) {
			return nil, false
		}
		end = s.Off + s.Len
	}
	return ofPair, true
}

// piece is that in which the n bytes at off lie; nil: there is none.
func (f *Family) piece(off, n uint64) *Piece {
	i, ok := slices.BinarySearchFunc(f.Pieces, off, func(p Piece, off uint64) int { return ByPlace(p, Piece{At: off}) })
	if !ok {
		i--
	}
	if i < 0 || off-f.Pieces[i].At > f.Pieces[i].Len || n > f.Pieces[i].Len-(off-f.Pieces[i].At) {
		return nil
	}
	return &f.Pieces[i]
}

// checkAreas reports whether the pieces that a member has are in the list, each once, and
// whether it has the memory of all pairs of which it has an end. It notes them in had.
func (x *Member) checkAreas(f *Family, ofPair map[uint64]uint64, had map[uint64]bool) bool {
	if len(x.Areas) > abi.SnapAreas {
		return false
	}
	own := make(map[uint64]bool, len(x.Areas))
	for _, at := range x.Areas {
		if p := f.piece(at, 1); p == nil || p.At != at || own[at] {
			return false
		}
		own[at], had[at] = true, true
	}
	lacks := func(pair uint64) bool {
		at, ok := ofPair[pair]
		return ok && !own[at]
	}
	return !slices.ContainsFunc(x.Ends, func(e End) bool { return lacks(e.Pair) }) &&
		!slices.ContainsFunc(x.Streams[:], func(s Stream) bool { return lacks(s.Pair) })
}
