package fs

import (
	"strings"

	"noyau.dev/guest/linux"
)

// beneath returns the place of path, which has no "..", beneath a place in a
// mounted file system, trusting that file system to resolve links.
func (p place) beneath(path string) place {
	q := place{mnt: p.mnt, slash: path[len(path)-1] == '/'}
	b := make([]byte, 0, len(p.rel)+1+len(path))
	b = append(b, p.rel...)
	for path != "" {
		name, more, _ := strings.Cut(path, "/")
		switch name {
		case "":
		case ".":
			q.kind = lastDot
		default:
			q.kind = lastName
			if len(b) > 0 {
				b = append(b, '/')
			}
			b = append(b, name...)
		}
		path = more
	}
	q.rel = string(b)
	q.slash = q.slash || q.kind == lastDot
	return q
}

// stepMounted is step for a directory of a mounted file system. It asks whether
// name is a symbolic link, and so follows links that leave the file system: an
// absolute one leads to what is there inside the pVM.
func (t *Tree) stepMounted(cur, top place, name string, last, slash bool, w how) (place, string, linux.Errno) {
	cur.slow = true
	switch name {
	case ".":
		cur.kind = lastDot
		return cur, "", 0
	case "..":
		if cur.rel != "" {
			var st linux.Stat
			t.mu.Unlock()
			e := cur.mnt.fs.Stat(cur.rel, true, &st)
			t.mu.Lock()
			if e != 0 {
				return cur, "", e
			}
			if st.Mode&linux.S_IFMT != linux.S_IFDIR {
				return cur, "", linux.ENOTDIR
			}
		}
		return t.up(cur, top, w)
	}
	if len(name) > linux.NAME_MAX {
		return cur, "", linux.ENAMETOOLONG
	}
	next := place{mnt: cur.mnt, rel: name, slow: true}
	if cur.rel != "" {
		next.rel = cur.rel + "/" + name
	}
	if m := cur.mnt.subs[next.rel]; m != nil && !(last && w&parent != 0) {
		if w&noCross != 0 {
			return cur, "", linux.EXDEV
		}
		return place{mnt: m, kind: lastRoot, slow: true}, "", 0
	}
	if last && (w&parent != 0 || w&follow == 0 && !slash) {
		return next, "", 0
	}
	t.mu.Unlock()
	target, e := cur.mnt.fs.Readlink(next.rel)
	t.mu.Lock()
	switch {
	case e == linux.EINVAL:
		return next, "", 0
	case e == linux.ENOENT && last && w&create != 0:
		return next, "", 0
	case e != 0:
		return cur, "", e
	case target == "":
		return cur, "", linux.ENOENT
	case w&noLinks != 0:
		return cur, "", linux.ELOOP
	}
	cur.kind = lastRoot
	return cur, target, 0
}
