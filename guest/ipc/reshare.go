package ipc

import (
	"noyau.dev/abi"
	"noyau.dev/guest/host"
	"noyau.dev/guest/kernel"
	"noyau.dev/guest/linux"
	"noyau.dev/guest/rt"
)

// reshare runs in a pVM that was restored from a snapshot without the other members.
// What was shared is its own copy: new memory with this content takes its place, and is
// shared with what this pVM forks, which it cannot do before. Pairs are made again if this
// pVM has both ends; where it has one, the other is nobody's.
func reshare() {
	family := rt.Boot().Shared != 0
	for _, a := range allAreas() {
		a.closeEventfd() // what stands for it
		if family && a.at != nowhere {
			a.rejoin()
			continue
		}
		a.alone()
		pair := a.end[0] != nil || a.end[1] != nil
		if pair && (a.end[0] == nil || a.end[1] == nil) || rt.Boot().Flags&abi.BootFork == 0 && pair {
			a.hang()
			continue
		}
		if rt.Boot().Flags&abi.BootFork == 0 {
			continue // nobody to share it with
		}
		h, id, at, e := requestArea(a.n, false)
		if e == 0 {
			e = a.replace(h[2])
			host.Close(h[2])
			a.id, a.at = id, at
			rt.Shared(a.p, a.n, at)
		}
		if e == 0 {
			e = a.rewire(h[0], h[1])
		}
		if e != 0 {
			host.Send(abi.HandleStderr, []byte("noyau: shared memory of a restored pVM cannot be made again\n"), 0)
			rt.Exit(125)
		}
	}
}

// hang makes the ends of a pair know that nobody has the other.
func (a *area) hang() {
	for _, c := range a.end {
		if c != nil {
			c.hung.Store(true)
		}
	}
}

// rewire gives an area another connection.
func (a *area) rewire(x, y int32) linux.Errno {
	for i, h := range [2]int32{x, y} {
		if e := a.rewireEnd(i, h); e != 0 {
			return e
		}
	}
	return 0
}

// rewireEnd gives one end of an area another handle.
func (a *area) rewireEnd(i int, h int32) linux.Errno {
	rt.Unwatch(a.handle[i])
	host.Close(a.handle[i])
	a.handle[i] = h
	src := &a.src
	if c := a.end[i]; c != nil {
		src = &c.src
		rt.ForgetWord(&c.inWord)
		rt.ForgetWord(&c.outWord)
		c.inWord.Handle, c.outWord.Handle = h, h
		c.hung.Store(false)
	} else if i == 0 {
		return 0 // the ringing end of memory is not watched
	}
	if e := rt.Watch(h, src); e != 0 {
		return linux.Errno(e)
	}
	if c := a.end[i]; c != nil {
		c.tell(rt.In | rt.Out)
	}
	return 0
}

// rejoin gives the ends of an area of a restored family their places in its connection again.
func (a *area) rejoin() {
	for i, old := range a.handle {
		if old < 0 {
			continue
		}
		r, e := host.Request(abi.Msg{Op: abi.OpRejoin, A: uint64(old)})
		if e == 0 && r.FD >= 0 {
			e = a.rewireEnd(i, r.FD)
		}
		if c := a.end[i]; e != 0 && c != nil {
			c.hung.Store(true)
		}
	}
}

// ding has all who may wait for what is in an area look again, here and in other members: what
// was rung while a restored pVM had no connection is lost.
func (a *area) ding() {
	pair := a.end[0] != nil || a.end[1] != nil
	for i, h := range a.handle {
		if h < 0 {
			continue
		}
		switch {
		case pair:
			a.heads().ends[1-i].rung.Add(1)
		case i == 0:
			a.share().rung.rung.Add(1)
		default:
			continue // nobody rings by that one
		}
		host.Send(h, ding[:], 0)
		if c := a.end[i]; c != nil {
			c.tell(rt.In | rt.Out)
		}
	}
}

// keepAll is keep for areas.
func keepAll() {
	for _, a := range allAreas() {
		for i, h := range a.handle {
			if h >= 0 {
				host.RequestWith(abi.Msg{Op: abi.OpKeep, A: uint64(h), B: a.id, C: uint64(i)}, h)
			}
		}
	}
}

func thawAll() {
	for _, a := range allAreas() {
		if kernel.Restored() {
			a.ding()
		} else {
			a.tell() // the other end may have gone meanwhile: see End.gone
		}
	}
}

// replace puts the memory behind a handle in the place of a. Nobody writes to it between.
func (a *area) replace(handle int32) linux.Errno {
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
