package state

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"sort"
	"strings"
	"time"
)

// isName says whether s can be the name of a pVM. Every command of noyau begins by loading
// this package, so there are no regular expressions here, which are compiled then.
func isName(s string) bool {
	if s == "" || len(s) > 63 || strings.IndexByte("_.-", s[0]) >= 0 {
		return false
	}
	for i := range len(s) {
		if !nameByte(s[i]) {
			return false
		}
	}
	return true
}

func nameByte(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("_.-", c) >= 0
}

// isID says whether s can be an id: 12 hexadecimal digits.
func isID(s string) bool { return len(s) == 12 && strings.Trim(s, "0123456789abcdef") == "" }

// CheckName says whether name can be the name of a pVM.
func CheckName(name string) error {
	if !isName(name) {
		return fmt.Errorf("the name %q is not allowed: up to 63 of a-z A-Z 0-9 _ . - beginning with a letter or digit", name)
	}
	return nil
}

// A NameError says that a name is taken.
type NameError struct {
	Name, ID string
	Phase    Phase
}

func (e *NameError) Error() string {
	todo := "remove it (noyau rm " + e.Name + ") or choose another name"
	if e.Phase == Running || e.Phase == Created {
		todo = "stop and remove it (noyau rm -f " + e.Name + ") or choose another name"
	}
	return fmt.Sprintf("the name %q is in use by pVM %s (%s); %s", e.Name, e.ID, e.Phase, todo)
}

// A NotFoundError says that nothing matches what the user gave.
type NotFoundError struct{ Ref string }

func (e *NotFoundError) Error() string {
	return fmt.Sprintf("no such pVM: %s (noyau ps -a lists all)", e.Ref)
}

// Create makes an entry for a pVM. It chooses Created and Creator of m, ID unless it is
// given, and AutoName if Name is empty; if that is taken, another name and ID. A taken
// name that was given is a *NameError.
func (d *Dir) Create(m Meta, base string) (*Entry, error) {
	list, err := d.CreateAll([]Meta{m}, base)
	if err != nil {
		return nil, err
	}
	return list[0], nil
}

// CreateAll is Create for several pVMs: all of them get an entry, or none.
func (d *Dir) CreateAll(list []Meta, base string) (made []*Entry, err error) {
	for _, m := range list {
		if m.Name == "" {
			continue
		}
		if err := CheckName(m.Name); err != nil {
			return nil, err
		}
	}
	now, self := time.Now(), Self()
	err = d.locked(func() error {
		d.sweep()
		for _, m := range list {
			m.Created, m.Creator = now, self
			e, err := d.create(m, base)
			if err != nil {
				for _, e := range made {
					d.remove(e)
				}
				return err
			}
			made = append(made, e)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return made, nil
}

// create makes one entry. The lock is held.
func (d *Dir) create(m Meta, base string) (*Entry, error) {
	for tries := 0; ; tries++ {
		if m.ID == "" || tries > 0 {
			m.ID = NewID()
		}
		mm := m
		if mm.Name == "" {
			mm.Name = autoName(base, m.ID, tries)
		}
		if err := d.take(mm.Name, m.ID); err != nil {
			var taken *NameError
			if m.Name == "" && errors.As(err, &taken) && tries < 100 {
				continue
			}
			return nil, err
		}
		e, err := d.place(mm)
		if err != nil {
			os.Remove(filepath.Join(d.names(), mm.Name))
		}
		return e, err
	}
}

// place writes the entry beside its place and moves it there when complete.
func (d *Dir) place(m Meta) (*Entry, error) {
	b, err := json.Marshal(m)
	if err != nil {
		return nil, err
	}
	tmp := filepath.Join(d.pvms(), ".new-"+m.ID)
	if err := os.Mkdir(tmp, 0o700); err != nil {
		return nil, err
	}
	err = os.WriteFile(filepath.Join(tmp, "meta.json"), b, 0o600)
	if err == nil {
		err = os.Rename(tmp, filepath.Join(d.pvms(), m.ID))
	}
	if err != nil {
		os.RemoveAll(tmp)
		return nil, err
	}
	return &Entry{Meta: m, Status: Status{Phase: Created}, dir: d}, nil
}

// take links name to id, unless a pVM has the name. A link to nothing is what a
// crash left. The lock is held.
func (d *Dir) take(name, id string) error {
	link := filepath.Join(d.names(), name)
	if owner, err := os.Readlink(link); err == nil {
		if e, err := d.read(owner); err == nil {
			if !(e.Status.Phase == Dead && !e.Meta.keeps()) {
				return &NameError{name, owner, e.Status.Phase}
			}
			d.remove(e)
		} else if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		os.Remove(link)
	}
	return os.Symlink(id, link)
}

// keeps says whether the entry outlives its pVM.
func (m *Meta) keeps() bool { return m.Detached && !m.AutoRemove }

// sweepEvery is how often all entries are read to find those of pVMs that crashed. They do
// no harm until then: nobody lists them, and their names are free.
const sweepEvery = time.Minute

// sweep removes what crashed commands left behind. The lock is held, so nobody
// is in the middle of anything.
func (d *Dir) sweep() {
	due := false
	lock := filepath.Join(d.State, "lock") // its time of modification is that of the last look
	if st, err := os.Stat(lock); err == nil {
		now := time.Now()
		if age := now.Sub(st.ModTime()); age > sweepEvery || age < 0 {
			due = os.Chtimes(lock, now, now) == nil
		}
	}
	names, _ := os.ReadDir(d.pvms())
	for _, n := range names {
		if strings.HasPrefix(n.Name(), ".") {
			os.RemoveAll(filepath.Join(d.pvms(), n.Name()))
			continue
		}
		if !due || !isID(n.Name()) {
			continue
		}
		if e, err := d.read(n.Name()); err == nil && !e.Alive() && !e.Meta.keeps() {
			d.remove(e)
		}
	}
}

// List returns all entries, newest first. Those that are being made or removed
// are left out, and so are damaged ones, which are in the error.
func (d *Dir) List() ([]*Entry, error) {
	names, err := os.ReadDir(d.pvms())
	if err != nil {
		return nil, err
	}
	var all []*Entry
	var errs []error
	for _, n := range names {
		if !isID(n.Name()) {
			continue
		}
		switch e, err := d.read(n.Name()); {
		case err == nil:
			if e.Alive() || e.Meta.keeps() {
				all = append(all, e)
			}
		case !errors.Is(err, fs.ErrNotExist):
			errs = append(errs, err)
		}
	}
	sort.SliceStable(all, func(i, j int) bool { return all[i].Meta.Created.After(all[j].Meta.Created) })
	return all, errors.Join(errs...)
}

// Get returns the entry with this id.
func (d *Dir) Get(id string) (*Entry, error) {
	if !isID(id) {
		return nil, &NotFoundError{id}
	}
	return d.read(id)
}

// Find returns the entry that ref means: a name, an id, or the beginning of one
// id only.
func (d *Dir) Find(ref string) (*Entry, error) {
	if isName(ref) {
		if id, err := os.Readlink(filepath.Join(d.names(), ref)); err == nil && isID(id) {
			if e, err := d.read(id); err == nil || !errors.Is(err, fs.ErrNotExist) {
				return e, err
			}
		}
	}
	all, err := d.List()
	var found []*Entry
	for _, e := range all {
		if ref != "" && strings.HasPrefix(e.Meta.ID, ref) {
			found = append(found, e)
		}
	}
	switch {
	case len(found) == 1:
		return found[0], nil
	case len(found) > 1:
		return nil, fmt.Errorf("%q is the beginning of %d ids; give more digits", ref, len(found))
	case err != nil:
		return nil, err
	}
	return nil, &NotFoundError{ref}
}

// Match returns the entries whose names match a pattern of path.Match, by name.
func (d *Dir) Match(pattern string) ([]*Entry, error) {
	all, err := d.List()
	var found []*Entry
	for _, e := range all {
		ok, perr := path.Match(pattern, e.Meta.Name)
		if perr != nil {
			return nil, fmt.Errorf("%q is not a pattern of names: %w", pattern, perr)
		}
		if ok {
			found = append(found, e)
		}
	}
	sort.Slice(found, func(i, j int) bool { return found[i].Meta.Name < found[j].Meta.Name })
	return found, err
}

// Remove deletes an entry and frees its name. The pVM must have ended.
func (d *Dir) Remove(e *Entry) error {
	return d.locked(func() error {
		if err := e.Refresh(); errors.Is(err, fs.ErrNotExist) {
			return &NotFoundError{e.Meta.Name}
		}
		if e.Alive() {
			return fmt.Errorf("pVM %s is %s: stop it first, or use noyau rm -f", e.Meta.Name, e.Status.Phase)
		}
		return d.remove(e)
	})
}

// Discard is Remove by the pVM's own monitor, which still lives.
func (d *Dir) Discard(e *Entry) error { return d.locked(func() error { return d.remove(e) }) }

func (d *Dir) remove(e *Entry) error {
	link := filepath.Join(d.names(), e.Meta.Name)
	if id, err := os.Readlink(link); err == nil && id == e.Meta.ID {
		os.Remove(link)
	}
	os.Remove(e.SocketPath())
	if e.Status.Socket != "" && filepath.Base(e.Status.Socket) == e.Meta.ID+".sock" {
		os.Remove(e.Status.Socket)
	}
	old := filepath.Join(d.pvms(), ".old-"+e.Meta.ID)
	if err := os.Rename(e.Path(), old); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	}
	return os.RemoveAll(old)
}

// NewID makes an id that no other pVM has.
func NewID() string {
	var b [6]byte
	rand.Read(b[:])
	return hex.EncodeToString(b[:])
}

// AutoName makes a name from what is run and an id: "hello" becomes hello-3f9c.
func AutoName(base, id string) string { return autoName(base, id, 0) }

func autoName(base, id string, tries int) string {
	clean := strings.Map(func(r rune) rune {
		if r < 0x80 && nameByte(byte(r)) {
			return r
		}
		return '-'
	}, base)
	clean = strings.Trim(clean, "-_.")
	if len(clean) > 40 {
		clean = clean[:40]
	}
	if clean == "" {
		clean = "pvm"
	}
	return clean + "-" + id[:min(4+tries/10, len(id))]
}
