// Package pvm is what a program can do because it runs as a pVM: copy itself, and talk
// to its copies. It imports the standard library only. In a program that runs as an
// ordinary process every function returns ErrNotPVM, so that it can fall back.
package pvm

import (
	"errors"
	"os"
	"syscall"
)

// ErrNotPVM says that this program does not run as a pVM.
var ErrNotPVM = errors.New("pvm: this program does not run as a pVM")

// The private system calls of a pVM: see package abi.
const (
	sysFork   = 0x4e00
	sysPair   = 0x4e01
	sysShare  = 0x4e02
	sysNarrow = 0x4e03

	sysShareWait = 0x4e08
	sysShareWake = 0x4e09
)

// fail makes the error of a call that answered errno.
func fail(call string, errno syscall.Errno) error {
	if errno == syscall.ENOSYS {
		return ErrNotPVM
	}
	return os.NewSyscallError(call, errno)
}
