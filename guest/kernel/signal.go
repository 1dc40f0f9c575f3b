package kernel

import (
	"noyau.dev/abi"
	"noyau.dev/guest/host"
	"noyau.dev/guest/linux"
	"noyau.dev/guest/rt"
)

// Deliver gives sig to the app as the kernel and Go's runtime together would:
// to os/signal if the app asked for it, else the default of a Go program. Job
// control does not exist here: SIGSTOP and its kin do nothing.
func Deliver(sig uint32) {
	if sig == linux.SIGKILL {
		Killed(sig)
	}
	if f := SignalTap; f != nil && f(sig) {
		return
	}
	if sig == 0 || sig > linux.NSIG || rt.SendSignal(sig) || rt.SignalIgnored(sig) {
		return
	}
	switch sig {
	case linux.SIGHUP, linux.SIGINT, linux.SIGTERM:
		Killed(sig)
	case linux.SIGQUIT, linux.SIGILL, linux.SIGTRAP, linux.SIGABRT, linux.SIGBUS, linux.SIGFPE,
		linux.SIGSEGV, linux.SIGSTKFLT, linux.SIGSYS:
		rt.Dump()
		Exit(2)
	}
}

// DeliverSoon is Deliver for goroutines that must not wait, such as that which receives.
func DeliverSoon(sig uint32) {
	if SignalTap == nil && sig != 0 && sig <= linux.NSIG && sig != linux.SIGKILL && rt.SendSignal(sig) {
		return
	}
	rt.Spawn(func() { Deliver(sig) })
}

// SignalTap, if set, sees each signal before the app does and reports whether it
// has taken it (signalfd).
var SignalTap func(sig uint32) bool

// Killed ends the pVM as if by sig.
func Killed(sig uint32) {
	host.Post(abi.Msg{Op: abi.OpKilled, A: uint64(sig)})
	Exit(128 + int32(sig))
}

// OnExit registers f to run before the pVM ends by exit_group: what must reach
// the host, like the content of writable maps. It must not take long.
func OnExit(f func()) { exits = append(exits, f) }

var exits []func()

// Exit ends the pVM.
func Exit(code int32) {
	for _, f := range exits {
		f()
	}
	rt.Exit(code)
}

// OnUnlink, if set, is called with an EvUnlink, on the goroutine that receives.
var OnUnlink func(m abi.Msg)

// event handles what the monitor sends of its own accord. What may send has a goroutine
// of its own, as sending may need this one.
func event(m abi.Msg, _ []byte) {
	switch m.Op {
	case abi.EvOrphan:
		rt.Boot().PPID = uint32(m.A)
	case abi.EvSignal:
		if m.A <= linux.NSIG {
			DeliverSoon(uint32(m.A))
		}
	case abi.EvUnlink:
		if f := OnUnlink; f != nil {
			f(m)
		}
	case abi.EvFork:
		rt.Spawn(func() { Fork(true, 0) })
	case abi.EvGiveBack:
		rt.Spawn(host.GiveBack)
	case abi.EvSnapshot:
		rt.Spawn(snapshot)
	case abi.EvWinsize:
		winsize.Store(uint32(m.A)<<16 | uint32(m.B)&0xffff)
		DeliverSoon(linux.SIGWINCH)
	}
}
