package main

import (
	"time"

	"noyau.dev/host/state"
)

// A listing is what becomes, or has become, a pVM's entry in the state directory.
type listing struct {
	meta  state.Meta
	base  string // for a name
	dir   *state.Dir
	entry *state.Entry // nil: it is not listed, or not yet
}

// listedAfter is when a foreground pVM without a name is listed, if it still runs then.
// Listing takes as long as a short program as a whole, and no command comes so early
// that it could miss it.
const listedAfter = 20 * time.Millisecond

// register gives a pVM its name, and lists it if it runs in the background or others know
// the name. A foreground pVM without a name runs even where no state can be kept.
func register(f *runFlags, t *target, args []string) (*listing, error) {
	l := &listing{meta: f.meta(t, args), base: t.base}
	if f.detach || f.name != "" {
		if err := l.enter(); err != nil {
			return nil, err
		}
		f.name = l.entry.Meta.Name
		return l, nil
	}
	l.meta.ID = state.NewID()
	f.name = state.AutoName(l.base, l.meta.ID)
	return l, nil
}

// enter makes the entry.
func (l *listing) enter() (err error) {
	if l.dir, err = state.Open(); err == nil {
		l.entry, err = l.dir.Create(l.meta, l.base)
	}
	return err
}

// discard takes the pVM off the list.
func (l *listing) discard() {
	if l.entry != nil {
		l.dir.Discard(l.entry)
		l.entry = nil
	}
}
