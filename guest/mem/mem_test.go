package mem_test

import (
	"bytes"
	"os"
	"runtime/debug"
	"sync"
	"testing"
	"unsafe"

	. "noyau.dev/guest/guesttest"
	"noyau.dev/guest/host"
	"noyau.dev/guest/kernel"
	"noyau.dev/guest/linux"
	_ "noyau.dev/guest/mem"
)

// A memFile is a file of the in-memory kind.
type memFile struct {
	kernel.Base
	mu       sync.Mutex
	data     []byte
	synced   int
	released int
}

func (f *memFile) Pread(p []byte, off int64) (int, linux.Errno) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return copy(p, f.data[min(off, int64(len(f.data))):]), 0
}

func (f *memFile) Pwrite(p []byte, off int64) (int, linux.Errno) {
	f.mu.Lock()
	if need := off + int64(len(p)); need > int64(len(f.data)) {
		f.data = append(f.data, make([]byte, need-int64(len(f.data)))...)
	}
	copy(f.data[off:], p)
	f.mu.Unlock()
	kernel.FileWritten(f, off, int64(len(p)))
	return len(p), 0
}

func (f *memFile) MapHandle() (int32, bool)       { return -1, false }
func (f *memFile) MapKey() any                    { return f }
func (f *memFile) Sync(dataOnly bool) linux.Errno { f.synced++; return 0 }
func (f *memFile) Release()                       { f.released++ }

// A hostFile is a file behind a handle.
type hostFile struct {
	kernel.Base
	*os.File
}

func (f hostFile) Read(p []byte) (int, linux.Errno)  { return 0, linux.EINVAL }
func (f hostFile) Write(p []byte) (int, linux.Errno) { return 0, linux.EINVAL }
func (f hostFile) Stat(st *linux.Stat) linux.Errno   { return f.Base.Stat(st) }
func (f hostFile) Pread(p []byte, off int64) (int, linux.Errno) {
	return host.Pread(f.handle(), p, off)
}
func (f hostFile) Pwrite(p []byte, off int64) (int, linux.Errno) {
	return host.Pwrite(f.handle(), p, off)
}
func (f hostFile) handle() int32            { return int32(f.Fd()) }
func (f hostFile) MapHandle() (int32, bool) { return f.handle(), true }
func (f hostFile) MapKey() any              { return f.File }

const none = ^uintptr(0)

func view(addr, n uintptr) []byte {
	return unsafe.Slice((*byte)(*(*unsafe.Pointer)(unsafe.Pointer(&addr))), n)
}

func mmap(t *testing.T, n uintptr, prot, flags uintptr, fd uintptr, off uintptr) (uintptr, []byte) {
	t.Helper()
	p := Want(t, 0, linux.SYS_MMAP, 0, n, prot, flags, fd, off)
	t.Cleanup(func() { Call(linux.SYS_MUNMAP, p, n) })
	return p, view(p, n)
}

func open(t *testing.T, f kernel.File, flags uint32) uintptr {
	t.Helper()
	fd, e := kernel.Install(f, flags)
	if e != 0 {
		t.Fatal(e)
	}
	t.Cleanup(func() { kernel.Close(fd) })
	return fd
}

const rw = linux.PROT_READ | linux.PROT_WRITE

func TestAnonymous(t *testing.T) {
	p, b := mmap(t, 3*4096-5, rw, linux.MAP_PRIVATE|linux.MAP_ANONYMOUS, none, 0)
	for i := range b {
		if b[i] != 0 {
			t.Fatal("not zero")
		}
		b[i] = 1
	}
	Want(t, 0, linux.SYS_MADVISE, p+4096, 4096, linux.MADV_DONTNEED)
	if b[4095] != 1 || b[4096] != 0 || b[8191] != 0 || b[8192] != 1 {
		t.Error("MADV_DONTNEED empties exactly its range")
	}
	Want(t, 0, linux.SYS_MUNMAP, p+4096, 4096) // a hole
	Want(t, linux.ENOMEM, linux.SYS_MPROTECT, p, 3*4096, linux.PROT_READ)
	Want(t, 0, linux.SYS_MPROTECT, p, 4096, linux.PROT_READ)
	b[0], b[8192] = 2, 2
	q := Want(t, 0, linux.SYS_MREMAP, p+8192, 4096, 8192, linux.MREMAP_MAYMOVE)
	if c := view(q, 8192); c[0] != 2 || c[1] != 1 || c[4096] != 0 {
		t.Error("mremap keeps the content and adds zeros")
	}
	Want(t, 0, linux.SYS_MUNMAP, q, 8192)
}

func TestErrors(t *testing.T) {
	f := &memFile{data: []byte("x")}
	fd, ro := open(t, f, linux.O_RDWR), open(t, f, linux.O_RDONLY)
	no := open(t, &kernel.Base{}, linux.O_RDWR)
	for _, c := range []struct {
		name string
		want linux.Errno
		args []uintptr
	}{
		{"no length", linux.EINVAL, []uintptr{0, 0, rw, linux.MAP_PRIVATE | linux.MAP_ANONYMOUS, none, 0}},
		{"no type", linux.EINVAL, []uintptr{0, 4096, rw, linux.MAP_ANONYMOUS, none, 0}},
		{"too long", linux.ENOMEM, []uintptr{0, 1 << 50, rw, linux.MAP_PRIVATE | linux.MAP_ANONYMOUS, none, 0}},
		{"wraps", linux.ENOMEM, []uintptr{0, none, rw, linux.MAP_PRIVATE | linux.MAP_ANONYMOUS, none, 0}},
		{"executable", linux.EACCES, []uintptr{0, 4096, linux.PROT_READ | linux.PROT_EXEC, linux.MAP_PRIVATE | linux.MAP_ANONYMOUS, none, 0}},
		{"offset within a page", linux.EINVAL, []uintptr{0, 4096, rw, linux.MAP_SHARED, fd, 100}},
		{"no such descriptor", linux.EBADF, []uintptr{0, 4096, rw, linux.MAP_SHARED, 9999, 0}},
		{"shared writable of a read-only file", linux.EACCES, []uintptr{0, 4096, rw, linux.MAP_SHARED, ro, 0}},
		{"cannot be mapped", linux.ENODEV, []uintptr{0, 4096, rw, linux.MAP_SHARED, no, 0}},
		{"fixed where nothing is", linux.ENOMEM, []uintptr{1 << 40, 4096, rw, linux.MAP_PRIVATE | linux.MAP_ANONYMOUS | linux.MAP_FIXED, none, 0}},
	} {
		if _, e := Call(linux.SYS_MMAP, c.args...); e != c.want {
			t.Errorf("%s: errno %d, want %d", c.name, e, c.want)
		}
	}
	Want(t, linux.EINVAL, linux.SYS_MUNMAP, 5, 4096)
	Want(t, linux.ENOMEM, linux.SYS_MSYNC, 1<<40, 4096, linux.MS_SYNC)
}

func TestSharedCopyIsCoherent(t *testing.T) {
	f := &memFile{data: bytes.Repeat([]byte("a"), 10_000)}
	fd := open(t, f, linux.O_RDWR)
	p, b := mmap(t, 16384, rw, linux.MAP_SHARED, fd, 0)
	_, tail := mmap(t, 4096, linux.PROT_READ, linux.MAP_SHARED, fd, 4096)
	if b[9999] != 'a' || b[10_000] != 0 {
		t.Fatal("wrong content")
	}
	f.Pwrite([]byte("written"), 4093) // across the beginning of tail
	if string(b[4093:4100]) != "written" || string(tail[:5]) != "ttena" {
		t.Errorf("after pwrite: %q, %q", b[4093:4100], tail[:5])
	}
	b[5000] = 'M'
	b[12_000] = 'X' // behind the end of the file
	Want(t, 0, linux.SYS_MSYNC, p, 16384, linux.MS_SYNC)
	if f.data[5000] != 'M' || len(f.data) != 10_000 || f.synced != 1 {
		t.Errorf("after msync: %q, %d bytes, synced %d times", f.data[5000], len(f.data), f.synced)
	}
	if tail[5000-4096] != 'M' {
		t.Error("another copy does not see what msync wrote")
	}
	b[6000] = 'U'
	kernel.Close(fd)
	if f.released != 0 {
		t.Error("released while it is mapped")
	}
	Want(t, 0, linux.SYS_MUNMAP, p, 4096) // a part, without the change
	if f.data[6000] == 'U' {
		t.Error("munmap wrote more than its range")
	}
	Want(t, 0, linux.SYS_MUNMAP, p+4096, 12288)
	if f.data[6000] != 'U' {
		t.Error("munmap writes back")
	}
}

func TestPrivateCopy(t *testing.T) {
	f := &memFile{data: []byte("content")}
	fd := open(t, f, linux.O_RDONLY)
	p, b := mmap(t, 7, rw, linux.MAP_PRIVATE, fd, 0)
	b[0] = 'C'
	Want(t, 0, linux.SYS_MUNMAP, p, 7)
	if string(f.data) != "content" {
		t.Errorf("%q: a private map changed the file", f.data)
	}
	kernel.Close(fd)
	if f.released != 1 {
		t.Error("the mapping's reference is left")
	}
}

func TestHostFile(t *testing.T) {
	of, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer of.Close()
	of.Write(bytes.Repeat([]byte("h"), 8192))
	fd := open(t, hostFile{File: of}, linux.O_RDWR)
	p, b := mmap(t, 8192, rw, linux.MAP_SHARED, fd, 0)
	of.WriteAt([]byte("by the host"), 10) // no call of the library OS's
	if string(b[10:21]) != "by the host" {
		t.Fatalf("%q: not a host map", b[10:21])
	}
	b[0] = 'M'
	got := make([]byte, 1)
	of.ReadAt(got, 0)
	if got[0] != 'M' {
		t.Error("a store in a shared map is not in the file")
	}
	Want(t, 0, linux.SYS_MUNMAP, p, 8192)

	r, d := mmap(t, 8192, linux.PROT_READ, linux.MAP_SHARED, fd, 0)
	func() {
		defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
		defer func() { recover() }()
		d[5] = 'F'
		t.Error("a store in a map that is read-only does not fault")
	}()
	Want(t, 0, linux.SYS_MPROTECT, r, 4096, rw)
	d[5] = 'W'
	if of.ReadAt(got, 5); got[0] != 'W' {
		t.Error("a store after mprotect is not in the file")
	}

	q, c := mmap(t, 4096, linux.PROT_READ, linux.MAP_PRIVATE, fd, 0)
	Want(t, 0, linux.SYS_MPROTECT, q, 4096, rw)
	c[1] = 'P'
	if of.ReadAt(got, 1); got[0] == 'P' || c[10] != 'b' {
		t.Error("a private map that became writable is a copy")
	}
}

func TestFixedReplaces(t *testing.T) {
	f := &memFile{data: []byte("from the file")}
	fd := open(t, f, linux.O_RDONLY)
	p, b := mmap(t, 3*4096, linux.PROT_NONE, linux.MAP_PRIVATE|linux.MAP_ANONYMOUS|linux.MAP_NORESERVE, none, 0)
	if q := Want(t, 0, linux.SYS_MMAP, p+4096, 4096, linux.PROT_READ, linux.MAP_PRIVATE|linux.MAP_FIXED, fd, 0); q != p+4096 {
		t.Fatalf("mapped at %#x", q)
	}
	if string(b[4096:4096+13]) != "from the file" || b[0] != 0 {
		t.Errorf("%q", b[4096:4096+13])
	}
}
