package ipc

import (
	"sync"

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
	shares.mu.Lock()
	shares.list = append(shares.list, area{p, n})
	shares.mu.Unlock()
	*at = p
	return 0, 0
}

// shares are all pieces of shared memory.
var shares struct {
	mu   sync.Mutex
	list []area
}

type area struct{ p, n uintptr }

func init() { kernel.OnRestore(reshare) }

// reshare runs in a pVM that was restored from a snapshot, where what was shared is
// its own copy: new memory with this content takes its place, and is shared with what this
// pVM forks, which it cannot do before.
func reshare() {
	if rt.Boot().Flags&abi.BootFork == 0 {
		return // nobody to share it with
	}
	for _, a := range shares.list {
		r, e := host.Request(abi.Msg{Op: abi.OpShare, A: uint64(a.n)})
		if e == 0 && r.FD < 0 {
			e = linux.EIO
		}
		if e == 0 {
			e = a.replace(r.FD)
			host.Close(r.FD)
		}
		if e != 0 {
			host.Send(abi.HandleStderr, []byte("noyau: shared memory of a restored pVM cannot be made again\n"), 0)
			rt.Exit(125)
		}
	}
}

// replace puts the memory behind a handle in the place of a. Nobody writes to it between.
func (a area) replace(handle int32) linux.Errno {
	rt.Pin()
	defer rt.Unpin()
	for done := uintptr(0); done < a.n; {
		k, e := rt.HostCall(abi.CallPwrite, uintptr(handle), a.p+done, min(a.n-done, 1<<30), done, 0, 0)
		if e != 0 {
			return linux.Errno(e)
		}
		if k == 0 {
			return linux.EIO
		}
		done += k
	}
	return host.Map(a.p, a.n, true, handle, 0)
}
