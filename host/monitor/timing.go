package monitor

import (
	"os"
	"slices"
	"sync"

	"golang.org/x/sys/unix"
)

// A Stage is a point on the way of a pVM from the command to its end.
type Stage struct {
	Name string
	At   int64 // ns of CLOCK_MONOTONIC
}

// Timing collects stages. A nil Timing collects nothing.
type Timing struct {
	mu     sync.Mutex
	stages []Stage
}

// Mark notes that the stage called name is done now.
func (t *Timing) Mark(name string) {
	if t != nil {
		t.MarkAt(name, Monotonic())
	}
}

// MarkAt notes that a stage was done at a time of CLOCK_MONOTONIC. 0 is ignored.
func (t *Timing) MarkAt(name string, ns int64) {
	if t == nil || ns == 0 {
		return
	}
	t.mu.Lock()
	t.stages = append(t.stages, Stage{name, ns})
	t.mu.Unlock()
}

// markData waits for data on f, or its end, and marks data.
func (t *Timing) markData(name string, f *os.File) {
	if t == nil {
		return
	}
	p := []unix.PollFd{{Fd: int32(fdOf(f)), Events: unix.POLLIN}}
	for {
		n, err := unix.Poll(p, -1)
		if n == 1 && p[0].Revents&unix.POLLIN != 0 {
			t.Mark(name)
		}
		if err != unix.EINTR {
			return
		}
	}
}

// Stages returns what was collected, by time.
func (t *Timing) Stages() []Stage {
	if t == nil {
		return nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	list := slices.Clone(t.stages)
	slices.SortStableFunc(list, func(a, b Stage) int { return int(a.At - b.At) })
	return list
}

// Monotonic is the time of CLOCK_MONOTONIC, ns.
func Monotonic() int64 {
	var ts unix.Timespec
	unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts)
	return ts.Nano()
}
