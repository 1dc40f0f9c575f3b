package snapshot

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"sort"

	"noyau.dev/abi"
)

var errElse = errors.New("snapshot: the pVM wrote something else")

// merge puts what the members of a family have written into f, which none of them has: first
// all of the first's, then for each its header and table, and the pages of which its parent, or
// the child before it, has no equal ones at the same address. It completes m.
func merge(f *os.File, drafts []*os.File, m *Meta) error {
	g := &merging{f: f, m: m}
	for i, d := range drafts {
		if err := g.add(i, d); err != nil {
			return err
		}
	}
	fam := m.Family
	slices.SortFunc(fam.Shares, func(a, b Share) int {
		if a.Off < b.Off {
			return -1
		}
		return 1
	})
	var size [8]byte
	binary.LittleEndian.PutUint64(size[:], uint64(g.end))
	for i := range fam.Members {
		if _, err := f.WriteAt(size[:], fam.Members[i].At+abi.SnapSizeAt); err != nil {
			return err
		}
	}
	m.Size = g.end
	if wrong := fam.check(m); wrong != "" {
		return errors.New("snapshot: of the family makes no sense: " + wrong)
	}
	return f.Truncate(g.end)
}

type merging struct {
	f      *os.File
	m      *Meta
	end    int64
	tables [][]abi.Extent // of those that were added, as they are in f
}

// A window reads pages of a file, most often one after the other. Files are not mapped: a
// full disk would be a fault.
type window struct {
	f   *os.File
	at  int64
	buf []byte
	n   int
	err error // the first; pages are zeros from then on
}

func (w *window) page(at uint64) []byte {
	o := int64(at) - w.at
	if w.buf == nil || o < 0 || o+abi.PageSize > int64(w.n) {
		if w.buf == nil {
			w.buf = make([]byte, 256<<10)
		}
		n, err := w.f.ReadAt(w.buf, int64(at))
		if err != nil && err != io.EOF && w.err == nil {
			w.err = err
		}
		clear(w.buf[n:])
		w.at, w.n, o = int64(at), max(n, abi.PageSize), 0
	}
	return w.buf[o : o+abi.PageSize]
}

func (g *merging) add(i int, d *os.File) error {
	st, err := d.Stat()
	if err != nil {
		return err
	}
	if st.Size() < abi.SnapData || st.Size() > maxSize {
		return errElse
	}
	head := make([]byte, abi.SnapData)
	if _, err := d.ReadAt(head, 0); err != nil {
		return err
	}
	h, wrong := abi.TakeSnap(head, uint64(st.Size()))
	if wrong != "" || h.Size%abi.PageSize != 0 {
		return errElse
	}
	var own, shared []abi.Extent
	for k := range int(h.Extents + h.Shared) {
		if e := abi.SnapExtentAt(head, k); k < int(h.Extents) {
			own = append(own, e)
		} else if e.At > h.Size || e.Len > h.Size-e.At {
			return errElse
		} else {
			shared = append(shared, e)
		}
	}
	if i == 0 {
		if _, err := g.append(d, abi.Extent{Len: h.Size}); err != nil {
			return err
		}
	} else {
		g.m.Family.Members[i].At = g.end
		if own, err = g.place(i, own, d); err != nil {
			return err
		}
	}
	g.tables = append(g.tables, own)
	for _, e := range shared {
		if p := g.m.Family.piece(e.Addr, e.Len); p == nil || p.Writer != i {
			return fmt.Errorf("snapshot: member %d wrote shared memory that was not its to write", g.m.Family.Members[i].PID)
		}
		at := int64(e.At)
		if i > 0 {
			if at, err = g.append(d, e); err != nil {
				return err
			}
		}
		g.m.Family.Shares = append(g.m.Family.Shares, Share{Off: e.Addr, Len: e.Len, At: at})
	}
	clear(head[abi.SnapHead:])
	for k, e := range own {
		abi.AppendExtent(head[:abi.SnapHead+k*abi.SnapExtent], e)
	}
	binary.LittleEndian.PutUint32(head[abi.SnapExtentsAt:], uint32(len(own)))
	binary.LittleEndian.PutUint32(head[abi.SnapSharedAt:], 0)
	_, err = g.f.WriteAt(head, g.m.Family.Members[i].At)
	return err
}

// append puts pages of a draft at the end.
func (g *merging) append(d *os.File, e abi.Extent) (at int64, err error) {
	at = g.end
	b := make([]byte, min(e.Len, 1<<20))
	for done := uint64(0); done < e.Len; {
		b = b[:min(e.Len-done, uint64(cap(b)))]
		if n, err := d.ReadAt(b, int64(e.At+done)); err != nil && (err != io.EOF || n != len(b)) {
			return 0, err
		}
		if err := writeSparse(g.f, b, g.end); err != nil {
			return 0, err
		}
		done += uint64(len(b))
		g.end += int64(len(b))
	}
	return at, nil
}

// A run is pages of a member: where they are in what it wrote, and where equal ones are in
// the file already; 0: nowhere.
type run struct {
	abi.Extent
	base  uint64
	whole bool // it is all of an extent
}

// minRun is how many equal pages in a row are worth an extent of their own: each is a map
// more when the member is restored.
const minRun = 16

// place finds out what of a member's pages is there already, and writes the rest behind
// room for its header.
func (g *merging) place(i int, own []abi.Extent, d *os.File) ([]abi.Extent, error) {
	var runs []run
	data, bases := &window{f: d}, g.bases(i)
	for _, e := range own {
		runs = append(runs, compare(e, data, bases)...)
	}
	for _, w := range append(windows(bases), data) {
		if w.err != nil {
			return nil, w.err
		}
	}
	list := join(runs, minRun)
	for least := uint64(4 * minRun); len(list) > abi.SnapExtents; least *= 4 {
		list = join(runs, least)
	}
	g.end += abi.SnapData
	var out []abi.Extent
	for _, r := range list {
		e := abi.Extent{Addr: r.Addr, Len: r.Len, At: r.base}
		if r.base == 0 {
			at, err := g.append(d, r.Extent)
			if err != nil {
				return nil, err
			}
			e.At = uint64(at)
		}
		out = append(out, e)
	}
	return out, nil
}

// A base is a member that is in the file already.
type base struct {
	table []abi.Extent
	pages *window
}

func windows(list []base) (all []*window) {
	for _, b := range list {
		all = append(all, b.pages)
	}
	return all
}

// bases are those that may have the same pages as member i: its parent, and the last of
// its brothers.
func (g *merging) bases(i int) (list []base) {
	all := g.m.Family.Members
	x := &all[i]
	for k := i - 1; k >= 0 && len(list) < 2; k-- {
		if all[k].Exec == x.Exec && (all[k].PID == x.Parent || all[k].Parent == x.Parent || k == 0) {
			list = append(list, base{g.tables[k], &window{f: g.f}})
		}
	}
	return list
}

// find is where the page at an address is in the file; 0: nowhere.
func find(table []abi.Extent, addr uint64) uint64 {
	k := sort.Search(len(table), func(k int) bool { return table[k].Addr > addr }) - 1
	if k < 0 || addr-table[k].Addr >= table[k].Len {
		return 0
	}
	return table[k].At + addr - table[k].Addr
}

// compare cuts an extent into runs. Variables stay in one piece: there may be few.
func compare(e abi.Extent, data *window, bases []base) (runs []run) {
	if e.Addr < abi.RegionBase {
		return []run{{Extent: e, whole: true}}
	}
	const page = abi.PageSize
	for o := uint64(0); o < e.Len; o += page {
		r := run{Extent: abi.Extent{Addr: e.Addr + o, Len: page, At: e.At + o}}
		for _, b := range bases {
			if at := find(b.table, r.Addr); at != 0 && bytes.Equal(b.pages.page(at), data.page(r.At)) {
				r.base = at
				break
			}
		}
		runs = push(runs, r)
	}
	runs[0].whole = len(runs) == 1
	return runs
}

// join takes equal pages for different ones where there are fewer than least in a row.
func join(runs []run, least uint64) (out []run) {
	for _, r := range runs {
		if r.Len < least*abi.PageSize && !r.whole {
			r.base = 0
		}
		out = push(out, r)
	}
	return out
}

// push adds r to runs, or to the last of them if it goes on where that ends.
func push(runs []run, r run) []run {
	if n := len(runs) - 1; n >= 0 {
		l := &runs[n]
		if l.Addr+l.Len == r.Addr && l.At+l.Len == r.At && (l.base == 0 && r.base == 0 || l.base != 0 && l.base+l.Len == r.base) {
			l.Len += r.Len
			l.whole = false
			return runs
		}
	}
	return append(runs, r)
}
