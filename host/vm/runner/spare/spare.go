// Package spare keeps numbers of descriptors free of what the Go runtime opens for itself
// before any code of a program runs: an epoll instance, at the first free number, when
// package os finds that standard input does not block. A restored guest needs the numbers
// that its handles had, and nothing in this process can move that instance.
//
// It is initialized before package os, as it imports none of what that does but package
// syscall, and comes before it in the order of import paths (see Package initialization in the
// specification of Go).
package spare

import "syscall"

// Env is the environment variable that says below which number all are kept free.
const Env = "NOYAU_VM_SPARE"

// Max bounds how many numbers are kept.
const Max = 16384

var held []int

func init() {
	s, _ := syscall.Getenv(Env)
	n := 0
	for i := 0; i < len(s) && s[i] >= '0' && s[i] <= '9' && n < Max; i++ {
		n = n*10 + int(s[i]-'0')
	}
	n = min(n, Max)
	for n > 0 {
		fd, _, errno := syscall.RawSyscall(syscall.SYS_FCNTL, 0, syscall.F_DUPFD_CLOEXEC, 0)
		if errno != 0 {
			return
		}
		if int(fd) >= n {
			syscall.Close(int(fd))
			return
		}
		held = append(held, int(fd))
	}
}

// Give gives the numbers back.
func Give() {
	for _, fd := range held {
		syscall.Close(fd)
	}
	held = nil
}
