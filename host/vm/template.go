package vm

import (
	"errors"
	"fmt"

	"noyau.dev/abi"
	"noyau.dev/host/monitor"
	"noyau.dev/host/process"
	"noyau.dev/host/vm/runner"
)

// Warm implements monitor.Warmer. The process is a shell that has mapped the snapshot.
func (backend) Warm(s *monitor.Spec) (monitor.Warm, error) {
	var head [abi.BootSize]byte
	var boot abi.BootHeader
	if _, err := s.Handles[abi.HandleBoot].ReadAt(head[:], 0); err != nil || !boot.Take(head[:]) || int(boot.Restore) >= len(s.Handles) {
		return nil, fmt.Errorf("vm: a template without a snapshot (%v)", err)
	}
	sh, err := startShell(&process.Spec{Args: []string{"template"}, Env: runner.TemplateEnv(cpuid(), boot.Memory), Memory: s.Memory, CPU: s.CPU, Pids: tasks(s.Pids)},
		process.Allow{SendAnywhere: s.NetOut, Fork: s.Fork}, ready(s.Image), s.Handles[boot.Restore])
	if err != nil {
		return nil, err
	}
	return &warm{sh, len(s.Handles)}, nil
}

// warm is a shell of a template.
type warm struct {
	*shell
	handles int
}

// Begin implements monitor.Warm.
func (w *warm) Begin(s *monitor.Spec) (monitor.Process, error) {
	if len(s.Handles) != w.handles {
		return nil, errors.New("vm: a template of another configuration")
	}
	page, err := newTimingPage(s.Timing)
	if err != nil {
		return nil, err
	}
	o, err := newOrder(s, page, nil, nil)
	if err == nil {
		err = w.run(o)
	}
	if err != nil {
		page.close()
		return nil, fmt.Errorf("vm: a template: %w", err)
	}
	return watched(w.p, page), nil
}

// Discard implements monitor.Warm.
func (w *warm) Discard() { w.drop() }
