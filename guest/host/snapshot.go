package host

import (
	"noyau.dev/abi"
	"noyau.dev/guest/linux"
	"noyau.dev/guest/rt"
)

// Snapshot writes this pVM to the file that the monitor gives, in a family together with the
// others. restored is true when it returns in a pVM that was made of the file.
func Snapshot() (restored bool) {
	r, e := Request(abi.Msg{Op: abi.OpSnapshot})
	if e != 0 || r.FD < 0 {
		return false
	}
	gate := int32(-1)
	if r.more.n == 2 {
		gate = r.more.fd[1]
	}
	c := &control
	c.mu.Lock()
	restored, errno := rt.Snapshot(r.FD, gate)
	if restored {
		interrupt()
		c.mu.Unlock()
		return true
	}
	c.mu.Unlock()
	r.more.close()
	Post(abi.Msg{Op: abi.OpSnapshotted, B: uint64(linux.Errno(errno))})
	return false
}
