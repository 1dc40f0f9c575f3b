package snapshot

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"noyau.dev/abi"
	"noyau.dev/host/volume"
)

const famVars, famRegion = 0x400000, 256 * abi.PageSize

// member is what a member of a family writes: variables of one page, own pages of the region
// from its base on, and parts of shared memory.
func member(vars byte, own []byte, shared ...Share) []byte {
	pages := len(own)
	h := abi.SnapHeader{
		Magic: abi.SnapMagic, Version: abi.SnapVersion, Extents: 2, Shared: uint32(len(shared)),
		Region: famRegion, DataLo: famVars, DataHi: famVars + abi.PageSize, Open: famVars, Handles: 64,
		Areas: abi.RegionBase, AreaN: 1,
	}
	var table []byte
	at := uint64(abi.SnapData)
	add := func(addr, n uint64) {
		table, at = abi.AppendExtent(table, abi.Extent{Addr: addr, Len: n, At: at}), at+n
	}
	add(famVars, abi.PageSize)
	add(abi.RegionBase, uint64(pages)*abi.PageSize)
	for _, s := range shared {
		add(s.Off, s.Len)
	}
	h.Size = at
	var head bytes.Buffer
	binary.Write(&head, binary.LittleEndian, &h)
	b := make([]byte, at)
	copy(b, head.Bytes())
	for i, r := abi.SnapHeaderSize, rand.New(rand.NewPCG(1, uint64(vars))); i < abi.SnapHead; i++ {
		b[i] = byte(r.Uint32()) // of no meaning, so that it does not shrink to nothing
	}
	copy(b[abi.SnapHead:], table)
	copy(b[abi.SnapData:], bytes.Repeat([]byte{vars}, abi.PageSize))
	for i, v := range own {
		copy(b[abi.SnapData+(1+i)*abi.PageSize:], bytes.Repeat([]byte{v}, abi.PageSize))
	}
	o := abi.SnapData + (1+pages)*abi.PageSize
	for i, s := range shared {
		copy(b[o:], bytes.Repeat([]byte{byte(200 + i)}, int(s.Len)))
		o += int(s.Len)
	}
	return b
}

// own is a member's pages: 100, all different, of which those in change are others.
func own(change ...int) []byte {
	b := make([]byte, 100)
	for i := range b {
		b[i] = byte(i + 1)
	}
	for _, c := range change {
		b[c] = 255
	}
	return b
}

func goldenFamily() *Family {
	return &Family{
		LastPID: 9, NextPair: 4, NextShare: 16 * abi.PageSize, ExecSelf: true,
		Execs: []Exec{{"/bin/x", "/srv/x.img", strings.Repeat("ab", 32)}},
		Members: []Member{
			{PID: 1, Group: 1, Session: 1, Children: []Child{{PID: 2}, {PID: 5, Over: true, Status: 0x300, Group: 5}}, NextHandle: 70,
				Streams: [3]Stream{{Std: 1}, {Std: 2}, {Std: 3}}, Ends: []End{{Handle: 12, Pair: 1}}, Areas: []uint64{4 * abi.PageSize},
				Files: []OpenFile{{volume.Record{Handle: 64, Path: "db", Flags: unix.O_RDWR, Flock: unix.LOCK_EX}, 0}}},
			{PID: 2, Parent: 1, Signals: 1 << 9, Rights: abi.NarrowNet, NextHandle: 70, Streams: [3]Stream{{Pair: 3}, {Std: 2}, {}},
				Ends: []End{{Handle: 12, Pair: 1, End: 1}, {Handle: 13, Pair: 3, End: 1}}, Areas: []uint64{4 * abi.PageSize},
				Files: []OpenFile{{volume.Record{Handle: 64, Path: "db", Flags: unix.O_RDWR, Flock: unix.LOCK_EX}, 0}}},
			{PID: 4, Exec: "/bin/x", Started: true, Group: 4, Session: 4, DeathSig: 15, NextHandle: 64, Areas: []uint64{0}},
		},
		Pieces: []Piece{{At: 0, Len: 2 * abi.PageSize, Writer: 2}, {At: 4 * abi.PageSize, Len: 4 * abi.PageSize, Pair: 1, Writer: 0}},
		Pairs:  []Pair{{ID: 1, Type: unix.SOCK_STREAM, Queue: [2]Queue{{Data: [][]byte{[]byte("hello")}}, {Over: true}}}, {ID: 3, Type: unix.SOCK_SEQPACKET}},
	}
}

// saveFamily saves three members: the second shares all but some pages with the first, the
// third is of another image.
func saveFamily(t testing.TB, o Options) (path string, written [][]byte) {
	t.Helper()
	written = [][]byte{
		member(1, own(), Share{Off: 4 * abi.PageSize, Len: 2 * abi.PageSize}),
		member(2, own(40, 41, 42)),
		member(3, own(), Share{Off: 0, Len: abi.PageSize}),
	}
	path, err := saveMembers(t, o, written)
	if err != nil {
		t.Fatal(err)
	}
	return path, written
}

// saveMembers saves what these members have written.
func saveMembers(t testing.TB, o Options, written [][]byte) (path string, err error) {
	t.Helper()
	dir := t.TempDir()
	image := filepath.Join(dir, "image")
	if err := os.WriteFile(image, []byte("the image"), 0o644); err != nil {
		t.Fatal(err)
	}
	path = filepath.Join(dir, "family")
	m := Meta{Image: image, Name: "fam", Forks: 8, Volumes: []volume.Spec{{Host: "/h", Guest: "/g"}}, Made: time.Unix(1, 0)}
	err = SaveFamily(t.Context(), path, m, o, func(_ context.Context, create func() (*os.File, error), m *Meta) (list []*os.File, err error) {
		m.Family = goldenFamily()
		for _, b := range written {
			f, err := create()
			if err == nil {
				_, err = f.Write(b)
			}
			if err != nil {
				return nil, err
			}
			list = append(list, f)
		}
		return list, nil
	})
	return path, err
}

// TestWritesOfOthers: what a member writes into its file for a piece of shared memory that
// another was to write, or that nobody has, is in no snapshot.
func TestWritesOfOthers(t *testing.T) {
	for what, s := range map[string]Share{
		"another's":          {Off: 4 * abi.PageSize, Len: abi.PageSize},
		"the end of another": {Off: 7 * abi.PageSize, Len: abi.PageSize},
		"nobody's":           {Off: 2 * abi.PageSize, Len: abi.PageSize},
		"more than its own":  {Off: abi.PageSize, Len: 2 * abi.PageSize},
		"far away":           {Off: 1 << 63, Len: abi.PageSize},
	} {
		path, err := saveMembers(t, Options{}, [][]byte{member(1, own()), member(2, own()), member(3, own(), s)})
		if err == nil || !strings.Contains(err.Error(), "member 4 wrote shared memory that was not its to write") {
			t.Errorf("%s: %v", what, err)
		}
		if _, err := os.Stat(path); err == nil {
			t.Errorf("%s: there is a file", what)
		}
	}
}

// TestDraftsApart: what members have in hand while they are saved is not the file, so that none can
// change, or read, what others have in it.
func TestDraftsApart(t *testing.T) {
	path, written := saveFamily(t, Options{})
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var held *os.File
	again, image := filepath.Join(t.TempDir(), "again"), filepath.Join(filepath.Dir(path), "image")
	err = SaveFamily(t.Context(), again, Meta{Image: image}, Options{}, func(_ context.Context, create func() (*os.File, error), m *Meta) (list []*os.File, err error) {
		m.Family = goldenFamily()
		m.Volumes = []volume.Spec{{Host: "/h", Guest: "/g"}}
		for i, b := range written {
			f, err := create()
			if err != nil {
				return nil, err
			}
			if i == 0 {
				held, err = os.OpenFile(fmt.Sprintf("/proc/self/fd/%d", f.Fd()), os.O_RDWR, 0)
				if err != nil {
					return nil, err
				}
			}
			f.Write(b)
			list = append(list, f)
		}
		return list, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	if b, err := io.ReadAll(io.NewSectionReader(held, 0, 1<<30)); err != nil || !bytes.Equal(b, written[0]) {
		t.Errorf("the first has %d bytes in hand, wrote %d (%v)", len(b), len(written[0]), err)
	}
	held.WriteAt(bytes.Repeat([]byte{7}, len(whole)), 0)
	if s, err := Open(again); err != nil {
		t.Error("after the first has written more:", err)
	} else {
		s.Close()
	}
}

// memory puts together what a member is made of.
func memory(t testing.TB, s *File, at int64) map[uint64]byte {
	t.Helper()
	b := make([]byte, abi.SnapData)
	if _, err := s.data.ReadAt(b, at); err != nil {
		t.Fatal(err)
	}
	h, wrong := abi.TakeSnap(b, uint64(s.Size))
	if wrong != "" {
		t.Fatal(wrong)
	}
	pages := make(map[uint64]byte)
	for i := range int(h.Extents) {
		e := abi.SnapExtentAt(b, i)
		for o := uint64(0); o < e.Len; o += abi.PageSize {
			p := make([]byte, abi.PageSize)
			if _, err := s.data.ReadAt(p, int64(e.At+o)); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(p, bytes.Repeat(p[:1], len(p))) {
				t.Fatalf("the page at %#x is a mixture", e.Addr+o)
			}
			pages[e.Addr+o] = p[0]
		}
	}
	return pages
}

// TestFamily: each member has the pages that it wrote, and those that it has in common with
// its parent are there once.
func TestFamily(t *testing.T) {
	for _, o := range []Options{{}, {Compress: true}} {
		path, _ := saveFamily(t, o)
		s, err := Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		for i, want := range [][]byte{own(), own(40, 41, 42), own()} {
			got := memory(t, s, s.Family.Members[i].At)
			if len(got) != 101 || got[famVars] != byte(i+1) {
				t.Errorf("member %d has %d pages, variables of %d", i, len(got), got[famVars])
			}
			for k, v := range want {
				if got[abi.RegionBase+uint64(k)*abi.PageSize] != v {
					t.Errorf("member %d: page %d is %d, want %d", i, k, got[abi.RegionBase+uint64(k)*abi.PageSize], v)
				}
			}
		}
		// The third is of another image, and has nothing in common; shared memory lies behind each.
		if got, want := s.Family.Members[2].At-s.Family.Members[1].At, int64(abi.SnapData+4*abi.PageSize); got != want {
			t.Errorf("the second member takes %d bytes, want %d", got, want)
		}
		if len(s.Family.Shares) != 2 || s.Family.Shares[0].Off != 0 || s.Family.Shares[1].Off != 4*abi.PageSize {
			t.Fatalf("shared memory: %+v", s.Family.Shares)
		}
		for _, x := range s.Family.Shares {
			p := make([]byte, x.Len)
			if _, err := s.data.ReadAt(p, x.At); err != nil || p[0] != 200 || p[x.Len-1] != 200 {
				t.Errorf("shared memory at %d is %d, %v", x.Off, p[0], err)
			}
		}
	}
}

// TestApart: a member of another image gets a file in which is what members of that had, where it
// was, and nothing of others; nobody can write to it.
func TestApart(t *testing.T) {
	for _, o := range []Options{{}, {Compress: true}} {
		path, _ := saveFamily(t, o)
		s, err := Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		const program = 2
		for range 2 {
			f, err := s.DataFor(program)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			whole, err1 := io.ReadAll(io.NewSectionReader(s.data, 0, s.Size))
			its, err2 := io.ReadAll(io.NewSectionReader(f, 0, 1<<40))
			if err1 != nil || err2 != nil || len(whole) != len(its) {
				t.Fatal(len(whole), err1, len(its), err2)
			}
			// Of these members what it wrote lies in one piece, without shared memory at the end.
			at := s.Family.Members[program].At
			end := at + abi.SnapData + 101*abi.PageSize
			if !bytes.Equal(its[at:end], whole[at:end]) {
				t.Error("it has not what it had")
			}
			clear(its[at:end])
			if bytes.Count(its, []byte{0}) != len(its) {
				t.Error("it has something of others")
			}
			if _, err := f.WriteAt([]byte("x"), 0); err == nil {
				t.Error("it can be written to")
			}
		}
		first, err := s.DataFor(1) // a fork of the first
		if err != nil {
			t.Fatal(err)
		}
		defer first.Close()
		if a, b := must(first.Stat())(t), must(s.data.Stat())(t); !os.SameFile(a, b) {
			t.Error("a fork of the first has another file")
		}
	}
}

func must[T any](v T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// TestGoldenFamily reads a file of an earlier build: see TestGolden.
func TestGoldenFamily(t *testing.T) {
	golden := filepath.Join("testdata", "family.snap")
	fresh, _ := saveFamily(t, Options{Compress: true})
	if *update {
		b, err := os.ReadFile(fresh)
		if err == nil {
			err = os.WriteFile(golden, b, 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	old, err := Open(golden)
	if err != nil {
		t.Fatal(err)
	}
	defer old.Close()
	now, err := Open(fresh)
	if err != nil {
		t.Fatal(err)
	}
	defer now.Close()
	a, err1 := io.ReadAll(io.NewSectionReader(old.data, 0, old.Size))
	b, err2 := io.ReadAll(io.NewSectionReader(now.data, 0, now.Size))
	if err1 != nil || err2 != nil || !bytes.Equal(a, b) {
		t.Errorf("the pages are others, or %v, %v", err1, err2)
	}
	have, _ := json.Marshal(old.Family)
	want, _ := json.Marshal(now.Family)
	if !bytes.Equal(have, want) {
		t.Errorf("the family is\n%s\nwant\n%s", have, want)
	}
}

// forgeFamily opens a file with sums that fit.
func forgeFamily(t testing.TB, data []byte, m *Meta) (*File, error) {
	m.Size, m.Stored, m.Sum = int64(len(data)), int64(len(data)), fmt.Sprintf("%x", sha256.Sum256(data))
	return Open(forge(t, data, m))
}

func parts(t testing.TB) (data []byte, m Meta) {
	path, _ := saveFamily(t, Options{})
	s, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	data = make([]byte, s.Size)
	if _, err := s.data.ReadAt(data, 0); err != nil {
		t.Fatal(err)
	}
	return data, s.Meta
}

// clone is a deep copy.
func clone(m Meta) Meta {
	b, _ := json.Marshal(m)
	var c Meta
	json.Unmarshal(b, &c)
	return c
}

// TestForgedFamily: whatever makes no sense in a family is refused.
func TestForgedFamily(t *testing.T) {
	data, good := parts(t)
	if s, err := forgeFamily(t, data, &good); err != nil {
		t.Fatal("as it was:", err)
	} else {
		s.Close()
	}
	for what, change := range map[string]func(f *Family){
		"no members":               func(f *Family) { f.Members = nil },
		"too many members":         func(f *Family) { f.Members = append(f.Members, make([]Member, MaxMembers)...) },
		"no first":                 func(f *Family) { f.Members = f.Members[1:] },
		"a parent of the first":    func(f *Family) { f.Members[0].Parent = 2 },
		"the same number":          func(f *Family) { f.Members[2].PID = 2 },
		"number 0":                 func(f *Family) { f.Members[2].PID = 0 },
		"a late number":            func(f *Family) { f.LastPID = 3 },
		"a circle":                 func(f *Family) { f.Members[1].Parent, f.Members[2].Parent = 4, 2 },
		"its own parent":           func(f *Family) { f.Members[1].Parent = 2 },
		"an unknown parent":        func(f *Family) { f.Members[1].Parent = 8 },
		"sections that overlap":    func(f *Family) { f.Members[2].At = f.Members[1].At + abi.PageSize },
		"two in one section":       func(f *Family) { f.Members[2].At = f.Members[1].At },
		"no whole page":            func(f *Family) { f.Members[1].At++ },
		"before the file":          func(f *Family) { f.Members[1].At = -abi.PageSize },
		"behind the file":          func(f *Family) { f.Members[2].At = 1 << 40 },
		"pages as a header":        func(f *Family) { f.Members[2].At += abi.SnapData },
		"an unknown image":         func(f *Family) { f.Members[2].Exec = "/bin/y" },
		"an image twice":           func(f *Family) { f.Execs = append(f.Execs, f.Execs[0]) },
		"rights":                   func(f *Family) { f.Members[1].Rights = 1 << 20 },
		"a group":                  func(f *Family) { f.Members[1].Group = 10 },
		"a signal":                 func(f *Family) { f.Members[1].DeathSig = 65 },
		"a child twice":            func(f *Family) { f.Members[0].Children[1].PID = 2 },
		"a child 0":                func(f *Family) { f.Members[0].Children[1].PID = 0 },
		"a stream":                 func(f *Family) { f.Members[1].Streams[0] = Stream{Std: 4} },
		"a stream of no pair":      func(f *Family) { f.Members[1].Streams[0] = Stream{Pair: 2} },
		"an end of no pair":        func(f *Family) { f.Members[1].Ends[0].Pair = 2 },
		"a third end":              func(f *Family) { f.Members[1].Ends[0].End = 2 },
		"a handle twice":           func(f *Family) { f.Members[1].Ends[0].Handle = 13 },
		"a handle too large":       func(f *Family) { f.Members[1].Ends[0].Handle = 1 << 30 },
		"a pair twice":             func(f *Family) { f.Pairs[1].ID = 1 },
		"a pair 0":                 func(f *Family) { f.Pairs[0].ID = 0 },
		"a late pair":              func(f *Family) { f.NextPair = 3 },
		"a type of pair":           func(f *Family) { f.Pairs[0].Type = 77 },
		"an empty message":         func(f *Family) { f.Pairs[0].Queue[1].Data = [][]byte{{}} },
		"a file twice":             func(f *Family) { f.Members[0].Files = append(f.Members[0].Files, f.Members[0].Files[0]) },
		"a file of no volume":      func(f *Family) { f.Members[0].Files[0].Volume = 1 },
		"a late file":              func(f *Family) { f.Members[0].NextHandle = 64 },
		"two files in one":         func(f *Family) { f.Members[1].Files[0].Path = "other" },
		"piece: none":              func(f *Family) { f.Pieces = nil },
		"piece: no length":         func(f *Family) { f.Pieces[0].Len = 0 },
		"piece: no page":           func(f *Family) { f.Pieces[1].At++ },
		"piece: too long":          func(f *Family) { f.Pieces[1].Len = 1 << 40 },
		"piece: an overflow":       func(f *Family) { f.Pieces[1].Len = 1<<64 - abi.PageSize },
		"piece: more than 4 GiB":   func(f *Family) { f.NextShare, f.Pieces[1].Len = 1<<40, 1<<33 },
		"piece: too late":          func(f *Family) { f.NextShare = 7 * abi.PageSize },
		"piece: overlap":           func(f *Family) { f.Pieces[0].Len = 5 * abi.PageSize },
		"piece: out of order":      func(f *Family) { f.Pieces[0], f.Pieces[1] = f.Pieces[1], f.Pieces[0] },
		"piece: twice":             func(f *Family) { f.Pieces = append(f.Pieces, f.Pieces[1]) },
		"piece: nobody's":          func(f *Family) { f.Pieces = append(f.Pieces, Piece{At: 12 * abi.PageSize, Len: abi.PageSize}) },
		"piece: of a late pair":    func(f *Family) { f.Pieces[0].Pair = 4 },
		"piece: two of a pair":     func(f *Family) { f.Pieces[0].Pair = 1 },
		"has: no piece":            func(f *Family) { f.Members[1].Areas[0] = 12 * abi.PageSize },
		"has: the end of a piece":  func(f *Family) { f.Members[1].Areas[0] += abi.PageSize },
		"has: one twice":           func(f *Family) { f.Members[1].Areas = []uint64{4 * abi.PageSize, 4 * abi.PageSize} },
		"has: less than it says":   func(f *Family) { f.Members[2].Areas, f.Members[1].Areas = nil, []uint64{0, 4 * abi.PageSize} },
		"has: more than it says":   func(f *Family) { f.Members[2].Areas = []uint64{0, 4 * abi.PageSize} },
		"has: very many":           func(f *Family) { f.Members[2].Areas = make([]uint64, abi.SnapAreas+1) },
		"has: an end, no memory":   func(f *Family) { f.Members[2].Ends = []End{{Handle: 5, Pair: 1}} },
		"has: a stream, no memory": func(f *Family) { f.Members[2].Streams[0] = Stream{Pair: 1} },
		"area: in no piece":        func(f *Family) { f.Shares[1].Off = 12 * abi.PageSize },
		"area: beyond its piece":   func(f *Family) { f.Shares[1].Off = 7 * abi.PageSize },
		"area: between two":        func(f *Family) { f.Shares[0].Off = 2 * abi.PageSize },

		"area: one, many times": func(f *Family) {
			f.Shares, f.NextShare, f.Pieces[1].Len = nil, 1<<30, 1<<23
			for i := range uint64(1000) {
				f.Shares = append(f.Shares, Share{Off: (4 + i) * abi.PageSize, Len: abi.PageSize, At: abi.SnapData})
			}
		},
		"area: no length":       func(f *Family) { f.Shares[0].Len = 0 },
		"area: no page":         func(f *Family) { f.Shares[0].Off = 1 },
		"area: too long":        func(f *Family) { f.Shares[1].Len = 1 << 40 },
		"area: an overflow":     func(f *Family) { f.Shares[1].Len = 1<<64 - abi.PageSize },
		"area: too late":        func(f *Family) { f.NextShare = 5 * abi.PageSize },
		"area: overlap":         func(f *Family) { f.Shares[1].Off = 0 },
		"area: not in the file": func(f *Family) { f.Shares[1].At = 1 << 40 },
		"area: the header":      func(f *Family) { f.Shares[1].At = 0 },
		"area: all too large":   func(f *Family) { f.NextShare = 1 << 62 },
	} {
		m := clone(good)
		change(m.Family)
		s, err := forgeFamily(t, data, &m)
		if err == nil {
			s.Close()
			t.Errorf("%s: not refused", what)
		} else if !errors.Is(err, ErrBad) {
			t.Errorf("%s: %v is not ErrBad", what, err)
		}
	}
	// The headers of all members are looked at.
	for i, x := range good.Family.Members {
		for name, at := range map[string]int{"magic": 0, "version": 8, "extents": 13, "size": abi.SnapSizeAt, "pieces": 112, "shared": abi.SnapSharedAt} {
			b := bytes.Clone(data)
			b[int(x.At)+at]++
			m := clone(good)
			if s, err := forgeFamily(t, b, &m); err == nil {
				s.Close()
				t.Errorf("member %d, %s: not refused", i, name)
			}
		}
	}
}

// FuzzFamily: what Open lets through of a family has numbers that a monitor can rely on.
func FuzzFamily(f *testing.F) {
	data, good := parts(f)
	b, _ := json.Marshal(good.Family)
	f.Add(b)
	f.Add([]byte(`{"Members":[{"PID":1}],"LastPID":1}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		m := clone(good)
		m.Family = nil
		if json.Unmarshal(b, &m.Family) != nil || m.Family == nil {
			return
		}
		s, err := forgeFamily(t, data, &m)
		if err != nil {
			return
		}
		defer s.Close()
		if len(s.Headers) != len(s.Family.Members) {
			t.Fatal("members without a header")
		}
		seen := map[uint32]bool{}
		for _, x := range s.Family.Members {
			if seen[x.PID] || x.Parent != 0 && !seen[x.Parent] {
				t.Fatal("no tree")
			}
			seen[x.PID] = true
			memory(t, s, x.At)
		}
		pieces, end := map[uint64]uint64{}, uint64(0)
		for _, p := range s.Family.Pieces {
			if p.At < end || p.Len == 0 || p.Len > abi.ShareMax || p.At+p.Len > s.Family.NextShare {
				t.Fatal("pieces of shared memory out of bounds")
			}
			pieces[p.At], end = p.Len, p.At+p.Len
		}
		for i, x := range s.Family.Members {
			seen := map[uint64]bool{}
			for _, at := range x.Areas {
				if pieces[at] == 0 || seen[at] {
					t.Fatal("a member has memory that is none, or the same twice")
				}
				seen[at] = true
			}
			if len(x.Areas) != int(s.Headers[i].AreaN) {
				t.Fatal("a member has memory of which it does not know")
			}
		}
		for _, x := range s.Family.Shares {
			in := false
			for at, n := range pieces {
				in = in || x.Off >= at && x.Off+x.Len <= at+n
			}
			if !in || x.At+int64(x.Len) > s.Size {
				t.Fatal("shared memory out of bounds")
			}
		}
	})
}
