package fs

import (
	"os"
	"testing"

	"noyau.dev/abi"
	_ "noyau.dev/guest/event" // pipes
	"noyau.dev/guest/host"
	"noyau.dev/guest/kernel"
	"noyau.dev/guest/linux"
	_ "noyau.dev/guest/proc" // uname, limits
	"noyau.dev/guest/rt"
	"noyau.dev/test/fsdiff"
)

func TestMain(m *testing.M) {
	rt.Native.Boot = abi.BootHeader{PID: 7, PPID: 1, UID: uint32(os.Getuid()), GID: uint32(os.Getgid()), Memory: 256 << 20}
	kernel.Setup(&host.Boot{Header: &rt.Native.Boot, Hostname: "noyau", Dir: "/"})
	os.Exit(m.Run())
}

// fresh gives the pVM a new name space.
func fresh(t *testing.T, files ...host.File) *Tree {
	old := Root
	Root = NewTree(64 << 20)
	Root.populate(&host.Boot{Header: &rt.Native.Boot, Hostname: "noyau", Dir: "/", Files: files})
	kernel.SocketNames = socketNames{Root}
	t.Cleanup(func() { Root = old })
	return Root
}

// readFile returns the content of a file of the pVM.
func readFile(t *testing.T, path string) string {
	t.Helper()
	fd := fsdiff.Guest.Must(t, linux.SYS_OPEN, path, linux.O_RDONLY, 0)
	defer fsdiff.Guest.Must(t, linux.SYS_CLOSE, fd)
	var out []byte
	b := make([]byte, 4096)
	for {
		n := fsdiff.Guest.Must(t, linux.SYS_READ, fd, b, len(b))
		if n == 0 {
			return string(out)
		}
		out = append(out, b[:n]...)
	}
}

func writeFile(t *testing.T, path, content string) {
	t.Helper()
	fd := fsdiff.Guest.Must(t, linux.SYS_OPEN, path, linux.O_WRONLY|linux.O_CREAT|linux.O_TRUNC, 0o644)
	if content != "" {
		fsdiff.Guest.Must(t, linux.SYS_WRITE, fd, []byte(content), len(content))
	}
	fsdiff.Guest.Must(t, linux.SYS_CLOSE, fd)
}
