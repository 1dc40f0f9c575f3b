// Package state keeps what is known about this user's pVMs: one directory per
// user, one entry per pVM in it, no daemon. Commands that run at the same time
// agree through a file lock and atomic renames; what a crash leaves behind is
// recognised by whether the monitor that wrote it still lives.
//
// Layout, below $XDG_STATE_HOME/noyau (0700, the user's own):
//
//	lock                  held while entries or names are made or removed
//	names/NAME            symbolic link to the id of the pVM
//	pvms/ID/meta.json     what was asked for: written once
//	pvms/ID/status.json   what became of it: replaced by the monitor
//	pvms/ID/spec.json     the monitor's input (see WriteSpec)
//	pvms/ID/log, log.1 …  the pVM's output
//	pvms/ID/monitor.log   what the monitor itself has to say
//
// The control sockets are in $XDG_RUNTIME_DIR/noyau.
package state

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"
)

// A Dir is one user's state directory and runtime directory.
type Dir struct {
	State string // entries, names, logs
	Run   string // sockets
}

// Open finds and, if need be, makes the directories of the user who runs this
// program. State is $XDG_STATE_HOME/noyau or ~/.local/state/noyau; Run is
// $XDG_RUNTIME_DIR/noyau, /run/user/UID/noyau or, on machines without either,
// noyau-UID in the directory for temporary files.
func Open() (*Dir, error) {
	state := os.Getenv("XDG_STATE_HOME")
	if !filepath.IsAbs(state) { // the specification says to ignore relative ones
		home, err := os.UserHomeDir()
		if err != nil || !filepath.IsAbs(home) {
			return nil, errors.New("no place for the state of pVMs: set HOME or XDG_STATE_HOME to an absolute path")
		}
		state = filepath.Join(home, ".local", "state")
	}
	uid := os.Geteuid()
	run := filepath.Join(os.TempDir(), fmt.Sprintf("noyau-%d", uid))
	for _, dir := range []string{os.Getenv("XDG_RUNTIME_DIR"), fmt.Sprintf("/run/user/%d", uid)} {
		if filepath.IsAbs(dir) && ownDir(dir) == nil {
			run = filepath.Join(dir, "noyau")
			break
		}
	}
	return OpenAt(filepath.Join(state, "noyau"), run)
}

// OpenAt is Open for given directories.
func OpenAt(state, run string) (*Dir, error) {
	d := &Dir{State: state, Run: run}
	for _, dir := range []string{state, run, d.pvms(), d.names()} {
		if err := makePrivate(dir); err != nil {
			return nil, err
		}
	}
	return d, nil
}

func (d *Dir) pvms() string  { return filepath.Join(d.State, "pvms") }
func (d *Dir) names() string { return filepath.Join(d.State, "names") }

// makePrivate makes dir with mode 0700, or checks that nobody else owns it or
// can write to it.
func makePrivate(dir string) error {
	// As nearly always:
	if st, err := os.Lstat(dir); err == nil && st.Mode() == os.ModeDir|0o700 && owner(st) == os.Geteuid() {
		return nil
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("no place for the state of pVMs: %w; set XDG_STATE_HOME and XDG_RUNTIME_DIR to directories that can be written", err)
	}
	if err := ownDir(dir); err != nil {
		return err
	}
	// An existing directory may be wider open than it should be.
	st, err := os.Stat(dir)
	if err == nil && st.Mode().Perm() != 0o700 {
		err = os.Chmod(dir, 0o700)
	}
	return err
}

// ownDir checks that dir is a directory of ours, and if it is a symbolic link,
// that the link is ours too: in /tmp anybody may have put one there.
func ownDir(dir string) error {
	for _, stat := range []func(string) (os.FileInfo, error){os.Lstat, os.Stat} {
		st, err := stat(dir)
		if err != nil {
			return err
		}
		if uid := owner(st); uid != os.Geteuid() {
			return fmt.Errorf("%s belongs to user %d, not to %d: remove it, or choose another place with XDG_STATE_HOME and XDG_RUNTIME_DIR", dir, uid, os.Geteuid())
		}
		if !st.IsDir() && st.Mode()&os.ModeSymlink == 0 {
			return fmt.Errorf("%s is not a directory", dir)
		}
	}
	return nil
}

func owner(st os.FileInfo) int { return int(st.Sys().(*syscall.Stat_t).Uid) }

// locked runs f while no other command changes entries or names.
func (d *Dir) locked(f func() error) error {
	l, err := os.OpenFile(filepath.Join(d.State, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	defer l.Close() // releases the lock
	for {
		err = unix.Flock(int(l.Fd()), unix.LOCK_EX)
		if err != unix.EINTR {
			break
		}
	}
	if err != nil {
		return fmt.Errorf("lock %s: %w", l.Name(), err)
	}
	return f()
}

// writeAtomic replaces the file at path, so that readers see the old content or
// the new, and a crash leaves one of them.
func writeAtomic(path string, b []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".tmp-*") // mode 0600
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if e := f.Close(); err == nil {
		err = e
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		os.Remove(f.Name())
	}
	return err
}
