package monitor

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"noyau.dev/abi"
)

// A Template keeps processes ready that have restored a snapshot up to the point where it
// matters which pVM they are: who starts one with Config.Template waits for no launch and
// no mapping. Its methods are safe for concurrent use.
type Template struct {
	be   Warmer
	c    Config
	want int

	mu     sync.Mutex
	ready  []Warm
	making bool
	closed bool
	err    error // why the last one could not be made
	idle   sync.Cond
}

// NewTemplate keeps n processes ready for pVMs of the snapshot c.Restore or c.Snapshot. They
// serve configurations with the image, limits, isolation, policy for datagrams, forks and
// trace of c; ports, streams, names and volumes can differ. Each that is taken is replaced in the background. It
// returns when n are ready. An error means that none is.
func NewTemplate(c Config, n int) (*Template, error) {
	if err := c.complete(); err != nil {
		return nil, err
	}
	_, be, err := backend(c.Isolation, c.Forks > 1, true)
	if err != nil {
		return nil, err
	}
	w, ok := be.(Warmer)
	if !ok || c.Restore == "" && c.Snapshot == nil {
		return nil, errors.New("a template is of a snapshot, under an isolation that can restore")
	}
	c.Publish, c.Shared, c.Timing = nil, nil, nil
	c.Stdin, c.Stdout, c.Stderr = nil, nil, nil
	t := &Template{be: w, c: c, want: n}
	t.idle.L = &t.mu
	t.mu.Lock()
	t.refill()
	for t.making {
		t.idle.Wait()
	}
	err = t.err
	t.mu.Unlock()
	if err != nil {
		t.Close()
		return nil, err
	}
	return t, nil
}

// Ready is the number of processes that wait.
func (t *Template) Ready() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.ready)
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
	for _, w := range ready {
		w.Discard()
	}
}

// refill is called with mu held.
func (t *Template) refill() {
	if t.making || t.closed || len(t.ready) >= t.want || t.err != nil {
		return
	}
	t.making = true
	go func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		for !t.closed && len(t.ready) < t.want && t.err == nil {
			t.mu.Unlock()
			w, err := t.warm()
			t.mu.Lock()
			switch {
			case err != nil:
				t.err = err
			case t.closed:
				w.Discard()
			default:
				t.ready = append(t.ready, w)
			}
		}
		t.making = false
		t.idle.Broadcast()
	}()
}

func (t *Template) warm() (Warm, error) {
	var l launch
	c := t.c
	defer l.closeGuests()
	defer l.fail()
	if err := l.prepare(&c); err != nil {
		return nil, fmt.Errorf("%s: %w", c.Name, err)
	}
	return t.be.Warm(c.spec(&l))
}

// refillAfter is when one that was taken is replaced: making it must not slow down the
// pVM that begins.
const refillAfter = 5 * time.Millisecond

// take is one that waits, nil if there is none.
func (t *Template) take() Warm {
	t.mu.Lock()
	defer t.mu.Unlock()
	time.AfterFunc(refillAfter, func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		t.refill()
	})
	if len(t.ready) == 0 {
		return nil
	}
	w := t.ready[0]
	t.ready = t.ready[1:]
	return w
}

// launch runs the image, in a process of the template if there is one that waits.
func (c *Config) launch(be Backend, s *Spec) (Process, error) {
	if c.Template != nil && be == Backend(c.Template.be) {
		for {
			w := c.Template.take()
			if w == nil {
				break
			}
			p, err := w.Begin(s)
			if err == nil {
				return p, nil
			}
			w.Discard() // it has died while it waited, or is for others
		}
	}
	return be.Start(s)
}

// mailbox is a pair of sockets: a process that was started ahead of time waits on its.
func mailbox() (ours, its *os.File, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("mailbox: %w", err)
	}
	return os.NewFile(uintptr(fds[0]), "mailbox"), os.NewFile(uintptr(fds[1]), "mailbox"), nil
}

// Warm implements Warmer. The process waits in its runtime (BootWarm).
func (b processBackend) Warm(s *Spec) (Warm, error) {
	ours, its, err := mailbox()
	if err != nil {
		return nil, err
	}
	defer its.Close()
	block, err := warmBoot(s.Handles[abi.HandleBoot])
	if err != nil {
		ours.Close()
		return nil, err
	}
	defer block.Close()
	warm := *s
	warm.Handles = append([]*os.File(nil), s.Handles...)
	warm.Handles[abi.HandleControl], warm.Handles[abi.HandleBoot] = its, block
	p, err := b.Start(&warm)
	if err != nil {
		ours.Close()
		return nil, err
	}
	return &warmProcess{p: p, mail: ours, handles: len(s.Handles)}, nil
}

// warmBoot is a boot block that makes a process wait.
func warmBoot(block *os.File) (*os.File, error) {
	b := &boot{}
	head := make([]byte, abi.BootSize)
	if _, err := block.ReadAt(head, 0); err != nil || !b.head.Take(head) {
		return nil, fmt.Errorf("boot block: %w", err)
	}
	b.head.Flags |= abi.BootWarm
	return b.seal()
}

// warmProcess is a Warm of isolation=process.
type warmProcess struct {
	p       Process
	mail    *os.File
	handles int
}

// maxWarmHandles is how many handles the runtime takes at once.
const maxWarmHandles = 64

// Begin implements Warm.
func (w *warmProcess) Begin(s *Spec) (Process, error) {
	if len(s.Handles) != w.handles || w.handles > maxWarmHandles {
		return nil, errors.New("a template of another configuration")
	}
	fds := make([]int, len(s.Handles))
	for i, f := range s.Handles {
		fds[i] = int(fdOf(f))
	}
	if err := unix.Sendmsg(int(fdOf(w.mail)), make([]byte, 8), unix.UnixRights(fds...), nil, unix.MSG_NOSIGNAL); err != nil {
		return nil, fmt.Errorf("template: %w", err)
	}
	w.mail.Close()
	return w.p, nil
}

// Discard implements Warm.
func (w *warmProcess) Discard() {
	w.mail.Close()
	w.p.Kill()
	go w.p.Wait()
}
