package kernel

import (
	"noyau.dev/abi"
	"noyau.dev/guest/linux"
)

// A Call answers one system call, on the goroutine of the app that made it. It
// may allocate, lock and park. Args come by value so that they stay in
// registers.
type Call func(a Args) (uintptr, linux.Errno)

// maxCall is the highest number, plus one. Higher ones, and holes, are ENOSYS.
const maxCall = 470

var calls [maxCall]Call

// private are the calls that Linux does not have, from abi.SysPrivate on.
var private [abi.SysPrivates]Call

// Register makes f the answer to call nr. Bricks call it from their Start, or
// package init, functions, or from an OnInit hook; a later registration replaces
// an earlier one.
//
//go:noinline
func Register(nr int, f Call) { *slot(uintptr(nr)) = f }

// Registered returns the answer to call nr, so that a brick can go before it.
func Registered(nr int) Call { return *slot(uintptr(nr)) }

func slot(nr uintptr) *Call {
	if nr >= abi.SysPrivate {
		return &private[nr-abi.SysPrivate]
	}
	return &calls[nr]
}

// Tracer, if not nil, is told of each call when it begins, and then when it
// ends. Set before the app runs.
var Tracer interface {
	Enter(nr uintptr, a Args)
	Exit(nr uintptr, a Args, r uintptr, e linux.Errno)
}

// Syscall is where every system call of the app ends. Results are as the
// kernel's: r1 is ^0 if errno is not 0, r2 is always 0.
func Syscall(nr, a1, a2, a3, a4, a5, a6 uintptr) (r1, r2 uintptr, errno linux.Errno) {
	if nr >= maxCall || calls[nr] == nil {
		if nr-abi.SysPrivate < abi.SysPrivates && *slot(nr) != nil {
			return traced(nr, Args{a1, a2, a3, a4, a5, a6})
		}
		return unknown(nr, Args{a1, a2, a3, a4, a5, a6})
	}
	if Tracer != nil {
		return traced(nr, Args{a1, a2, a3, a4, a5, a6})
	}
	r1, errno = calls[nr](Args{a1, a2, a3, a4, a5, a6})
	if errno != 0 {
		r1 = ^uintptr(0)
	}
	return r1, 0, errno
}

func unknown(nr uintptr, a Args) (uintptr, uintptr, linux.Errno) {
	if Tracer != nil {
		Tracer.Enter(nr, a)
		Tracer.Exit(nr, a, 0, linux.ENOSYS)
	}
	return ^uintptr(0), 0, linux.ENOSYS
}

func traced(nr uintptr, a Args) (uintptr, uintptr, linux.Errno) {
	if Tracer != nil {
		Tracer.Enter(nr, a)
	}
	r, e := (*slot(nr))(a)
	if Tracer != nil {
		Tracer.Exit(nr, a, r, e)
	}
	if e != 0 {
		r = ^uintptr(0)
	}
	return r, 0, e
}
