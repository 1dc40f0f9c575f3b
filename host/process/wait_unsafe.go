package process

import (
	"os"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// siginfo is what waitid(2) fills in: siginfo_t for SIGCHLD.
type siginfo struct {
	signo, errno, code, _ int32
	pid                   int32
	uid                   uint32
	status                int32
	_                     [100]byte
}

// Codes of siginfo.
const (
	cldExited = 1
	cldKilled = 2
	cldDumped = 3
)

// A thread that is blocked in waitid(2) learns of the end some 20 µs earlier than
// Go's poller. So a few waits have a thread each, which sleeps; any more use the poller.
var threads = make(chan struct{}, 4)

// waitPidfd waits for the process to end and reaps it, unless flags say WNOWAIT. calm
// means in the poller: while a thread is blocked in a system call, the Go runtime's
// monitor thread looks after it every 70 µs, for milliseconds. A runner takes that
// long to start, and would be interrupted by it.
func waitPidfd(fd, flags int, calm bool) (st Status, u Usage) {
	hold := threads
	if calm {
		hold = nil
	}
	select {
	case hold <- struct{}{}:
		reapPidfd(uintptr(fd), flags, &st, &u)
		<-threads
	default:
		if waitInPoller(fd, flags, &st, &u) != nil {
			reapPidfd(uintptr(fd), flags, &st, &u)
		}
	}
	return st, u
}

// waitInPoller parks the goroutine in Go's poller until the process has ended.
func waitInPoller(fd, flags int, st *Status, u *Usage) error {
	own, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, firstOwn)
	if err != nil {
		return err
	}
	unix.SetNonblock(own, true) // what makes os.NewFile use the poller
	f := os.NewFile(uintptr(own), "pidfd")
	defer f.Close()
	defer unix.SetNonblock(fd, false) // both are one open file
	rc, err := f.SyscallConn()
	if err != nil {
		return err
	}
	return rc.Read(func(fd uintptr) bool { return reapPidfd(fd, unix.WNOHANG|flags, st, u) })
}

// reapPidfd reports whether there is nothing more to wait for.
func reapPidfd(fd uintptr, flags int, st *Status, u *Usage) bool {
	var si siginfo
	var ru unix.Rusage
	for {
		_, _, e := unix.Syscall6(unix.SYS_WAITID, unix.P_PIDFD, fd, uintptr(unsafe.Pointer(&si)),
			uintptr(unix.WEXITED|unix.WALL|flags), uintptr(unsafe.Pointer(&ru)), 0)
		switch {
		case e == unix.EINTR:
			continue
		case e == unix.EAGAIN || e == 0 && si.pid == 0:
			return false
		case e != 0:
			*st = Status{Code: 255}
			return true
		}
		break
	}
	switch si.code {
	case cldKilled, cldDumped:
		st.Signal = int(si.status)
	default:
		st.Code = int(si.status)
	}
	*u = Usage{
		User:        time.Duration(ru.Utime.Nano()),
		System:      time.Duration(ru.Stime.Nano()),
		MaxRSS:      uint64(ru.Maxrss) << 10,
		MinorFaults: ru.Minflt,
		MajorFaults: ru.Majflt,
	}
	return true
}
