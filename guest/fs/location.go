package fs

import "strings"

// Location is where an open file was found. It is embedded by files of this
// package and of mounted file systems; it makes a directory usable as dirfd and
// gives /proc/self/fd its links.
type Location struct{ p place }

func (l *Location) location() *Location { return l }

type located interface{ location() *Location }

// Closed must be called when an open directory of a mounted file system is
// released.
func (l *Location) Closed() {
	if m := l.p.mnt; m != nil {
		m.tree.mu.Lock()
		delete(m.dirs, l)
		m.tree.mu.Unlock()
	}
}

// keep makes renames move l. The mutex is held.
func (l *Location) keep() {
	l.p.mnt.dirs[l] = struct{}{}
}

// moved follows a rename within m: descriptors and the working directory stay
// with their directories. That holds for renames by this pVM, and by the names
// that the directories were found by. The mutex is held.
func (m *mount) moved(from, to string, exchange bool) {
	follow := func(p *place) {
		if p.mnt != m {
			return
		}
		if rest, ok := inside(p.rel, from); ok {
			p.rel = to + rest
		} else if rest, ok := inside(p.rel, to); ok && exchange {
			p.rel = from + rest
		}
	}
	for l := range m.dirs {
		follow(&l.p)
	}
	follow(&m.tree.cwd)
}

// inside returns what follows dir in a path that is dir or lies beneath it.
func inside(path, dir string) (rest string, ok bool) {
	rest, ok = strings.CutPrefix(path, dir)
	return rest, ok && (rest == "" || rest[0] == '/')
}
