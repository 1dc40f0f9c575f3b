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

// waitPidfd parks the goroutine in the poller until the process has ended, then
// reaps it.
func waitPidfd(f *os.File) (st Status, u Usage) {
	rc, err := f.SyscallConn()
	if err != nil {
		return Status{Code: 255}, u
	}
	try := func(fd uintptr) bool { return reapPidfd(fd, unix.WNOHANG, &st, &u) }
	if err := rc.Read(try); err != nil {
		// The descriptor cannot be polled: wait on a thread.
		rc.Control(func(fd uintptr) {
			unix.SetNonblock(int(fd), false)
			reapPidfd(fd, 0, &st, &u)
		})
	}
	return st, u
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
