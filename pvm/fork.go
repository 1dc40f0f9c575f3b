package pvm

import (
	"os"
	"syscall"
)

// Fork copies the running pVM. It returns twice: in the parent with the child's process
// id, in the child with 0.
//
// The child is a full copy, goroutines included: they go on in both. Memory is shared
// until one of the two writes to it. The child has its parent's files, listeners (both
// accept connections from the same queue), standard streams and what Pipe, Queue and
// Share made. Open connections are the parent's: in the child they fail with
// ECONNRESET. Process id, host name and random generators are fresh.
//
// EAGAIN means that the family has as many members as it may have, EPERM that the pVM
// may not fork (see noyau run --fork).
func Fork() (pid int, err error) {
	return ForkWithout(0)
}

// Status is how a child ended.
type Status = syscall.WaitStatus

// Wait waits for the end of the child with that process id and says how it ended. A
// child is waited for once; ECHILD means that there is none of this id.
func Wait(pid int) (Status, error) {
	if pid <= 0 {
		return 0, os.NewSyscallError("wait", syscall.ECHILD)
	}
	_, s, err := wait(pid)
	return s, err
}

// WaitAny waits for the end of any child.
func WaitAny() (pid int, s Status, err error) { return wait(-1) }

func wait(pid int) (int, Status, error) {
	var s Status
	for {
		got, err := syscall.Wait4(pid, &s, 0, nil)
		if err == syscall.EINTR {
			continue
		}
		return got, s, os.NewSyscallError("wait", err)
	}
}

// Signal sends a signal to another member of the family: a pVM of which this one was
// forked, directly or not, or that was forked of the same.
func Signal(pid int, sig syscall.Signal) error {
	if pid <= 0 {
		return os.NewSyscallError("kill", syscall.ESRCH)
	}
	return os.NewSyscallError("kill", syscall.Kill(pid, sig))
}
