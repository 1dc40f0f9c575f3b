package monitor

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"noyau.dev/abi"
	"noyau.dev/host/broker"
)

// prepareStandby is prepare in two halves: with c.warm what does not depend on who the pVM
// will be, and for a launch that has that already, the rest.
func (l *launch) prepareStandby(c *Config) error {
	if c.warm {
		l.image, l.snapshot = c.ImageFile, c.Snapshot
		if err := l.snapshot.CheckImage(l.image); err != nil {
			return err
		}
		l.boot = newBoot(c)
		known := len(l.boot.records)
		if err := l.streams(c); err != nil {
			return err
		}
		if err := l.giveControl(); err != nil {
			return err
		}
		if err := l.extras(c, l.boot); err != nil {
			return err
		}
		l.records = l.boot.records[known:]
		if err := l.sealBoot(); err != nil {
			return err
		}
		return l.poller()
	}
	var err error
	if l.ports, err = broker.OpenPorts(c.Publish); err != nil {
		return err
	}
	if err := l.ports.Join(c.Shared); err != nil {
		return err
	}
	was := l.boot.head
	l.boot = newBoot(c)
	if err := l.openVolumes(c, l.boot); err != nil {
		return err
	}
	if err := l.reopen(c.Reopen); err != nil {
		return err
	}
	if c.Stderr != nil && same(c.Stdout, c.Stderr) {
		dup, err := l.stdoutAgain()
		if err != nil {
			return err
		}
		l.handles[abi.HandleStderr].Close()
		l.handles[abi.HandleStderr] = dup
		l.stderr.Close()
		l.stderr, l.sameStderr = nil, true
	}
	l.boot.records = append(l.boot.records, l.records...)
	l.boot.head.Restore, l.boot.head.Memory = was.Restore, was.Memory
	return l.sealBoot()
}

// A Mailbox is where a standby waits for the messages of abi.WarmTouch.
type Mailbox struct{ f *os.File }

// NewMailbox is one of our end of MailboxPair.
func NewMailbox(f *os.File) Mailbox { return Mailbox{f} }

// MailboxPair makes both ends of a mailbox, blocking SOCK_SEQPACKET sockets. Who does not
// answer must not hang us, so ours has a time to receive.
func MailboxPair() (ours, its *os.File, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("mailbox: %w", err)
	}
	unix.SetsockoptTimeval(fds[0], unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 10})
	return os.NewFile(uintptr(fds[0]), "mailbox"), os.NewFile(uintptr(fds[1]), "mailbox"), nil
}

// Ready waits for the word of a standby that it waits, and returns it.
func (m Mailbox) Ready() ([]byte, error) {
	b := make([]byte, 512)
	n, _, err := unix.Recvfrom(int(fdOf(m.f)), b, 0)
	for err == unix.EINTR {
		n, _, err = unix.Recvfrom(int(fdOf(m.f)), b, 0)
	}
	if err == nil && n == 0 {
		err = errors.New("it has ended")
	}
	if err != nil {
		return nil, fmt.Errorf("a standby is not ready: %w", err)
	}
	return b[:n], nil
}

// Alive says whether somebody has the other end.
func (m Mailbox) Alive() bool {
	p := []unix.PollFd{{Fd: int32(fdOf(m.f))}}
	n, err := unix.Poll(p, 0)
	for err == unix.EINTR { // even a poll that does not wait, by the Go runtime's own signals
		n, err = unix.Poll(p, 0)
	}
	return n == 0 && err == nil
}

// Touch is Warm's.
func (m Mailbox) Touch(pages []uint64) error {
	const most = (abi.WarmMax - abi.WarmHead) / 8
	runs := runsOf(pages)
	for len(runs) > 0 {
		n := min(len(runs), most)
		b := warmMessage(abi.WarmTouch, 0, runs[:n])
		if err := unix.Sendmsg(int(fdOf(m.f)), b, nil, nil, unix.MSG_NOSIGNAL); err != nil {
			return fmt.Errorf("template: %w", err)
		}
		if _, err := m.Ready(); err != nil {
			return err
		}
		runs = runs[n:]
	}
	return nil
}

// Order sends the order that makes a pVM of the standby, and closes the mailbox. word is for
// the host of the guest, see package abi.
func (m Mailbox) Order(word uint32, numbers []uint64, files []*os.File) error {
	fds := make([]int, len(files))
	for i, f := range files {
		fds[i] = int(fdOf(f))
	}
	if err := unix.Sendmsg(int(fdOf(m.f)), warmMessage(abi.WarmOrder, word, numbers), unix.UnixRights(fds...), nil, unix.MSG_NOSIGNAL); err != nil {
		return fmt.Errorf("template: %w", err)
	}
	return m.Close()
}

// Close closes our end. A standby that still waits ends.
func (m Mailbox) Close() error { return m.f.Close() }

func warmMessage(kind, word uint32, list []uint64) []byte {
	b := abi.Append64(abi.Append32(abi.Append32(nil, kind), word), uint64(len(list)))
	for _, v := range list {
		b = abi.Append64(b, v)
	}
	return b
}

// runsOf makes runs of pages, see abi.WarmTouch, of ascending addresses.
func runsOf(pages []uint64) (runs []uint64) {
	for i := 0; i < len(pages); {
		n := 1
		for i+n < len(pages) && n < abi.PageSize && pages[i+n] == pages[i]+uint64(n)*abi.PageSize {
			n++
		}
		runs = append(runs, pages[i]|uint64(n-1))
		i += n
	}
	return runs
}

// Fresh are the handles of s with these numbers, for an order.
func (s *Spec) Fresh(numbers []int) (list []uint64, files []*os.File) {
	for _, n := range numbers {
		list, files = append(list, uint64(n)), append(files, s.Handles[n])
	}
	return list, files
}

// Warm implements Warmer. The process waits in its runtime (BootWarm).
func (b processBackend) Warm(s *Spec) (Warm, error) {
	ours, its, err := MailboxPair()
	if err != nil {
		return nil, err
	}
	defer its.Close()
	mail := NewMailbox(ours)
	warm := *s
	warm.Handles = append([]*os.File(nil), s.Handles...)
	warm.Handles[abi.HandleControl] = its
	p, err := b.Start(&warm)
	if err != nil {
		mail.Close()
		return nil, err
	}
	w := &warmProcess{mail, p}
	its.Close() // that it ends if the process does
	if _, err := mail.Ready(); err != nil {
		w.Discard()
		return nil, err
	}
	return w, nil
}

// warmProcess is a Warm of isolation=process.
type warmProcess struct {
	Mailbox
	p Process
}

// Begin implements Warm.
func (w *warmProcess) Begin(s *Spec, fresh []int) (Process, error) {
	numbers, files := s.Fresh(fresh)
	if err := w.Order(0, numbers, files); err != nil {
		return nil, err
	}
	return w.p, nil
}

// Discard implements Warm.
func (w *warmProcess) Discard() {
	w.Close()
	w.p.Kill()
	go w.p.Wait()
}
