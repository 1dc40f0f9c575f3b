package runner

import (
	"golang.org/x/sys/unix"

	"noyau.dev/abi"
	"noyau.dev/host/vm/machine"
)

// share maps memory that the monitor has made for a family (OpShare) into the region.
// Only memory files that are sealed against shrinking can be mapped: one that shrinks
// takes pages away under the guest, and under this process.
func (r *Runner) share(c *call) uint64 {
	n := (c.a2 + abi.PageSize - 1) &^ (abi.PageSize - 1)
	if c.a1%abi.PageSize != 0 || c.a6%abi.PageSize != 0 || n == 0 || n < c.a2 || c.a3 != unix.PROT_READ|unix.PROT_WRITE {
		return fail(unix.EINVAL)
	}
	if !r.handles.has(c.a5) {
		return fail(unix.EBADF)
	}
	seals := r.sys(unix.SYS_FCNTL, uintptr(c.a5), unix.F_GET_SEALS, 0, 0, 0, 0)
	if int64(seals) < 0 || seals&unix.F_SEAL_SHRINK == 0 {
		return fail(unix.ENODEV)
	}
	st := &r.forks.stat
	if int64(r.sys(unix.SYS_FSTAT, uintptr(c.a5), ptrOf(st), 0, 0, 0, 0)) < 0 {
		return fail(unix.ENODEV)
	}
	// The end of the last page is there too, as zeros.
	if size := (uint64(st.Size) + abi.PageSize - 1) &^ (abi.PageSize - 1); c.a6 > size || n > size-c.a6 {
		return fail(unix.ENXIO)
	}
	if e := r.m.MapFile(machine.Addr(c.a1), n, int(c.a5), int64(c.a6), true); e != 0 {
		return fail(e)
	}
	return c.a1
}
