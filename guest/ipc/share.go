package ipc

import (
	"noyau.dev/abi"
	"noyau.dev/guest/host"
	"noyau.dev/guest/kernel"
	"noyau.dev/guest/linux"
	"noyau.dev/guest/rt"
)

func init() { kernel.Register(abi.SysShare, share) }

// share is share(bytes, *address): memory that is the same in this pVM and in all that
// it forks from now on. It is never given back.
func share(a kernel.Args) (uintptr, linux.Errno) {
	at, e := kernel.Ptr[uintptr](a.A2)
	if e != 0 {
		return 0, e
	}
	if rt.Boot().Flags&abi.BootFork == 0 {
		return 0, linux.EPERM
	}
	if a.A1 == 0 || a.A1 > 1<<32 {
		return 0, linux.EINVAL
	}
	n := (a.A1 + abi.PageSize - 1) &^ (abi.PageSize - 1)
	r, e := host.Request(abi.Msg{Op: abi.OpShare, A: uint64(n)})
	if e != 0 {
		return 0, e
	}
	if r.FD < 0 {
		return 0, linux.EIO
	}
	defer host.Close(r.FD)
	p := rt.Pages(n)
	if p == 0 {
		return 0, linux.ENOMEM
	}
	if e := host.Map(p, n, true, r.FD, 0); e != 0 {
		rt.FreePages(p, n)
		return 0, e
	}
	*at = p
	return 0, 0
}
