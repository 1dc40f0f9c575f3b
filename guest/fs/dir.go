package fs

import (
	"sort"
	"strings"

	"noyau.dev/guest/linux"
)

// A dirent is one name of an inode. It outlives its removal: an open file keeps
// the name under which it was opened, for events and /proc/self/fd.
type dirent struct {
	name   string
	ino    *inode
	parent *inode // nil once removed
	was    *inode // the parent that it was removed from
	seq    int64  // position in the parent's order
}

// A dirData is the content of a directory. Entries have an order that never
// changes while they live, which gives getdents positions that stay valid
// whatever is added or removed between two calls.
type dirData struct {
	byName map[string]*dirent
	order  []slot // ascending by seq; may hold dead slots
	dead   int
	self   *dirent // this directory's own entry; nil for the root
	up     *inode  // the parent; nil for the root. Kept after removal, for ".."
	gone   bool    // removed: nothing can be made or found in it
}

type slot struct {
	seq int64
	ent *dirent
}

// firstSeq leaves room for the positions of "." and "..".
const firstSeq = 3

func (d *dirData) get(name string) *dirent { return d.byName[name] }

func (s slot) live(dir *inode) bool { return s.ent.seq == s.seq && s.ent.parent == dir }

// add enters e, whose name and ino are set, into dir.
func (t *Tree) add(dir *inode, e *dirent) {
	d := dir.dir
	t.lastSeq++
	e.parent, e.seq = dir, t.lastSeq
	if d.byName == nil {
		d.byName = make(map[string]*dirent)
	}
	d.byName[e.name] = e
	d.order = append(d.order, slot{e.seq, e})
	if e.ino.isDir() {
		e.ino.dir.self, e.ino.dir.up = e, dir
		dir.nlink++
	}
}

// remove takes e out of its directory.
func (t *Tree) remove(e *dirent) {
	dir := e.parent
	d := dir.dir
	delete(d.byName, e.name)
	e.parent, e.was = nil, dir
	if e.ino.isDir() {
		dir.nlink--
	}
	if d.dead++; d.dead > 16 && d.dead > len(d.order)/2 {
		live := d.order[:0]
		for _, s := range d.order {
			if s.live(dir) {
				live = append(live, s)
			}
		}
		clear(d.order[len(live):])
		d.order, d.dead = live, 0
	}
	if len(d.byName) == 0 {
		d.byName, d.order, d.dead = nil, nil, 0
	}
}

// next returns the first entry behind position pos.
func (d *dirData) next(dir *inode, pos int64) *dirent {
	i := sort.Search(len(d.order), func(i int) bool { return d.order[i].seq > pos })
	for ; i < len(d.order); i++ {
		if d.order[i].live(dir) {
			return d.order[i].ent
		}
	}
	return nil
}

// lookup finds name in directory dir, or nil. It knows nothing of "." and "..".
func (t *Tree) lookup(dir *inode, name string) (*dirent, *inode) {
	if dir.dyn != nil {
		dir.populate()
		if dir.dyn.lookup != nil {
			return nil, dir.dyn.lookup(name)
		}
	}
	if e := dir.dir.get(name); e != nil {
		return e, e.ino
	}
	return nil, nil
}

// populate makes the entries of a directory that are made when wanted.
func (n *inode) populate() {
	if n.dyn != nil && n.dyn.fill != nil {
		fill := n.dyn.fill
		n.dyn.fill = nil
		fill(n)
	}
}

// enter makes an entry for n in dir. The caller has checked that the name is
// free and that it may write there.
func (t *Tree) enter(dir *inode, name string, n *inode) *dirent {
	e := &dirent{name: strings.Clone(name), ino: n}
	t.add(dir, e)
	dir.modified()
	return e
}

// pathOf returns the absolute path of a directory or entry, as getcwd and
// /proc/self/fd show it.
func (t *Tree) pathOf(e *dirent) string {
	var parts []string
	n := 0
	deleted := false
	for e != nil {
		parts = append(parts, e.name)
		n += len(e.name) + 1
		dir := e.parent
		if dir == nil {
			deleted = true
			if dir = e.was; dir == nil {
				break // a memfd
			}
		}
		e = dir.dir.self
	}
	if len(parts) == 0 {
		return "/"
	}
	b := make([]byte, 0, n+10)
	for i := len(parts) - 1; i >= 0; i-- {
		b = append(b, '/')
		b = append(b, parts[i]...)
	}
	if deleted {
		b = append(b, " (deleted)"...)
	}
	return string(b)
}

// dtype is the type byte of a directory record.
func dtype(mode uint32) byte { return byte(mode & linux.S_IFMT >> 12) }
