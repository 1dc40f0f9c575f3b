package process

import "golang.org/x/sys/unix"

// firstOwn is the lowest number for descriptors of this package's own, above all
// numbers that an image's descriptors get (see Spec.Files), so that placing
// those never overwrites a source.
const firstOwn = maxFiles + 4

// maxFiles is the most that Spec.Files may hold.
const maxFiles = 28

// aboveHandles moves fd to firstOwn or above; it returns fd if that fails.
func aboveHandles(fd int) int {
	if fd >= firstOwn {
		return fd
	}
	n, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, firstOwn)
	if err != nil {
		return fd
	}
	unix.Close(fd)
	return n
}

// A gate is a pipe by which two processes wait for each other. Its ends are
// blocking: what waits is short.
type gate struct{ r, w int }

func pipe() (*gate, error) {
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
		return nil, err
	}
	return &gate{p[0], p[1]}, nil
}

// wait returns false if the other side ended without a signal.
func (g *gate) wait() bool {
	var b [1]byte
	for {
		n, err := unix.Read(g.r, b[:])
		if err != unix.EINTR {
			return n == 1
		}
	}
}

func (g *gate) signal() { unix.Write(g.w, []byte{1}) }

func (g *gate) closeWrite() {
	if g.w >= 0 {
		unix.Close(g.w)
		g.w = -1
	}
}

func (g *gate) close() {
	g.closeWrite()
	unix.Close(g.r)
}

// reap waits for a child that makes no signal when it ends.
func reap(pid int) {
	for {
		_, err := unix.Wait4(pid, nil, unix.WALL, nil)
		if err != unix.EINTR {
			return
		}
	}
}
