package volume

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// A Record is what a snapshot says of an open file: enough to open it once more, and to
// see whether it is still the same.
type Record struct {
	Handle uint32 // what its holder calls it
	Volume uint32 // number of the root
	Path   string // beneath the root, as the file was called when the record was made
	Flags  int    // those of open(2) that last
	Dir    bool   `json:",omitempty"`
	Size   int64  // of a regular file, as Mtime
	Mtime  int64  // ns
	Gone   bool   `json:",omitempty"` // it had no name in the volume any more

	Flock int    `json:",omitempty"` // unix.LOCK_SH or LOCK_EX that is held; 0: none
	Locks []Held `json:",omitempty"`
}

// lastingFlags are the flags of open(2) that say what the open file is, and not how it
// came to be. Reopen passes no other.
const lastingFlags = unix.O_ACCMODE | unix.O_APPEND | unix.O_SYNC | unix.O_DSYNC | unix.O_DIRECT | unix.O_PATH

// Record describes f as it is now. EFBIG: it has too many locks to be put down.
func (f *File) Record() (Record, error) {
	var st unix.Stat_t
	if err := retry(func() error { return unix.Fstat(f.fd, &st) }); err != nil {
		return Record{}, err
	}
	flags, err := unix.FcntlInt(uintptr(f.fd), unix.F_GETFL, 0)
	if err != nil {
		return Record{}, err
	}
	r := Record{Volume: f.root.number, Flags: flags & lastingFlags, Dir: f.dir}
	if !f.dir {
		r.Size, r.Mtime = st.Size, st.Mtim.Nano()
	}
	var known bool
	if r.Path, known = f.name(&st); !known {
		r.Gone = true
	}
	if r.Flock, r.Locks, err = f.held.list(); err != nil {
		err = fmt.Errorf("%s has more record locks than the %d that a snapshot can hold: %w", r.Path, maxHeld, err)
	}
	return r, err
}

// name finds out what f is called now, whoever has renamed it. It is not known if the
// file has no name, or none beneath the root.
func (f *File) name(st *unix.Stat_t) (string, bool) {
	link := func(fd int) string { s, _ := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", fd)); return s }
	root, at := link(f.root.fd), link(f.fd)
	name := "."
	if at != root {
		var ok bool
		if name, ok = strings.CutPrefix(at, strings.TrimSuffix(root, "/")+"/"); !ok {
			return at, false
		}
	}
	fd, err := f.root.path(name, false)
	if err != nil {
		return name, false
	}
	defer unix.Close(fd)
	var now unix.Stat_t
	err = retry(func() error { return unix.Fstat(fd, &now) })
	return name, err == nil && now.Dev == st.Dev && now.Ino == st.Ino
}

// ErrNotSame is in the errors of Reopen that mean that a file is not the one of the record,
// or that its locks cannot be had.
var ErrNotSame = errors.New("not as it was")

// Reopen opens the file of a record once more and takes its locks. Nothing is created.
// same wants it to be what it was: a directory; or a regular file with the size and the
// time of modification that the record has. Of a file that can only be appended to neither
// matters, since its holder has never seen them.
func (r *Root) Reopen(rec Record, same bool) (*File, error) {
	if rec.Gone {
		return nil, fmt.Errorf("%w: it was deleted while it was open, or moved out of the volume", ErrNotSame)
	}
	f, st, err := r.Open(rec.Path, uint64(rec.Flags&lastingFlags|unix.O_NOFOLLOW), 0) // the path is that of the file itself
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNotSame, err)
	}
	fail := func(format string, v ...any) (*File, error) {
		f.Close()
		return nil, fmt.Errorf("%w: "+format, append([]any{ErrNotSame}, v...)...)
	}
	logs := rec.Flags&unix.O_ACCMODE == unix.O_WRONLY && rec.Flags&unix.O_APPEND != 0
	switch {
	case f.dir != rec.Dir && f.dir:
		return fail("a directory is in its place")
	case f.dir != rec.Dir:
		return fail("no directory any more")
	case f.dir || f.path || !same || logs:
	case st.Size != rec.Size:
		return fail("it had %d bytes and has %d", rec.Size, st.Size)
	case st.Mtime != rec.Mtime:
		return fail("it has been written since")
	}
	if rec.Flock != 0 {
		if err := f.Flock(rec.Flock); err != nil {
			return fail("its lock cannot be had: %w", err)
		}
	}
	for _, l := range rec.Locks {
		if err := f.Lock(l.Type, l.Start, l.Length); err != nil {
			return fail("its record lock cannot be had: %w", err)
		}
	}
	return f, nil
}
