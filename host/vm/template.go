package vm

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"noyau.dev/abi"
	"noyau.dev/host/monitor"
	"noyau.dev/host/process"
	"noyau.dev/host/vm/runner"
)

// Warm implements monitor.Warmer. The process is a shell of a template.
func (backend) Warm(s *monitor.Spec) (monitor.Warm, error) {
	var head [abi.BootSize]byte
	var boot abi.BootHeader
	if _, err := s.Handles[abi.HandleBoot].ReadAt(head[:], 0); err != nil || !boot.Take(head[:]) || int(boot.Restore) >= len(s.Handles) {
		return nil, fmt.Errorf("vm: a template without a snapshot (%v)", err)
	}
	spec := &process.Spec{Args: []string{"template"}, Env: runner.TemplateEnv(cpuid(), boot.Memory), Memory: s.Memory, CPU: s.CPU, Pids: tasks(s.Pids),
		Allow: process.Allow{SendAnywhere: s.NetOut, Fork: s.Fork}}
	sh, err := startShell(func(pids bool) []byte { return runner.ZygoteTemplate(pids, boot.Memory) }, spec)
	if err != nil {
		return nil, err
	}
	w := &warm{Mailbox: monitor.NewMailbox(sh.mail), p: sh.p}
	fds := []int{fdOf(ready(s.Image)), fdOf(s.Handles[boot.Restore])}
	for n, f := range s.Handles {
		if n != abi.HandleControl { // which is the mailbox
			fds = append(fds, fdOf(f))
		}
	}
	err = unix.Sendmsg(fdOf(sh.mail), runner.ShellImage(), unix.UnixRights(fds...), nil, unix.MSG_NOSIGNAL)
	var said []byte
	if err == nil {
		said, err = w.Ready()
	}
	if err == nil && string(said) != runner.ShellReady {
		err = errors.New(string(said))
	}
	if err != nil {
		w.Discard()
		return nil, fmt.Errorf("vm: a template: %w", err)
	}
	return w, nil
}

// warm is a shell of a template.
type warm struct {
	monitor.Mailbox
	p *process.Process
}

// Begin implements monitor.Warm.
func (w *warm) Begin(s *monitor.Spec, fresh []int) (monitor.Process, error) {
	page, err := newTimingPage(s.Timing)
	if err != nil {
		return nil, err
	}
	numbers, files := s.Fresh(fresh)
	if page != nil {
		numbers, files = append(numbers, runner.OrderTiming), append(files, page.file)
	}
	word := uint32(0)
	if s.Options["stats"] != "" {
		word = runner.OrderStats
	}
	if err := w.Order(word, numbers, files); err != nil {
		page.close()
		return nil, err
	}
	return watched(w.p, page), nil
}

// Discard implements monitor.Warm.
func (w *warm) Discard() {
	w.Close()
	w.p.Kill()
	go w.p.Wait()
}
