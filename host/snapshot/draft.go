package snapshot

import (
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// A draft is a file that gets its place when it is complete. It has no name before that, so that
// nothing is left of it however this process ends, if the file system can do that.
type draft struct {
	*os.File
	name string // "": none
}

// draftPrefix is what names of drafts begin with.
const draftPrefix = ".noyau-snapshot-"

func create(path string) (draft, error) {
	dir := filepath.Dir(path)
	fd, err := unix.Open(dir, unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, 0o600)
	if err == nil {
		return draft{os.NewFile(uintptr(fd), path), ""}, nil
	}
	// EISDIR is what older kernels say, EOPNOTSUPP file systems.
	f, err := os.CreateTemp(dir, draftPrefix)
	if err != nil {
		return draft{}, fmt.Errorf("snapshot: no place for %s: %w", path, errors.Unwrap(err))
	}
	return draft{f, f.Name()}, nil
}

// unname takes a draft's name away: it is only read by who has it.
func (d *draft) unname() {
	if d.name != "" {
		os.Remove(d.name)
		d.name = ""
	}
}

// put gives the draft its place, in which there may be another file.
func (d *draft) put(path string) error {
	if d.name == "" {
		// A file can be linked only where there is none.
		name := filepath.Join(filepath.Dir(path), draftPrefix+rand.Text())
		self := fmt.Sprintf("/proc/self/fd/%d", d.Fd())
		if err := unix.Linkat(unix.AT_FDCWD, self, unix.AT_FDCWD, name, unix.AT_SYMLINK_FOLLOW); err != nil {
			return fmt.Errorf("snapshot: %w", &os.PathError{Op: "link", Path: name, Err: err})
		}
		d.name = name
	}
	return os.Rename(d.name, path)
}

var errDiscard = errors.New("not needed")

// discard closes the file, and removes it if there was an error.
func (d *draft) discard(err error) {
	d.Close()
	if err != nil {
		d.unname()
	}
}
