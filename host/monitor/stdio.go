package monitor

import (
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// pumpSize is how much of a stream is moved at once. Buffers are shared by all
// pVMs; a stream that waits has none.
const pumpSize = 32 << 10

var pumpBuffers = sync.Pool{New: func() any { b := make([]byte, pumpSize); return &b }}

// pair makes a connected pair of nonblocking unix sockets of one type: ours and
// the guest's.
func pair(typ int, name string) (ours, guests *os.File, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, typ|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", name, err)
	}
	// A file that is nonblocking when it is made joins the network poller, which
	// only ours needs.
	guests = os.NewFile(uintptr(fds[1]), name)
	for _, fd := range fds {
		if err := unix.SetNonblock(fd, true); err != nil {
			unix.Close(fds[0])
			guests.Close()
			return nil, nil, fmt.Errorf("%s: %w", name, err)
		}
	}
	return os.NewFile(uintptr(fds[0]), name), guests, nil
}

// drain copies what the guest writes to sock into w until the guest is gone,
// and closes sock. If w takes no more, the guest sees a broken pipe.
func drain(w io.Writer, sock *os.File) {
	defer sock.Close()
	raw, err := sock.SyscallConn()
	if err != nil {
		return
	}
	for {
		var buf *[]byte
		var n int
		var err error
		werr := raw.Read(func(fd uintptr) bool {
			buf = pumpBuffers.Get().(*[]byte)
			for {
				n, err = unix.Read(int(fd), *buf)
				if err != unix.EINTR {
					break
				}
			}
			if err == unix.EAGAIN {
				pumpBuffers.Put(buf)
				buf = nil
				return false
			}
			return true
		})
		if buf == nil {
			return
		}
		if werr == nil && err == nil && n > 0 && w != nil {
			_, err = w.Write((*buf)[:n])
		}
		pumpBuffers.Put(buf)
		if werr != nil || err != nil || n <= 0 {
			return
		}
	}
}

// feed copies r to the guest's standard input until the end of either, and
// closes sock, which is the end of input for the guest. stop ends it early.
func feed(sock *os.File, r io.Reader, stop *stopper) {
	defer sock.Close()
	src := stop.reader(r)
	if stop.undo != nil {
		defer stop.undo()
	}
	buf := make([]byte, pumpSize)
	for {
		n, err := src.Read(buf)
		if n > 0 {
			if _, err := sock.Write(buf[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// A stopper ends a feed whose pVM has ended, so that it does not swallow input
// that is meant for others.
type stopper struct {
	mu      sync.Mutex
	stopped bool
	wake    []func()
	undo    func() // run at the end of the feed
}

func (s *stopper) stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stopped = true
	for _, f := range s.wake {
		f()
	}
	s.wake = nil
}

func (s *stopper) onStop(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped {
		f()
		return
	}
	s.wake = append(s.wake, f)
}

// reader is r such that stop ends a Read where that is possible: for files.
func (s *stopper) reader(r io.Reader) io.Reader {
	f, ok := r.(*os.File)
	if !ok {
		return r
	}
	if f.SetReadDeadline(time.Time{}) == nil {
		s.onStop(func() { f.SetReadDeadline(time.Unix(1, 0)) })
		s.undo = func() { f.SetReadDeadline(time.Time{}) }
		return f
	}
	// A file that blocks, such as the standard input of most programs: wait for
	// it together with a descriptor of ours.
	efd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return r
	}
	w := &waitingReader{f: f, efd: efd}
	s.onStop(w.stop)
	return w
}

type waitingReader struct {
	f   *os.File
	mu  sync.Mutex
	efd int // -1 when closed
}

func (w *waitingReader) stop() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.efd >= 0 {
		unix.Write(w.efd, []byte{1, 0, 0, 0, 0, 0, 0, 0})
	}
}

func (w *waitingReader) Read(p []byte) (int, error) {
	raw, err := w.f.SyscallConn()
	if err != nil {
		return 0, w.end(err)
	}
	stopped := false
	cerr := raw.Control(func(fd uintptr) {
		fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}, {Fd: int32(w.efd), Events: unix.POLLIN}}
		for {
			_, err = unix.Poll(fds, -1)
			if err != unix.EINTR {
				break
			}
		}
		stopped = fds[1].Revents != 0
	})
	if cerr != nil || err != nil || stopped {
		return 0, w.end(io.EOF)
	}
	n, err := w.f.Read(p)
	if err != nil {
		w.end(nil)
	}
	return n, err
}

// end releases the descriptor; there is no Read after it.
func (w *waitingReader) end(err error) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.efd >= 0 {
		unix.Close(w.efd)
		w.efd = -1
	}
	return err
}
