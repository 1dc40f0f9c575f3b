package pvm

import (
	"errors"
	"io"
	"os"
	"syscall"
	"unsafe"
)

// Pair returns the two ends of a connection, for bytes in both directions. A fork shares
// both ends: close in each member the one that it does not use, since an end sees the
// end of input when nobody has the other any more.
func Pair() (a, b *os.File, err error) { return pair(syscall.SOCK_STREAM, "pair") }

// Pipe is like os.Pipe, for members of a family: fork shares it.
func Pipe() (r, w *os.File, err error) { return newPair(syscall.SOCK_STREAM, pairPipe, "pipe") }

func pair(typ uintptr, name string) (a, b *os.File, err error) { return newPair(typ, 0, name) }

const pairPipe = 1 // of sysPair: each end is for one direction

func newPair(typ, how uintptr, name string) (a, b *os.File, err error) {
	var fds [2]int32
	if _, _, errno := syscall.Syscall(sysPair, typ, uintptr(unsafe.Pointer(&fds)), how); errno != 0 {
		return nil, nil, fail(name, errno)
	}
	return os.NewFile(uintptr(fds[0]), name), os.NewFile(uintptr(fds[1]), name), nil
}

// MaxMessage is the most bytes of a message of a Queue.
const MaxMessage = 64 << 10

// A Queue carries messages whole and in order between members of a family. Several may
// send and several receive; each message is received once. Send waits while the
// queue is full.
type Queue struct{ in, out *os.File }

// NewQueue makes a Queue for this pVM and those that it forks.
func NewQueue() (*Queue, error) {
	a, b, err := pair(syscall.SOCK_SEQPACKET, "queue")
	if err != nil {
		return nil, err
	}
	return &Queue{a, b}, nil
}

// ErrMessage says that a message is empty, or longer than MaxMessage.
var ErrMessage = errors.New("pvm: a message has 1 to 65536 bytes")

// Send puts a copy of m into the queue.
func (q *Queue) Send(m []byte) error {
	if len(m) == 0 || len(m) > MaxMessage {
		return ErrMessage
	}
	_, err := q.out.Write(m)
	return err
}

// Receive waits for a message and stores it into p, cut to len(p), of which there must be
// some. io.EOF means that no member can send any more.
func (q *Queue) Receive(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, io.ErrShortBuffer
	}
	return q.in.Read(p)
}

// CloseSend and CloseReceive give up one side of the queue in this member.
func (q *Queue) CloseSend() error    { return q.out.Close() }
func (q *Queue) CloseReceive() error { return q.in.Close() }
