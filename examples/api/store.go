package main

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// A Note is what clients store.
type Note struct {
	ID      string    `json:"id"`
	Title   string    `json:"title"`
	Text    string    `json:"text"`
	Created time.Time `json:"created"`
}

// A Store keeps each note in a file of one directory. Its methods are safe for
// concurrent use: a note is written once and appears complete or not at all.
type Store struct {
	dir string
}

// OpenStore opens the directory, which it makes if need be.
func OpenStore(dir string) (*Store, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	return &Store{dir}, nil
}

// Add stores n under a new id. When it returns, the note survives a crash.
func (s *Store) Add(n Note) (Note, error) {
	n.Created = time.Now().UTC().Round(0)
	n.ID = fmt.Sprintf("%016x-%s", n.Created.UnixNano(), rand.Text()[:8])
	b, err := json.Marshal(n)
	if err != nil {
		return Note{}, err
	}
	tmp, err := os.CreateTemp(s.dir, ".new-*")
	if err != nil {
		return Note{}, err
	}
	defer os.Remove(tmp.Name()) // fails once it was renamed
	_, err = tmp.Write(b)
	if err == nil {
		err = tmp.Sync()
	}
	if e := tmp.Close(); err == nil {
		err = e
	}
	if err == nil {
		err = os.Rename(tmp.Name(), s.file(n.ID))
	}
	if err == nil {
		err = s.syncDir()
	}
	return n, err
}

// Get returns the note id; fs.ErrNotExist means that there is none.
func (s *Store) Get(id string) (Note, error) {
	if !valid(id) {
		return Note{}, fs.ErrNotExist
	}
	b, err := os.ReadFile(s.file(id))
	if err != nil {
		return Note{}, err
	}
	var n Note
	if err := json.Unmarshal(b, &n); err != nil {
		return Note{}, fmt.Errorf("%s: %w", s.file(id), err)
	}
	return n, nil
}

// All returns all notes, oldest first.
func (s *Store) All() ([]Note, error) {
	entries, err := os.ReadDir(s.dir) // sorted by name, which begins with the time
	if err != nil {
		return nil, err
	}
	notes := []Note{}
	for _, e := range entries {
		id, ok := strings.CutSuffix(e.Name(), ".json")
		if !ok {
			continue
		}
		n, err := s.Get(id)
		if os.IsNotExist(err) {
			continue // deleted meanwhile
		}
		if err != nil {
			return nil, err
		}
		notes = append(notes, n)
	}
	return notes, nil
}

// Delete removes the note id; fs.ErrNotExist means that there is none.
func (s *Store) Delete(id string) error {
	if !valid(id) {
		return fs.ErrNotExist
	}
	if err := os.Remove(s.file(id)); err != nil {
		return err
	}
	return s.syncDir()
}

func (s *Store) file(id string) string { return filepath.Join(s.dir, id+".json") }

// valid keeps ids from naming files elsewhere.
func valid(id string) bool {
	return id != "" && strings.Trim(id, "-0123456789abcdefABCDEFGHIJKLMNOPQRSTUVWXYZ") == ""
}

// syncDir makes changes of names durable.
func (s *Store) syncDir() error {
	d, err := os.Open(s.dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
