package fs

import (
	"noyau.dev/guest/kernel"
	"noyau.dev/guest/linux"
)

// socketNames gives unix sockets their names.
type socketNames struct{ t *Tree }

// BindSocket makes a name for sock. In a mounted file system that is EOPNOTSUPP:
// nobody outside could connect to it.
func (s socketNames) BindSocket(path string, sock any) linux.Errno {
	t := s.t
	t.mu.Lock()
	defer t.mu.Unlock()
	p, e := t.walk(t.cwd, path, parent)
	switch {
	case e != 0:
		return e
	case p.mnt != nil:
		return linux.EOPNOTSUPP
	}
	if e := t.vacant(p, false); e != 0 {
		if e == linux.EEXIST {
			e = linux.EADDRINUSE
		}
		return e
	}
	ent, e := t.makeAt(p, linux.S_IFSOCK|0o777&^kernel.Umask())
	if e == 0 {
		ent.ino.sock = sock
	}
	return e
}

// UnbindSocket takes back what BindSocket did.
func (s socketNames) UnbindSocket(path string, sock any) {
	t := s.t
	t.mu.Lock()
	defer t.mu.Unlock()
	if p, e := t.walk(t.cwd, path, 0); e == 0 && p.mnt == nil && p.ino.sock == sock {
		t.unlink(p)
	}
}

// FindSocket returns what BindSocket was given for the file at path.
func (s socketNames) FindSocket(path string) (any, linux.Errno) {
	t := s.t
	t.mu.Lock()
	defer t.mu.Unlock()
	p, e := t.walk(t.cwd, path, follow)
	switch {
	case e != 0:
		return nil, e
	case p.mnt != nil || p.ino.sock == nil:
		return nil, linux.ECONNREFUSED
	}
	if e := t.cred.may(p.ino, mayWrite); e != 0 {
		return nil, e
	}
	return p.ino.sock, 0
}
