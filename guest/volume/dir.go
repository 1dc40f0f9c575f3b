package volume

import (
	"sync"

	"noyau.dev/abi"
	"noyau.dev/guest/kernel"
	"noyau.dev/guest/linux"
)

// A dir is an open directory.
type dir struct {
	kernel.Base
	*node

	mu     sync.Mutex
	cookie uint64
}

func (d *dir) Stat(st *linux.Stat) linux.Errno { return d.node.Stat(st) }

func (d *dir) Read([]byte) (int, linux.Errno)          { return 0, linux.EISDIR }
func (d *dir) Pread([]byte, int64) (int, linux.Errno)  { return 0, linux.EISDIR }
func (d *dir) Write([]byte) (int, linux.Errno)         { return 0, linux.EBADF }
func (d *dir) Pwrite([]byte, int64) (int, linux.Errno) { return 0, linux.EBADF }

// Getdents passes the host's records on.
func (d *dir) Getdents(p []byte) (int, linux.Errno) {
	d.mu.Lock()
	defer d.mu.Unlock()
	most := min(len(p), abi.MaxPayload)
	r, e := d.ask(abi.Msg{Op: abi.OpReadDir, A: d.cookie, B: uint64(most)})
	if e != 0 {
		return 0, e
	}
	if len(r.Payload) > most {
		return 0, linux.EIO
	}
	d.cookie = r.A
	return copy(p, r.Payload), 0
}

// Lseek moves to a position that Getdents gave (d_off), or to the start.
func (d *dir) Lseek(off int64, whence int) (int64, linux.Errno) {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch whence {
	case linux.SEEK_SET:
	case linux.SEEK_CUR:
		off += int64(d.cookie)
	default:
		return 0, linux.EINVAL
	}
	if off < 0 {
		return 0, linux.EINVAL
	}
	d.cookie = uint64(off)
	return off, 0
}

func (d *dir) Release() {
	d.Closed()
	d.drop()
}
