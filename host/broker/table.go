package broker

import (
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"noyau.dev/host/volume"
)

// A kind is what a handle stands for. Every operation names the kinds that it
// takes, so that no handle can be used as another.
type kind uint8

const (
	kindFile     kind = 1 << iota // volume file or directory
	kindListener                  // published TCP port
	kindConn                      // connected socket, TCP or UDP
	kindUDP                       // unconnected UDP socket
	kindName                      // channel to the name service
)

// A handle is an entry of the table. It lives until the last reference is put
// back: a descriptor is never closed, and its number never reused, while a
// request still works with it.
type handle struct {
	id   uint32
	kind kind
	refs atomic.Int32

	file *volume.File // kindFile
	fd   int          // the other kinds; the handle's own, or -1
	port *port        // kindListener, and kindUDP on a published port
	end  func()       // called when the handle goes, may be nil
}

func (h *handle) put() {
	if h.refs.Add(-1) != 0 {
		return
	}
	if h.file != nil {
		h.file.Close()
		pokeLocks()
	}
	if h.fd >= 0 {
		unix.Close(h.fd)
	}
	if h.end != nil {
		h.end()
	}
}

// A table is the handles of one pVM.
type table struct {
	mu     sync.Mutex
	m      map[uint32]*handle
	next   uint32
	max    int
	closed bool
	before map[uint32]bool // of a snapshot, and the restored guest has not asked for them
}

// add enters h and returns with a reference for the caller besides the table's.
// If the table is full or closed, h is released.
func (t *table) add(h *handle) error {
	h.refs.Store(2)
	t.mu.Lock()
	if t.closed || len(t.m) >= t.max {
		t.mu.Unlock()
		h.refs.Store(1)
		h.put()
		return unix.EMFILE
	}
	if t.m == nil {
		t.m = make(map[uint32]*handle)
		t.next = firstHandle
	}
	for t.m[t.next] != nil || t.next < firstHandle {
		t.next++
	}
	h.id = t.next
	t.next++
	t.m[h.id] = h
	t.mu.Unlock()
	return nil
}

// firstHandle keeps names of handles apart from the numbers of the first
// descriptors, so that a mix-up in a guest shows.
const firstHandle = 64

// get returns the handle of that name with a reference, EBADF if there is none
// and EINVAL if it is of another kind.
func (t *table) get(id uint32, kinds kind) (*handle, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	h := t.m[id]
	if h == nil {
		return nil, unix.EBADF
	}
	if h.kind&kinds == 0 {
		return nil, unix.EINVAL
	}
	h.refs.Add(1)
	return h, nil
}

func (t *table) drop(id uint32) {
	t.mu.Lock()
	h := t.m[id]
	delete(t.m, id)
	delete(t.before, id)
	t.mu.Unlock()
	if h != nil {
		h.put()
	}
}

func (t *table) closeAll() {
	t.mu.Lock()
	m := t.m
	t.m, t.closed = nil, true
	t.mu.Unlock()
	for _, h := range m {
		h.put()
	}
}

func (t *table) full() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.m) >= t.max
}

func (t *table) len() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.m)
}
