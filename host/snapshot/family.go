package snapshot

import (
	"cmp"
	"fmt"

	"golang.org/x/sys/unix"

	"noyau.dev/abi"
	"noyau.dev/host/volume"
)

// MaxMembers is the most members of a family in a snapshot.
const MaxMembers = 4096

// maxShared is above all places of pieces of memory that a family shares. They are not used twice.
const maxShared = 1 << 46

// A Family is what a snapshot says of a pVM with forks, or with images that it has started.
type Family struct {
	Members []Member // the pVM itself is the first; parents come before their children
	Pairs   []Pair   `json:",omitempty"`
	Pieces  []Piece  `json:",omitempty"` // of shared memory, by place
	Shares  []Share  `json:",omitempty"` // what is in them
	Execs   []Exec   `json:",omitempty"` // images that members run or may start, by name

	ExecSelf bool `json:",omitempty"` // they may start their own

	LastPID   uint32
	NextPair  uint64 // above the ids of all pairs so far
	NextShare uint64 // above the places of all pieces of shared memory so far
}

// A Member is one pVM of a family.
type Member struct {
	PID    uint32
	Parent uint32 `json:",omitempty"` // process id; 0: it has ended, or there was none
	At     int64  // where its header is in the file
	Exec   string `json:",omitempty"` // name of the image that it runs; "": that of the first

	Started        bool   `json:",omitempty"` // by os/exec, not forked
	Group, Session uint32 // as setpgid(2) and setsid(2) have them

	Children []Child   `json:",omitempty"` // for whom it may wait
	Signals  uint64    `json:",omitempty"` // that it has not heard of: bit n-1: signal n
	Rights   uint32    `json:",omitempty"` // that it has given up: abi.NarrowNet …
	DeathSig int       `json:",omitempty"` // what it gets when its parent ends
	Streams  [3]Stream // its standard streams
	Ends     []End     `json:",omitempty"`
	Areas    []uint64  `json:",omitempty"` // places of the pieces of shared memory that it has, as in its own table

	Files      []OpenFile `json:",omitempty"`
	NextHandle uint32
}

// A Child is what is known of a child.
type Child struct {
	PID    uint32
	Over   bool   `json:",omitempty"` // it has ended
	Status uint32 `json:",omitempty"` // as wait4(2) has it
	Group  uint32 `json:",omitempty"` // that it had
}

// A Stream is what a standard stream of a member is.
type Stream struct {
	Std  int    `json:",omitempty"` // 1, 2, 3: standard input, output, error of the family; 0: none of these
	Pair uint64 `json:",omitempty"` // id of the pair of which it is an end; 0: none
	End  int    `json:",omitempty"`
}

// An End is a handle of a member that is one of the two ends of a pair.
type End struct {
	Handle uint32
	Pair   uint64
	End    int `json:",omitempty"`
}

// A Pair is a connection between members.
type Pair struct {
	ID    uint64
	Type  int      // SOCK_STREAM or SOCK_SEQPACKET
	Queue [2]Queue // what is under way to each end
}

// A Queue is what was sent and not yet received.
type Queue struct {
	Data [][]byte `json:",omitempty"` // messages, or one piece of a stream
	Over bool     `json:",omitempty"` // the other side sends no more
}

// A Piece is memory that members share. Its place is a number that only they know it by: At,
// and as many after it as it has bytes.
type Piece struct {
	At, Len uint64
	Pair    uint64 `json:",omitempty"` // whose ends come with it; 0: none

	Writer int `json:"-"` // while it is saved: the member of whose file its content is taken
}

// ByPlace orders pieces.
func ByPlace(a, b Piece) int { return cmp.Compare(a.At, b.At) }

// A Share is pages of a piece that are not zero.
type Share struct {
	Off uint64 // the place of the piece, and where in it
	Len uint64
	At  int64 // in the file
}

// An Exec is an image that members run or may start.
type Exec struct{ Name, Image, Sum string }

// An OpenFile is a file that a member has open.
type OpenFile struct {
	volume.Record
	Open int // which of the open files of the family it is: members may share them
}

// All are the members of a family, or the pVM that was saved alone.
func (m *Meta) All() []Member {
	if m.Family != nil {
		return m.Family.Members
	}
	one := Member{PID: 1, NextHandle: m.NextHandle, Rights: m.Rights}
	for i, r := range m.Files {
		one.Files = append(one.Files, OpenFile{r, i})
	}
	return []Member{one}
}

// check says what makes no sense in what a snapshot with m says of a family; "" if all does.
func (f *Family) check(m *Meta) string {
	const page = abi.PageSize
	switch {
	case len(f.Members) == 0 || len(f.Members) > MaxMembers:
		return fmt.Sprintf("it has %d members", len(f.Members))
	case f.LastPID > 1<<31-1, f.NextShare > maxShared, f.NextShare%page != 0:
		return "its numbers are too large"
	case f.Members[0].PID != 1 || f.Members[0].At != 0 || f.Members[0].Parent != 0 || f.Members[0].Exec != "":
		return "its first member is not the pVM itself"
	}
	execs := make(map[string]bool)
	for _, x := range f.Execs {
		if x.Name == "" || execs[x.Name] {
			return "its list of images is wrong"
		}
		execs[x.Name] = true
	}
	pairs := make(map[uint64]bool)
	for i := range f.Pairs {
		p := &f.Pairs[i]
		if p.ID == 0 || p.ID >= f.NextPair || pairs[p.ID] || p.Type != unix.SOCK_STREAM && p.Type != unix.SOCK_SEQPACKET {
			return "its list of connections is wrong"
		}
		for _, q := range p.Queue {
			for _, d := range q.Data {
				if len(d) == 0 {
					return "its list of connections is wrong"
				}
			}
		}
		pairs[p.ID] = true
	}
	ofPair, ok := f.checkPieces(m)
	if !ok {
		return "its shared memory is wrong"
	}
	end, had := int64(0), make(map[uint64]bool)
	pids, open := make(map[uint32]bool), make(map[int]OpenFile)
	for i := range f.Members {
		x := &f.Members[i]
		switch {
		case x.PID == 0 || x.PID > f.LastPID || pids[x.PID]:
			return "process ids of its members are wrong"
		case x.Parent != 0 && !pids[x.Parent]: // so there is no circle
			return fmt.Sprintf("member %d comes before its parent %d", x.PID, x.Parent)
		case x.At < end || x.At%page != 0 || x.At > m.Size-abi.SnapData:
			return fmt.Sprintf("member %d is not where it should be in the file", x.PID)
		case x.Exec != "" && !execs[x.Exec]:
			return fmt.Sprintf("member %d is of an image %q that is not in its list", x.PID, x.Exec)
		case x.Rights&^abi.NarrowAll != 0 || x.DeathSig < 0 || x.DeathSig > 64 || x.Group > f.LastPID || x.Session > f.LastPID:
			return fmt.Sprintf("rights, signals or groups of member %d are wrong", x.PID)
		}
		pids[x.PID], end = true, x.At+abi.SnapData
		if wrong := x.check(f, m, pairs, open); wrong != "" {
			return fmt.Sprintf("member %d: %s", x.PID, wrong)
		}
		if !x.checkAreas(f, ofPair, had) {
			return fmt.Sprintf("member %d: its shared memory is wrong", x.PID)
		}
	}
	if len(had) != len(f.Pieces) {
		return "it has shared memory that no member has"
	}
	return ""
}

func (x *Member) check(f *Family, m *Meta, pairs map[uint64]bool, open map[int]OpenFile) string {
	seen := make(map[uint32]bool)
	for _, c := range x.Children {
		if c.PID <= 1 || c.PID > f.LastPID || c.Group > f.LastPID || seen[c.PID] {
			return "its children are wrong"
		}
		seen[c.PID] = true
	}
	for _, s := range x.Streams {
		if s.Std < 0 || s.Std > 3 || s.End < 0 || s.End > 1 || s.Pair != 0 && (s.Std != 0 || !pairs[s.Pair]) {
			return "its standard streams are wrong"
		}
	}
	clear(seen)
	for _, e := range x.Ends {
		if !pairs[e.Pair] || e.End < 0 || e.End > 1 || seen[e.Handle] || e.Handle >= abi.SnapHandles {
			return "its connections are wrong"
		}
		seen[e.Handle] = true
	}
	clear(seen)
	for _, r := range x.Files {
		if seen[r.Handle] || r.Handle >= x.NextHandle || int64(r.Volume) >= int64(len(m.Volumes)) {
			return "its list of open files is wrong"
		}
		seen[r.Handle] = true
		if o, ok := open[r.Open]; ok && (o.Handle != r.Handle || o.Volume != r.Volume || o.Path != r.Path || o.Flags != r.Flags) {
			return "a file that it shares is another one elsewhere"
		}
		open[r.Open] = r
	}
	return ""
}
