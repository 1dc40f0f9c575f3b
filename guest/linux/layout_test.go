package linux_test

import (
	"reflect"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
	"noyau.dev/guest/linux"
)

// TestLayout compares the layouts with those of x/sys/unix: the size, and the
// offset and size of each field that both name.
func TestLayout(t *testing.T) {
	for _, c := range []struct{ ours, theirs any }{
		{linux.Stat{}, unix.Stat_t{}},
		{linux.Statx{}, unix.Statx_t{}},
		{linux.Statfs{}, unix.Statfs_t{}},
		{linux.Flock{}, unix.Flock_t{}},
		{linux.Timespec{}, unix.Timespec{}},
		{linux.Timeval{}, unix.Timeval{}},
		{linux.Itimerspec{}, unix.ItimerSpec{}},
		{linux.SockaddrIn{}, unix.RawSockaddrInet4{}},
		{linux.SockaddrIn6{}, unix.RawSockaddrInet6{}},
		{linux.SockaddrUn{}, unix.RawSockaddrUnix{}},
		{linux.Iovec{}, unix.Iovec{}},
		{linux.Msghdr{}, unix.Msghdr{}},
		{linux.Cmsghdr{}, unix.Cmsghdr{}},
		{linux.Ucred{}, unix.Ucred{}},
		{linux.Linger{}, unix.Linger{}},
		{linux.EpollEvent{}, unix.EpollEvent{}},
		{linux.PollFd{}, unix.PollFd{}},
		{linux.FdSet{}, unix.FdSet{}},
		{linux.Utsname{}, unix.Utsname{}},
		{linux.Rlimit{}, unix.Rlimit{}},
		{linux.Sysinfo{}, unix.Sysinfo_t{}},
		{linux.Rusage{}, unix.Rusage{}},
		{linux.Winsize{}, unix.Winsize{}},
		{linux.SignalfdSiginfo{}, unix.SignalfdSiginfo{}},
	} {
		a, b := reflect.TypeOf(c.ours), reflect.TypeOf(c.theirs)
		if a.Size() != b.Size() {
			t.Errorf("%v has %d bytes, %v has %d", a, a.Size(), b, b.Size())
		}
		if a.Kind() != reflect.Struct || b.Kind() != reflect.Struct {
			continue
		}
		for i := range a.NumField() {
			f := a.Field(i)
			g, ok := b.FieldByNameFunc(func(s string) bool { return strings.EqualFold(s, f.Name) })
			if ok && f.Name != "_" && (f.Offset != g.Offset || f.Type.Size() != g.Type.Size()) {
				t.Errorf("%v.%s is at %d (%d bytes), want %d (%d bytes)", a, f.Name, f.Offset, f.Type.Size(), g.Offset, g.Type.Size())
			}
		}
	}
}

// TestNumbers pins a sample of the numbers that were not generated.
func TestNumbers(t *testing.T) {
	for _, c := range []struct {
		name         string
		ours, theirs int
	}{
		{"O_TMPFILE", linux.O_TMPFILE, unix.O_TMPFILE},
		{"O_SYNC", linux.O_SYNC, unix.O_SYNC},
		{"AT_EMPTY_PATH", linux.AT_EMPTY_PATH, unix.AT_EMPTY_PATH},
		{"F_DUPFD_CLOEXEC", linux.F_DUPFD_CLOEXEC, unix.F_DUPFD_CLOEXEC},
		{"F_GETPIPE_SZ", linux.F_GETPIPE_SZ, unix.F_GETPIPE_SZ},
		{"F_OFD_SETLKW", linux.F_OFD_SETLKW, unix.F_OFD_SETLKW},
		{"SO_REUSEPORT", linux.SO_REUSEPORT, unix.SO_REUSEPORT},
		{"SO_PROTOCOL", linux.SO_PROTOCOL, unix.SO_PROTOCOL},
		{"TCP_USER_TIMEOUT", linux.TCP_USER_TIMEOUT, unix.TCP_USER_TIMEOUT},
		{"IPV6_V6ONLY", linux.IPV6_V6ONLY, unix.IPV6_V6ONLY},
		{"MSG_CMSG_CLOEXEC", linux.MSG_CMSG_CLOEXEC, unix.MSG_CMSG_CLOEXEC},
		{"EPOLLONESHOT", linux.EPOLLONESHOT, unix.EPOLLONESHOT},
		{"EPOLLRDHUP", linux.EPOLLRDHUP, unix.EPOLLRDHUP},
		{"MAP_FIXED_NOREPLACE", linux.MAP_FIXED_NOREPLACE, unix.MAP_FIXED_NOREPLACE},
		{"PR_SET_VMA", linux.PR_SET_VMA, unix.PR_SET_VMA},
		{"SYS_EPOLL_PWAIT2", linux.SYS_EPOLL_PWAIT2, unix.SYS_EPOLL_PWAIT2},
		{"ENOTSUP", int(linux.ENOTSUP), int(unix.ENOTSUP)},
		{"FICLONE", linux.FICLONE, unix.FICLONE},
	} {
		if c.ours != c.theirs {
			t.Errorf("%s is %#x, want %#x", c.name, c.ours, c.theirs)
		}
	}
}

func TestAppendDirent(t *testing.T) {
	b, ok := linux.AppendDirent(nil, 100, 7, 9, linux.DT_REG, "name")
	if !ok || len(b) != 24 || b[16] != 24 || string(b[19:23]) != "name" || b[23] != 0 {
		t.Fatalf("entry %v, %v", b, ok)
	}
	if b, ok = linux.AppendDirent(b, 30, 7, 9, linux.DT_REG, "name"); ok || len(b) != 24 {
		t.Fatalf("an entry beyond the buffer: %d bytes, %v", len(b), ok)
	}
}
