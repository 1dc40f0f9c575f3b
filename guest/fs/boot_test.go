package fs

import (
	"os"
	"strings"
	"testing"

	"noyau.dev/guest/host"
	"noyau.dev/guest/linux"
	"noyau.dev/guest/rt"
	"noyau.dev/test/fsdiff"
)

// TestBootFiles enters files of the boot block, in memory and behind a handle.
func TestBootFiles(t *testing.T) {
	g := fsdiff.Guest
	big := strings.Repeat("0123456789abcdef", 10000)
	f, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	f.WriteString(big)
	inline := []byte("from the boot block")
	fresh(t,
		host.File{Path: "/etc/app/conf", Mode: 0o640, Content: inline, Handle: -1, Size: int64(len(inline))},
		host.File{Path: "/usr/share/big", Mode: 0o444, Handle: int32(f.Fd()), Size: int64(len(big))},
		host.File{Path: "/etc/hosts", Mode: 0o644, Content: []byte("mine\n"), Handle: -1, Size: 5},
		host.File{Path: "/lib/link", Mode: linux.S_IFLNK, Content: []byte("/usr/share/big"), Handle: -1},
		host.File{Path: "/data/dir", Mode: linux.S_IFDIR | 0o750, Handle: -1},
		host.File{Path: "/a/../../x", Mode: 0o644, Handle: -1},
	)
	for path, want := range map[string]string{
		"/etc/app/conf": string(inline), "/usr/share/big": big, "/lib/link": big, "/etc/hosts": "mine\n",
		"/etc/hostname": "noyau\n", "/etc/resolv.conf": "nameserver 10.0.2.3\n",
	} {
		if got := readFile(t, path); got != want {
			t.Errorf("%s: %.50q; want %.50q", path, got, want)
		}
	}
	var st linux.Stat
	g.Must(t, linux.SYS_STAT, "/data/dir", &st)
	if st.Mode != linux.S_IFDIR|0o750 {
		t.Errorf("/data/dir: mode %o", st.Mode)
	}
	// Writing copies: neither the boot block nor the host's file changes.
	for _, path := range []string{"/etc/app/conf", "/usr/share/big"} {
		fd := g.Must(t, linux.SYS_OPEN, path, linux.O_RDWR, 0)
		g.Must(t, linux.SYS_PWRITE64, fd, []byte("XY"), 2, 2)
		g.Must(t, linux.SYS_CLOSE, fd)
	}
	if got := readFile(t, "/usr/share/big"); got != "01XY"+big[4:] {
		t.Errorf("after a write: %.20q, %d bytes", got, len(got))
	}
	if string(inline) != "from the boot block" {
		t.Errorf("the boot block was changed: %q", inline)
	}
	for _, dir := range []string{"/tmp", "/root", "/var/tmp", "/etc/ssl/certs", "/dev/shm"} {
		g.Must(t, linux.SYS_STAT, dir, &st)
		if st.Mode&linux.S_IFMT != linux.S_IFDIR {
			t.Errorf("%s is no directory", dir)
		}
	}
}

// TestWorkingDirectory makes the directory that the user asked for.
func TestWorkingDirectory(t *testing.T) {
	old := Root
	defer func() { Root = old }()
	Root = NewTree(1 << 20)
	Root.populate(&host.Boot{Header: &rt.Native.Boot, Hostname: "h", Dir: "/work/dir"})
	b := make([]byte, 100)
	if n := fsdiff.Guest.Must(t, linux.SYS_GETCWD, b, len(b)); string(b[:n]) != "/work/dir\x00" {
		t.Errorf("getcwd: %q", b[:n])
	}
}
