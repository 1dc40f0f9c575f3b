package kernel_test

import (
	"sync"
	"testing"

	. "noyau.dev/guest/guesttest"
	"noyau.dev/guest/kernel"
	"noyau.dev/guest/linux"
)

type file struct {
	kernel.Base
	released int
	data     []byte
}

func (f *file) Release() { f.released++ }
func (f *file) Pread(p []byte, off int64) (int, linux.Errno) {
	if off > int64(len(f.data)) {
		return 0, 0
	}
	return copy(p, f.data[off:]), 0
}
func (f *file) Write(p []byte) (int, linux.Errno) { f.data = append(f.data, p...); return len(p), 0 }
func (f *file) Lseek(off int64, whence int) (int64, linux.Errno) {
	return off, 0
}

func install(t *testing.T, f kernel.File, flags uint32) uintptr {
	t.Helper()
	fd, e := kernel.Install(f, flags)
	if e != 0 {
		t.Fatal(e)
	}
	t.Cleanup(func() { kernel.Close(fd) })
	return fd
}

func TestDescriptors(t *testing.T) {
	f := &file{}
	fd := install(t, f, linux.O_RDWR|linux.O_CLOEXEC)
	d, e := kernel.Get(fd)
	if e != 0 {
		t.Fatal(e)
	}
	if r := Want(t, 0, linux.SYS_FCNTL, fd, linux.F_GETFD); r != linux.FD_CLOEXEC {
		t.Errorf("F_GETFD = %d", r)
	}
	dup := Want(t, 0, linux.SYS_DUP, fd)
	if r := Want(t, 0, linux.SYS_FCNTL, dup, linux.F_GETFD); r != 0 {
		t.Errorf("F_GETFD of a duplicate = %d", r)
	}
	Want(t, 0, linux.SYS_FCNTL, dup, linux.F_SETFL, linux.O_NONBLOCK)
	if r := Want(t, 0, linux.SYS_FCNTL, fd, linux.F_GETFL); r != linux.O_RDWR|linux.O_NONBLOCK {
		t.Errorf("F_GETFL = %#x: status flags belong to the description", r)
	}
	high := Want(t, 0, linux.SYS_FCNTL, fd, linux.F_DUPFD_CLOEXEC, 500)
	if high != 500 {
		t.Errorf("F_DUPFD 500 = %d", high)
	}
	Want(t, 0, linux.SYS_CLOSE, fd)
	Want(t, linux.EBADF, linux.SYS_CLOSE, fd)
	Want(t, 0, linux.SYS_CLOSE, dup)
	Want(t, 0, linux.SYS_CLOSE, high)
	if f.released != 0 {
		t.Error("released while a call is under way")
	}
	if d.Put(); f.released != 1 {
		t.Errorf("released %d times", f.released)
	}
}

func TestLowestAndLimit(t *testing.T) {
	var fds []uintptr
	for range 200 {
		fds = append(fds, install(t, &file{}, 0))
	}
	for _, i := range []int{3, 70, 150} {
		kernel.Close(fds[i])
	}
	for _, i := range []int{3, 70, 150} {
		if fd := install(t, &file{}, 0); fd != fds[i] {
			t.Errorf("got %d, want the lowest free one, %d", fd, fds[i])
		}
	}
	kernel.SetNofile(uint64(fds[199]) + 1)
	defer kernel.SetNofile(1 << 20)
	if _, e := kernel.Install(&file{}, 0); e != linux.EMFILE {
		t.Errorf("above the limit: %v", e)
	}
	Want(t, linux.EBADF, linux.SYS_DUP2, fds[0], fds[199]+1)
	Want(t, linux.EMFILE, linux.SYS_DUP, fds[0])
}

func TestDup2ReleasesTheOldFile(t *testing.T) {
	a, b := &file{}, &file{}
	fa, fb := install(t, a, 0), install(t, b, 0)
	if r := Want(t, 0, linux.SYS_DUP3, fa, fb, linux.O_CLOEXEC); r != fb {
		t.Errorf("dup3 = %d", r)
	}
	if b.released != 1 || a.released != 0 {
		t.Error("dup3 closes what the number was before")
	}
	Want(t, linux.EINVAL, linux.SYS_DUP3, fa, fa, 0)
	if r := Want(t, 0, linux.SYS_DUP2, fa, fa); r != fa {
		t.Errorf("dup2 of itself = %d", r)
	}
	Want(t, 0, linux.SYS_CLOSE_RANGE, fa, fb, 0)
	if a.released != 1 {
		t.Error("close_range")
	}
}

func TestGetIsSafeAgainstClose(t *testing.T) {
	for range 200 {
		f := &file{}
		fd, _ := kernel.Install(f, 0)
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				if d, e := kernel.Get(fd); e == 0 {
					d.Put()
				}
			})
		}
		wg.Go(func() { kernel.Close(fd) })
		wg.Wait()
		if f.released != 1 {
			t.Fatalf("released %d times", f.released)
		}
	}
}

func TestBadArguments(t *testing.T) {
	fd := install(t, &file{data: []byte("x")}, linux.O_RDONLY)
	wr := install(t, &file{}, linux.O_WRONLY)
	b := make([]byte, 8)
	p, n := Bytes(b)
	for _, c := range []struct {
		name string
		want linux.Errno
		nr   uintptr
		args []uintptr
	}{
		{"nil buffer", linux.EFAULT, linux.SYS_PREAD64, []uintptr{fd, 0, 8, 0}},
		{"low buffer", linux.EFAULT, linux.SYS_PREAD64, []uintptr{fd, 100, 8, 0}},
		{"kernel buffer", linux.EFAULT, linux.SYS_PREAD64, []uintptr{fd, 1 << 63, 8, 0}},
		{"buffer that wraps", linux.EFAULT, linux.SYS_PREAD64, []uintptr{fd, p, ^uintptr(0), 0}},
		{"negative offset", linux.EINVAL, linux.SYS_PREAD64, []uintptr{fd, p, n, ^uintptr(0)}},
		{"no such descriptor", linux.EBADF, linux.SYS_READ, []uintptr{9999, p, n}},
		{"negative descriptor", linux.EBADF, linux.SYS_READ, []uintptr{^uintptr(0), p, n}},
		{"write to read-only", linux.EBADF, linux.SYS_WRITE, []uintptr{fd, p, n}},
		{"read of write-only", linux.EBADF, linux.SYS_READ, []uintptr{wr, p, n}},
		{"ftruncate", linux.EINVAL, linux.SYS_FTRUNCATE, []uintptr{fd, 0}},
		{"fsync", linux.EINVAL, linux.SYS_FSYNC, []uintptr{fd}},
		{"getdents", linux.ENOTDIR, linux.SYS_GETDENTS64, []uintptr{fd, p, n}},
		{"ioctl", linux.ENOTTY, linux.SYS_IOCTL, []uintptr{fd, linux.TCGETS, p}},
		{"splice", linux.EINVAL, linux.SYS_SPLICE, []uintptr{fd, 0, wr, 0, 8, 0}},
		{"too many iovecs", linux.EINVAL, linux.SYS_READV, []uintptr{fd, p, 2000}},
		{"unknown call", linux.ENOSYS, 460, nil},
		{"wild call", linux.ENOSYS, ^uintptr(0), nil},
	} {
		r, e := Call(c.nr, c.args...)
		if e != c.want || r != ^uintptr(0) {
			t.Errorf("%s: %d, %v; want %v", c.name, r, e, c.want)
		}
	}
}

func TestSendfile(t *testing.T) {
	data := make([]byte, 300_000)
	for i := range data {
		data[i] = byte(i * 7)
	}
	out := &file{}
	in, to := install(t, &file{data: data}, linux.O_RDONLY), install(t, out, linux.O_WRONLY)
	off := int64(5)
	if n := Want(t, 0, linux.SYS_SENDFILE, to, in, Addr(&off), 1<<30); int(n) != len(data)-5 {
		t.Fatalf("copied %d", n)
	}
	if string(out.data) != string(data[5:]) || off != int64(len(data)) {
		t.Error("wrong content or offset")
	}
}

func BenchmarkRead(b *testing.B) {
	fd, _ := kernel.Install(&file{data: []byte("hello")}, linux.O_RDWR)
	defer kernel.Close(fd)
	buf := make([]byte, 1)
	p, n := Bytes(buf)
	b.ReportAllocs()
	for b.Loop() {
		kernel.Syscall(linux.SYS_PREAD64, fd, p, n, 0, 0, 0)
	}
}
