package broker

import (
	"context"
	"errors"
	"sync"

	"golang.org/x/sys/unix"

	"noyau.dev/abi"
	"noyau.dev/host/volume"
)

// maxWaitPayload bounds what is copied for a request that is answered later:
// two addresses or a termios.
const maxWaitPayload = 128

// errLater is returned by a quick handler whose request has to wait after all.
var errLater = errors.New("answered later")

// errNoReply is returned by handlers of messages that have no reply.
var errNoReply = errors.New("no reply")

// A request is one message of the guest under way.
type request struct {
	b       *Broker
	msg     abi.Msg
	payload []byte
	fd      int   // descriptor that came beside the message, or -1; owned
	exec    *Exec // of OpExecStart; owned
	// For requests that wait only: ctx ends when the pVM does or the guest
	// gives the request up.
	ctx     context.Context
	stop    context.CancelFunc
	telling bool // see told
}

// told holds off a snapshot until the request was answered: what is done from here on the guest
// hears of before. It must not take long.
func (r *request) told() {
	if r.ctx != nil && !r.telling {
		r.telling = true
		r.b.snap.replies.RLock()
	}
}

func (r *request) heard() {
	if r.telling {
		r.telling = false
		r.b.snap.replies.RUnlock()
	}
}

// A reply is the good answer to a request. handle, if set, is given to the
// guest; the reply holds a reference to it until it was sent.
type reply struct {
	a, b, c, d uint64
	payload    []byte
	handle     *handle
	give       int    // descriptor to send; with handle
	free       func() // called after payload was sent
	gives      []int  // descriptors to send, without a handle
}

func (r *request) closeFD() {
	if r.fd >= 0 {
		unix.Close(r.fd)
		r.fd = -1
	}
}

// finish sends the answer and releases what the request held.
func (r *request) finish(rep reply, err error) {
	r.closeFD()
	if r.exec != nil {
		r.exec.Close()
	}
	if r.ctx != nil { // answered later
		r.told()
		defer r.heard()
	}
	if err != errNoReply && r.msg.ID != 0 {
		m := abi.Msg{ID: r.msg.ID, Op: r.msg.Op}
		var fds []int
		if err != nil {
			m.Errno = errno(err)
			rep.payload = nil
		} else {
			fds = rep.gives
			m.A, m.B, m.C, m.D = rep.a, rep.b, rep.c, rep.d
			if rep.handle != nil {
				m.Handle, fds = rep.handle.id, []int{rep.give}
			}
		}
		if r.b.send(&m, rep.payload, fds...) != nil && rep.handle != nil {
			// The guest will never hear of the handle.
			r.b.table.drop(m.Handle)
		}
	}
	if rep.handle != nil {
		rep.handle.put()
	}
	if rep.free != nil {
		rep.free()
	}
}

func errno(err error) int32 {
	var e unix.Errno
	if errors.As(err, &e) && e > 0 && e < 4096 {
		return int32(e)
	}
	return int32(unix.EIO)
}

// root is the volume that field A names.
func (r *request) root() (*volume.Root, error) {
	if r.msg.A >= uint64(len(r.b.c.Roots)) || r.b.c.Roots[r.msg.A] == nil {
		return nil, unix.ENODEV
	}
	return r.b.c.Roots[r.msg.A], nil
}

// paths takes exactly n strings from the payload.
func (r *request) paths(n int) ([2]string, error) {
	var s [2]string
	rest, ok := r.payload, true
	for i := range n {
		if s[i], rest, ok = abi.TakeString(rest); !ok {
			return s, unix.EINVAL
		}
	}
	if len(rest) != 0 {
		return s, unix.EINVAL
	}
	return s, nil
}

// rootPath takes the volume and the only string of the payload.
func (r *request) rootPath() (*volume.Root, string, error) {
	root, err := r.root()
	if err != nil {
		return nil, "", err
	}
	s, err := r.paths(1)
	return root, s[0], err
}

// byHandle says whether a request that may name a file either way has a handle.
func (r *request) byHandle() bool { return r.msg.Handle != 0 && len(r.payload) == 0 }

// small narrows a field that must fit 32 bits.
func small(v uint64) (uint32, error) {
	if v > 1<<32-1 {
		return 0, unix.EINVAL
	}
	return uint32(v), nil
}

// inflight knows the requests that wait, by the guest's id, to cancel them.
type inflight struct {
	mu sync.Mutex
	m  map[uint32]*request
}

func (f *inflight) add(r *request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.m == nil {
		f.m = make(map[uint32]*request)
	}
	f.m[r.msg.ID] = r
}

// remove forgets r; a later request of the same id stays.
func (f *inflight) remove(r *request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.m[r.msg.ID] == r {
		delete(f.m, r.msg.ID)
	}
}

func (f *inflight) cancel(id uint32) {
	f.mu.Lock()
	r := f.m[id]
	f.mu.Unlock()
	if r != nil {
		r.stop()
	}
}
