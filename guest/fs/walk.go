package fs

import (
	"strings"

	"noyau.dev/guest/linux"
)

// A place is where a path leads.
type place struct {
	// In the in-memory tree: what is there (nil if nothing), its entry if it
	// has one, and the directory that holds or would hold name.
	ino  *inode
	ent  *dirent
	dir  *inode
	name string

	// In a mounted file system (mnt != nil): the path there.
	mnt *mount
	rel string

	bad      linux.Errno // the descriptor that a path begins at is no good, which counts once it is needed
	kind     lastKind
	slash    bool // the path ended in a slash: it must be a directory
	slow     bool // found component by component: rel has no links but perhaps the last
	nofollow bool // opened by O_PATH and O_NOFOLLOW: the link itself
}

// lastKind is the kind of the last component of a path.
type lastKind uint8

const (
	lastName lastKind = iota
	lastDot
	lastDotDot
	lastRoot
)

// How to walk.
type how uint32

const (
	follow  how = 1 << iota // follow a symbolic link in the last place
	create                  // the last component may be missing
	parent                  // the last component is a name to make or remove: never followed, slash or not
	slow                    // ask mounted file systems for one component at a time
	noLinks                 // RESOLVE_NO_SYMLINKS
	noMagic                 // RESOLVE_NO_MAGICLINKS
	noCross                 // RESOLVE_NO_XDEV
	beneath                 // RESOLVE_BENEATH
	inRoot                  // RESOLVE_IN_ROOT
)

// maxLinks is how many symbolic links a walk follows.
const maxLinks = 40

// isDir reports whether p is known to be a directory to walk on from.
func (p *place) isDir() bool { return p.mnt != nil || p.ino != nil && p.ino.isDir() }

// missing is the error for a place where there is nothing: the name is looked
// at only when the rest of the call is known to make sense.
func (p *place) missing() linux.Errno {
	if len(p.name) > linux.NAME_MAX {
		return linux.ENAMETOOLONG
	}
	return linux.ENOENT
}

// walk finds path, starting at base if it is relative. It is called and returns
// with t.mu held, but gives it up while it asks a mounted file system.
func (t *Tree) walk(base place, path string, w how) (place, linux.Errno) {
	if path == "" {
		return place{}, linux.ENOENT
	}
	if len(path) >= linux.PATH_MAX {
		return place{}, linux.ENAMETOOLONG
	}
	top := t.rootPlace()
	if w&(beneath|inRoot) != 0 {
		top = base
		w |= slow
	}
	if w&(noLinks|noMagic|noCross) != 0 {
		w |= slow
	}
	if base.bad != 0 && (path[0] != '/' || w&(beneath|inRoot) != 0) {
		return place{}, base.bad
	}
	cur, rest := base, path
	cur.kind, cur.slash, cur.slow = lastRoot, false, false
	if path[0] == '/' {
		if w&beneath != 0 {
			return place{}, linux.EXDEV
		}
		cur = top
	}
	if !cur.isDir() {
		return place{}, linux.ENOTDIR
	}
	for links := 0; ; {
		for rest != "" && rest[0] == '/' {
			rest = rest[1:]
		}
		if rest == "" {
			return cur, 0
		}
		j := strings.IndexByte(rest, '/')
		if j < 0 {
			j = len(rest)
		}
		name, more := rest[:j], rest[j:]
		last := onlySlashes(more)
		if t.quick(&cur, name, last, more != "") {
			if last {
				cur.slash = more != ""
				return cur, 0
			}
			rest = more
			continue
		}
		var target string
		var e linux.Errno
		if cur.mnt != nil {
			if w&slow == 0 && len(cur.mnt.subs) == 0 && !hasDotDot(rest) {
				return cur.beneath(rest), 0
			}
			cur, target, e = t.stepMounted(cur, top, name, last, last && more != "", w)
		} else {
			cur, target, e = t.step(cur, top, name, last, last && more != "", w)
		}
		if e != 0 {
			return place{}, e
		}
		rest = more
		if target == "" {
			if last {
				cur.slash = more != "" || cur.mnt != nil && cur.kind == lastDot
				return cur, 0
			}
			continue
		}
		if links++; links > maxLinks {
			return place{}, linux.ELOOP
		}
		if target[0] == '/' {
			if w&beneath != 0 {
				return place{}, linux.EXDEV
			}
			cur = top
		}
		rest = target + rest
	}
}

// quick takes one component in place, if it is the usual one: the name of a
// plain directory or file of the in-memory tree. Else it changes nothing.
func (t *Tree) quick(cur *place, name string, last, slash bool) bool {
	if cur.mnt != nil {
		return false
	}
	d := cur.ino
	if d.dyn != nil || t.cred.uid != 0 {
		return false
	}
	e := d.dir.byName[name]
	if e == nil {
		return false
	}
	n := e.ino
	if n.mnt != nil || n.dir == nil && (!last || slash || n.isLink()) {
		return false
	}
	cur.ino, cur.ent, cur.dir, cur.name, cur.kind = n, e, d, name, lastName
	return true
}

// step takes one component from cur, a directory of the in-memory tree. If
// there is a link to follow it returns its target and the directory to go on from.
func (t *Tree) step(cur, top place, name string, last, slash bool, w how) (place, string, linux.Errno) {
	d := cur.ino
	if e := t.cred.may(d, mayExec); e != 0 {
		return cur, "", e
	}
	switch name {
	case ".":
		return place{ino: d, ent: d.dir.self, kind: lastDot}, "", 0
	case "..":
		return t.up(cur, top, w)
	}
	if len(name) > linux.NAME_MAX {
		if last && w&parent != 0 {
			return place{dir: d, name: name}, "", 0 // see missing
		}
		return cur, "", linux.ENAMETOOLONG
	}
	ent, n := t.lookup(d, name)
	next := place{ino: n, ent: ent, dir: d, name: name}
	if n == nil {
		if last && w&(create|parent) != 0 {
			return next, "", 0
		}
		return cur, "", linux.ENOENT
	}
	if last && w&parent != 0 {
		return next, "", 0
	}
	if n.isLink() && (!last || w&follow != 0 || slash) {
		if w&noLinks != 0 {
			return cur, "", linux.ELOOP
		}
		if n.dyn != nil && n.dyn.magic != nil {
			if w&noMagic != 0 {
				return cur, "", linux.ELOOP
			}
			if w&(beneath|inRoot) != 0 {
				return cur, "", linux.EXDEV
			}
			p, e := n.dyn.magic()
			if e == 0 && (!last || slash) && !p.isDir() {
				e = linux.ENOTDIR
			}
			return p, "", e
		}
		n.accessed()
		target := n.target()
		if target == "" {
			return cur, "", linux.ENOENT
		}
		return place{ino: d, ent: d.dir.self, kind: lastRoot}, target, 0
	}
	if n.mnt != nil {
		if w&noCross != 0 {
			return cur, "", linux.EXDEV
		}
		return place{mnt: n.mnt, kind: lastRoot, slow: w&slow != 0}, "", 0
	}
	if !n.isDir() && (!last || slash) {
		return cur, "", linux.ENOTDIR
	}
	return next, "", 0
}

// up takes the component "..".
func (t *Tree) up(cur, top place, w how) (place, string, linux.Errno) {
	if same(cur, top) {
		if w&beneath != 0 {
			return cur, "", linux.EXDEV
		}
		top.kind = lastDotDot
		return top, "", 0
	}
	if m := cur.mnt; m != nil {
		if cur.rel != "" {
			cut := max(strings.LastIndexByte(cur.rel, '/'), 0)
			return place{mnt: m, rel: cur.rel[:cut], kind: lastDotDot, slow: true}, "", 0
		}
		if w&noCross != 0 {
			return cur, "", linux.EXDEV
		}
		if m.in != nil {
			return t.up(place{mnt: m.in, rel: m.rel}, top, w)
		}
		return t.up(place{ino: m.at}, top, w)
	}
	u := cur.ino.dir.up
	if u == nil {
		u = cur.ino // the root, or a directory of /proc
	}
	return place{ino: u, ent: u.dir.self, kind: lastDotDot}, "", 0
}

func same(a, b place) bool {
	if a.mnt != nil || b.mnt != nil {
		return a.mnt == b.mnt && a.rel == b.rel
	}
	return a.ino == b.ino
}

func onlySlashes(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] != '/' {
			return false
		}
	}
	return true
}

// hasDotDot reports whether a component of s is "..".
func hasDotDot(s string) bool {
	for {
		i := strings.Index(s, "..")
		if i < 0 {
			return false
		}
		if (i == 0 || s[i-1] == '/') && (i+2 == len(s) || s[i+2] == '/') {
			return true
		}
		s = s[i+2:]
	}
}
