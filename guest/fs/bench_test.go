package fs

import (
	"testing"
	"unsafe"

	"noyau.dev/guest/kernel"
	"noyau.dev/guest/linux"
)

// bench prepares a file and returns the addresses of its path and of a buffer.
func bench(b *testing.B) (path, buf uintptr) {
	old := Root
	Root = NewTree(64 << 20)
	b.Cleanup(func() { Root = old })
	name := append([]byte("/tmp/dir/file"), 0)
	data := make([]byte, 4096)
	keep = append(keep, name, data)
	Root.mu.Lock()
	Root.mkdirs("/tmp/dir")
	Root.mu.Unlock()
	path, buf = uintptr(unsafe.Pointer(&name[0])), uintptr(unsafe.Pointer(&data[0]))
	fd, _, e := kernel.Syscall(linux.SYS_OPEN, path, linux.O_CREAT|linux.O_WRONLY, 0o644, 0, 0, 0)
	if e != 0 {
		b.Fatal(e)
	}
	kernel.Syscall(linux.SYS_WRITE, fd, buf, 1000, 0, 0, 0)
	kernel.Syscall(linux.SYS_CLOSE, fd, 0, 0, 0, 0, 0)
	b.ReportAllocs()
	b.ResetTimer()
	return path, buf
}

var keep [][]byte

func BenchmarkOpenReadClose(b *testing.B) {
	path, buf := bench(b)
	for b.Loop() {
		fd, _, _ := kernel.Syscall(linux.SYS_OPENAT, cwd, path, linux.O_RDONLY|linux.O_CLOEXEC, 0, 0, 0)
		if n, _, e := kernel.Syscall(linux.SYS_READ, fd, buf, 4096, 0, 0, 0); n != 1000 || e != 0 {
			b.Fatal(n, e)
		}
		kernel.Syscall(linux.SYS_CLOSE, fd, 0, 0, 0, 0, 0)
	}
}

func BenchmarkStat(b *testing.B) {
	path, buf := bench(b)
	for b.Loop() {
		if _, _, e := kernel.Syscall(linux.SYS_NEWFSTATAT, cwd, path, buf, 0, 0, 0); e != 0 {
			b.Fatal(e)
		}
	}
}

func BenchmarkPread4K(b *testing.B) {
	path, buf := bench(b)
	fd, _, _ := kernel.Syscall(linux.SYS_OPEN, path, linux.O_RDWR, 0, 0, 0, 0)
	kernel.Syscall(linux.SYS_PWRITE64, fd, buf, 4096, 0, 0, 0)
	for b.Loop() {
		kernel.Syscall(linux.SYS_PREAD64, fd, buf, 4096, 0, 0, 0)
	}
	kernel.Syscall(linux.SYS_CLOSE, fd, 0, 0, 0, 0, 0)
}

func BenchmarkPwrite4K(b *testing.B) {
	path, buf := bench(b)
	fd, _, _ := kernel.Syscall(linux.SYS_OPEN, path, linux.O_RDWR, 0, 0, 0, 0)
	for b.Loop() {
		kernel.Syscall(linux.SYS_PWRITE64, fd, buf, 4096, 0, 0, 0)
	}
	kernel.Syscall(linux.SYS_CLOSE, fd, 0, 0, 0, 0, 0)
}
