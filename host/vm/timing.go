package vm

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"noyau.dev/host/monitor"
	"noyau.dev/host/process"
	"noyau.dev/host/vm/runner"
)

// A timingPage is the memory through which a runner tells its stages.
type timingPage struct {
	file *os.File
	to   *monitor.Timing
}

func newTimingPage(to *monitor.Timing) (*timingPage, error) {
	if to == nil {
		return nil, nil
	}
	fd, err := unix.MemfdCreate("timing", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("vm: timing page: %w", err)
	}
	f := os.NewFile(uintptr(fd), "timing")
	if err := f.Truncate(runner.TimingSize); err != nil {
		f.Close()
		return nil, fmt.Errorf("vm: timing page: %w", err)
	}
	return &timingPage{f, to}, nil
}

func (p *timingPage) close() {
	if p != nil {
		p.file.Close()
	}
}

// report marks the runner's stages and closes the page.
func (p *timingPage) report() {
	defer p.close()
	var b [runner.TimingSize]byte
	if _, err := p.file.ReadAt(b[:], 0); err != nil {
		return
	}
	var t runner.Timing
	t.Take(b[:])
	p.to.MarkAt("runner's main", t.Begin)
	p.to.MarkAt("machine made", t.Machine)
	p.to.MarkAt("shell got its image", t.Order)
	p.to.MarkAt("image loaded", t.Loaded)
	p.to.MarkAt("sealed: first instruction", t.Sealed)
	p.to.MarkAt("guest ended", t.End)
}

// timed is a process whose stages are wanted.
type timed struct {
	monitor.Host
	page *timingPage
}

// watched is p, for the monitor: with its stages if there is a page.
func watched(p *process.Process, page *timingPage) monitor.Process {
	if page == nil {
		return monitor.HostProcess(p)
	}
	return &timed{monitor.HostProcess(p), page}
}

func (t *timed) Wait() monitor.Status {
	s := t.Host.Wait()
	t.page.report()
	return s
}
