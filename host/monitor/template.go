package monitor

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"time"

	"noyau.dev/abi"
	"noyau.dev/host/snapshot"
)

// A Template keeps clones of a snapshot on standby: processes that have restored it up to
// the point where it matters which pVM they are, and wait there. Who starts a pVM with
// Config.Template waits for no launch, no mapping, and few first touches of memory. A
// standby has no ports, volumes or names, and nobody reads what it writes; who it is, its
// random numbers and its clock come when it is taken. Its methods are safe for concurrent use.
type Template struct {
	isolation string
	be        Warmer
	c         Config
	want      int
	image     *os.File // opened here; nil: the caller's
	snap      *snapshot.File
	make      func() (*standby, error) // standby; tests have it fail

	mu     sync.Mutex
	ready  []*standby
	making bool
	closed bool
	failed Backoff // of the last one that was made
	idle   sync.Cond

	writes *workingSet // of pVMs of this snapshot: those that wait have written them
}

// A standby is a process that waits, and what it was given.
type standby struct {
	w         Warm
	l         launch
	rehearsed bool // it was told of the pages that it will write
}

// MaxStandby bounds the standbys of one template.
const MaxStandby = 1024

// NewTemplate keeps n pVMs of the snapshot c.Restore or c.Snapshot on standby, 0 to
// MaxStandby. They serve configurations with the isolation, image, limits, policy for
// datagrams, forks, tick and host certificates of c, and no trace of their own; ports,
// streams, names and volumes can differ. Each that is taken is replaced in the background. If
// one cannot be made, the first start after a pause of a second tries again; the pause doubles
// with each failure, up to a minute. It returns when n are ready. An error means that none is.
func NewTemplate(c Config, n int) (*Template, error) {
	if n < 0 || n > MaxStandby {
		return nil, fmt.Errorf("a template of %d pVMs: want 0 to %d", n, MaxStandby)
	}
	if err := c.complete(); err != nil {
		return nil, err
	}
	name, be, err := backend(c.Isolation, c.Forks > 1, true)
	if err != nil {
		return nil, err
	}
	w, ok := be.(Warmer)
	if !ok || c.Restore == "" && c.Snapshot == nil {
		return nil, errors.New("a template is of a snapshot, under an isolation that can restore")
	}
	c.Template, c.Publish, c.Shared, c.Timing, c.Volumes = nil, nil, nil, nil, nil
	c.Stdin, c.Stdout, c.Stderr, c.TraceTo = nil, nil, nil, nil
	c.warm = true
	t := &Template{isolation: name, be: w, c: c, want: n}
	t.idle.L, t.make = &t.mu, t.standby
	if err := t.open(); err != nil {
		return nil, fmt.Errorf("%s: %w", c.Name, err)
	}
	t.mu.Lock()
	t.refill()
	for t.making {
		t.idle.Wait()
	}
	err = t.failed.Err()
	t.mu.Unlock()
	if err != nil {
		t.Close()
		return nil, err
	}
	return t, nil
}

// open opens and checks what all clones share.
func (t *Template) open() (err error) {
	if t.c.ImageFile == nil {
		if t.image, err = os.Open(t.c.Image); err != nil {
			return fmt.Errorf("image: %w", err)
		}
		t.c.ImageFile = t.image
	}
	if t.c.Snapshot == nil {
		if t.snap, err = snapshot.Open(t.c.Restore); err != nil {
			t.closeFiles()
			return fmt.Errorf("snapshot: %w", err)
		}
		t.c.Snapshot = t.snap
	}
	if f := t.c.Snapshot.Family; f != nil && len(f.Members) > 1 {
		t.closeFiles()
		return fmt.Errorf("a template is of one pVM, and this is the snapshot of a family of %d: restore it, or clone it without a template", len(f.Members))
	}
	if t.writes, err = workingSetOf(t.c.Snapshot, t.isolation); err != nil {
		t.closeFiles()
	}
	return err
}

func (t *Template) closeFiles() {
	if t.image != nil {
		t.image.Close()
	}
	if t.snap != nil {
		t.snap.Close()
	}
}

// Ready is the number of standbys that wait. Those that have died are replaced when one is taken.
func (t *Template) Ready() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.bury()
	return len(t.ready)
}

// bury lets go of those that have died. mu is held.
func (t *Template) bury() {
	t.ready = slices.DeleteFunc(t.ready, func(s *standby) bool {
		if s.w.Alive() {
			return false
		}
		s.discard()
		return true
	})
}

// Close lets go of those that wait. pVMs that were started go on.
func (t *Template) Close() {
	t.mu.Lock()
	t.closed = true
	ready := t.ready
	t.ready = nil
	for t.making {
		t.idle.Wait()
	}
	t.mu.Unlock()
	for _, s := range ready {
		s.discard()
	}
	t.closeFiles()
}

// refill is called with mu held.
func (t *Template) refill() {
	if t.making || t.closed || len(t.ready) >= t.want && t.unrehearsed() < 0 || !t.failed.Over() {
		return
	}
	t.making = true
	go func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		for !t.closed && t.failed.Over() {
			var s *standby
			var err error
			if i := t.unrehearsed(); i >= 0 {
				s = t.ready[i]
				t.ready = slices.Delete(t.ready, i, i+1)
			} else if len(t.ready) >= t.want {
				break
			}
			t.mu.Unlock()
			made := s == nil
			if made {
				s, err = t.make()
			}
			if pages := t.writes.known(); err == nil && pages != nil {
				s.rehearsed = true
				if s.w.Touch(pages) != nil { // it has died: the next one will do
					s.discard()
					s = nil
				}
			}
			t.mu.Lock()
			if made && err == nil {
				t.failed.Worked()
			}
			switch {
			case err != nil:
				t.failed.Failed(err)
			case s == nil:
			case t.closed:
				s.discard()
			default:
				t.ready = append(t.ready, s)
			}
		}
		t.making = false
		t.idle.Broadcast()
	}()
}

// unrehearsed is one that waits and does not know yet what it will write; -1: none. mu is held.
func (t *Template) unrehearsed() int {
	if t.writes.known() == nil {
		return -1
	}
	return slices.IndexFunc(t.ready, func(s *standby) bool { return !s.rehearsed })
}

// standby makes one.
func (t *Template) standby() (*standby, error) {
	s := &standby{}
	c := t.c
	err := s.l.prepare(&c)
	if err == nil {
		s.w, err = t.be.Warm(c.spec(&s.l))
	}
	if err != nil {
		s.l.fail()
		s.l.closeGuests()
		return nil, fmt.Errorf("%s: %w", c.Name, err)
	}
	s.l.handles[abi.HandleBoot].Close()
	return s, nil
}

// discard ends a standby that nobody has taken.
func (s *standby) discard() {
	s.w.Discard()
	s.l.fail()
	s.l.closeGuests()
}

// refillAfter is when one that was taken is replaced: making it must not slow down the
// pVM that begins.
const refillAfter = 5 * time.Millisecond

// take is a standby for c, nil if there is none that fits.
func (t *Template) take(c *Config) *standby {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed || !t.fits(c) {
		return nil
	}
	time.AfterFunc(refillAfter, func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		t.refill()
	})
	for len(t.ready) > 0 {
		s := t.ready[0]
		t.ready = t.ready[1:]
		if s.w.Alive() {
			return s
		}
		s.discard()
	}
	return nil
}

// fits says whether the standbys can become pVMs of c.
func (t *Template) fits(c *Config) bool {
	have := &t.c
	return c.Forks == have.Forks && c.CPU == have.CPU && c.Pids == have.Pids && c.Tick == have.Tick &&
		c.Memory == have.Memory && c.NoHostCerts == have.NoHostCerts && c.netOut() == have.netOut() && !(c.Trace && c.TraceTo != nil)
}

// use makes c a configuration of a pVM of the template.
func (t *Template) use(c *Config) error {
	switch {
	case c.Isolation != "" && c.Isolation != "auto" && c.Isolation != t.isolation:
		return fmt.Errorf("isolation %s: the template is for %s", c.Isolation, t.isolation)
	case c.Restore != "" && c.Restore != t.c.Restore:
		return fmt.Errorf("snapshot %s: the template is of %s", c.Restore, t.c.Restore)
	}
	c.Isolation, c.Restore, c.Snapshot = t.isolation, t.c.Restore, t.c.Snapshot
	c.Image, c.ImageFile = t.c.Image, t.c.ImageFile
	return nil
}

// launch runs the image: in the process that waits if there is one.
func (c *Config) launch(be Backend, l *launch) (Process, error) {
	s := c.spec(l)
	if l.waits == nil {
		return be.Start(s)
	}
	fresh := []int{abi.HandleControl, abi.HandleBoot}
	if l.sameStderr {
		fresh = append(fresh, abi.HandleStderr)
	}
	p, err := l.waits.w.Begin(s, fresh)
	if err == nil {
		return p, nil
	}
	l.waits.w.Discard() // it has died while it waited
	l.waits = nil
	return be.Start(s)
}
