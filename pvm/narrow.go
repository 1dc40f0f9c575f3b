package pvm

import (
	"os"
	"syscall"
)

// Rights are what a pVM may ask of its monitor and can give up. Who has not got one any
// more never gets it back, and neither do those that it forks or starts. The monitor
// holds it, so it binds a program whatever happens to it. What is open stays open: close
// first what is not wanted, and mind that a fork has all that its parent has open.
type Rights uint32

const (
	Net     Rights = 1 << iota // connections to the outside, datagrams, name look-ups
	Listen                     // published ports: a listener is then one inside only
	Volumes                    // everything on volumes
	Write                      // changes on volumes: they are read-only
	Forking                    // Fork, NewQueue, Pipe, Pair, Share
	Exec                       // os/exec
	Names                      // unix sockets of other members of the family, channels to other families
	Signals                    // signals to others than those that it has forked or started
)

// Narrow gives up rights.
func Narrow(r Rights) error { return narrow(r, 0) }

// NarrowChild takes rights from a descendant and from all that descend from it.
func NarrowChild(pid int, r Rights) error {
	if pid <= 0 {
		return os.NewSyscallError("narrow", syscall.ESRCH)
	}
	return narrow(r, pid)
}

func narrow(r Rights, pid int) error {
	if _, _, errno := syscall.Syscall(sysNarrow, uintptr(r), uintptr(pid), 0); errno != 0 {
		return fail("narrow", errno)
	}
	return nil
}

// ForkWithout is Fork of a child that has not the rights r from its first instruction on.
func ForkWithout(r Rights) (pid int, err error) {
	n, _, errno := syscall.Syscall(sysFork, uintptr(r), 0, 0)
	if errno != 0 {
		return -1, fail("fork", errno)
	}
	return int(n), nil
}
