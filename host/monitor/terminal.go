package monitor

import (
	"os"

	"golang.org/x/sys/unix"

	"noyau.dev/host/tty"
)

// saveTerminals remembers the settings of the user's terminals and returns what
// restores them.
func saveTerminals(t Terminal) (restore func()) {
	type saved struct {
		f *os.File
		s tty.State
	}
	var all []saved
	for _, f := range []*os.File{t.In, t.Out, t.Err} {
		if f == nil {
			continue
		}
		if s, err := tty.Get(f); err == nil {
			all = append(all, saved{f, s})
		}
	}
	return func() {
		for _, s := range all {
			if now, err := tty.Get(s.f); err == nil && now != s.s {
				s.s.Set(s.f, unix.TCSETS)
			}
		}
	}
}
