package process

import (
	"fmt"
	"sync"

	"golang.org/x/sys/unix"
)

// A window is a run of descriptor numbers of this process in which a launch finds all
// that it uses. A launch so needs no copy of the whole table, which with a thousand images
// has ten thousand descriptors: the child shares the table, and its first step is a
// copy of what lies below the window's end.
//
// What a jail has lies in the window's first numbers, for good. Those of one launch
// are there as long as it lasts, one launch at a time. In all others stands a
// descriptor that is of no use.
type window struct {
	base   int
	filler int

	kept int // numbers that a jail uses
	mu   sync.Mutex
}

// windowSize is enough for a jail and a launch: its files, image and control groups.
const windowSize = maxFiles + 24

// newWindow claims the numbers, as low as they are free.
func newWindow(filler int) (*window, error) {
	for base := firstOwn; ; {
		next, err := claim(filler, base)
		if err != nil {
			return nil, fmt.Errorf("process: %d descriptors in a row: %w; raise the limit of open files", windowSize, err)
		}
		if next == base {
			return &window{base: base, filler: filler}, nil
		}
		base = next
	}
}

// claim puts filler into all numbers from base on, or into none; then it returns where
// to try next.
func claim(filler, base int) (next int, err error) {
	for i := range windowSize {
		fd, err := unix.FcntlInt(uintptr(filler), unix.F_DUPFD_CLOEXEC, base+i)
		if err == nil && fd == base+i {
			continue
		}
		if err == nil {
			unix.Close(fd)
		}
		for k := range i {
			unix.Close(base + k)
		}
		return fd + 1, err
	}
	return base, nil
}

// end is above the numbers of the window.
func (w *window) end() int { return w.base + windowSize }

// keep moves a descriptor into the window, for good.
func (w *window) keep(fd int) (int, error) {
	n := w.base + w.kept
	if err := unix.Dup3(fd, n, unix.O_CLOEXEC); err != nil {
		return -1, fmt.Errorf("process: move descriptor %d to %d: %w", fd, n, err)
	}
	unix.Close(fd)
	w.kept++
	return n, nil
}

// place puts the sources of a launch into the window and returns their numbers there.
// It waits for the launch before; done lets the next one in.
func (w *window) place(from *sources) (src *sources, done func(), err error) {
	w.mu.Lock()
	next := w.base + w.kept
	done = func() {
		for n := w.base + w.kept; n < next; n++ {
			unix.Dup3(w.filler, n, unix.O_CLOEXEC)
		}
		w.mu.Unlock()
	}
	put := func(fd int) int {
		if fd < 0 || err != nil {
			return -1
		}
		if next == w.end() {
			err = fmt.Errorf("process: more than %d descriptors for one image", windowSize-w.kept)
			return -1
		}
		if e := unix.Dup3(fd, next, unix.O_CLOEXEC); e != nil {
			err = fmt.Errorf("process: descriptor %d for the image: %w", fd, e)
			return -1
		}
		next++
		return next - 1
	}
	src = &sources{image: put(from.image), cgroup: put(from.cgroup)}
	for _, fd := range from.files {
		src.files = append(src.files, put(fd))
	}
	for _, fd := range from.procs {
		src.procs = append(src.procs, put(fd))
	}
	if err != nil {
		done()
		return nil, nil, err
	}
	return src, done, nil
}

// close gives all numbers back.
func (w *window) close() { unix.CloseRange(uint(w.base), uint(w.end()-1), 0) }
