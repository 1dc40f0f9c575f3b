package state

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// Meta is what a pVM was started as. It does not change.
type Meta struct {
	ID         string    `json:"id"` // 12 hexadecimal digits
	Name       string    `json:"name"`
	Image      string    `json:"image"`   // path of the image file, or what was built
	Package    string    `json:"package"` // import path of the main package
	Base       string    `json:"base"`    // what the app is called: its argv[0]
	Args       []string  `json:"args"`
	Created    time.Time `json:"created"`
	Detached   bool      `json:"detached"`
	AutoRemove bool      `json:"auto_remove"`
	Isolation  string    `json:"isolation"` // as asked for
	Publish    []string  `json:"publish,omitempty"`
	Volumes    []string  `json:"volumes,omitempty"`
	Memory     int64     `json:"memory,omitempty"` // limit in bytes
	// StopTimeout is how long noyau stop waits unless told otherwise.
	StopTimeout time.Duration `json:"stop_timeout,omitempty"`
	Creator     Process       `json:"creator"` // alive until the monitor has written a Status
}

// A Phase is where a pVM is in its life.
type Phase string

// Phases. Only the first three are stored; Dead is concluded.
const (
	Created Phase = "created" // the monitor is starting it
	Running Phase = "running"
	Exited  Phase = "exited"
	Dead    Phase = "dead" // its monitor vanished without a word; so the pVM is gone too
)

// Status is what became of a pVM so far; its monitor writes it.
type Status struct {
	Phase     Phase     `json:"phase"`
	Monitor   Process   `json:"monitor"`
	Socket    string    `json:"socket,omitempty"` // control socket
	PID       int       `json:"pid,omitempty"`    // of the pVM on the host
	Isolation string    `json:"isolation,omitempty"`
	Ports     []string  `json:"ports,omitempty"` // in force: "0.0.0.0:8080->80/tcp"
	Paused    bool      `json:"paused,omitempty"`
	Started   time.Time `json:"started,omitzero"`
	Finished  time.Time `json:"finished,omitzero"`
	ExitCode  int       `json:"exit_code"`
	Error     string    `json:"error,omitempty"`
}

// An Entry is one pVM in the state directory.
type Entry struct {
	Meta   Meta
	Status Status
	dir    *Dir
}

// Path returns the path of a file of the entry; no name means its directory.
func (e *Entry) Path(name ...string) string {
	return filepath.Join(append([]string{e.dir.pvms(), e.Meta.ID}, name...)...)
}

// SocketPath is where the monitor's control socket is to be.
func (e *Entry) SocketPath() string { return filepath.Join(e.dir.Run, e.Meta.ID+".sock") }

// read loads the entry with the given id.
func (d *Dir) read(id string) (*Entry, error) {
	e := &Entry{Meta: Meta{ID: id}, dir: d}
	if err := readJSON(e.Path("meta.json"), &e.Meta); err != nil {
		return nil, err
	}
	e.Meta.ID = id // the directory's name is what counts
	return e, e.Refresh()
}

// Refresh reads the status again and concludes whether the pVM is dead.
func (e *Entry) Refresh() error {
	for range 2 {
		var s Status
		owner := e.Meta.Creator
		switch err := readJSON(e.Path("status.json"), &s); {
		case err == nil:
			owner = s.Monitor
		case errors.Is(err, fs.ErrNotExist):
			if _, err := os.Stat(e.Path()); err != nil {
				return err // the entry was removed
			}
			s.Phase = Created
		default:
			return err
		}
		e.Status = s
		if s.Phase == Exited || owner.Alive() {
			return nil
		}
		// It may have written its last status between our two looks: read
		// once more now that it is known to be gone.
		e.Status.Phase = Dead
	}
	return nil
}

// SetStatus stores s. Only the monitor of the pVM calls it.
func (e *Entry) SetStatus(s Status) error {
	b, err := json.Marshal(s)
	if err != nil {
		return err
	}
	if err := writeAtomic(e.Path("status.json"), b); err != nil {
		return fmt.Errorf("store the status of %s: %w", e.Meta.Name, err)
	}
	e.Status = s
	return nil
}

// Alive reports whether the pVM is starting or running.
func (e *Entry) Alive() bool { return e.Status.Phase == Created || e.Status.Phase == Running }

// WriteSpec stores the monitor's input as JSON. It may hold secrets (the
// environment): the file is the user's own.
func (e *Entry) WriteSpec(v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return writeAtomic(e.Path("spec.json"), b)
}

// ReadSpec reads what WriteSpec stored.
func (e *Entry) ReadSpec(v any) error { return readJSON(e.Path("spec.json"), v) }

func readJSON(path string, v any) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(b, v); err != nil {
		return fmt.Errorf("%s is damaged: %w", path, err)
	}
	return nil
}
