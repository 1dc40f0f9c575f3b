package build

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestInstall: an image takes the place of a file, by a symbolic link too; what is no file stays
// what it is and is written to, as by go build -o /dev/null.
func TestInstall(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	os.WriteFile(at("img"), []byte("an image"), 0o600)
	os.WriteFile(at("old"), []byte("an older one"), 0o600)
	os.Symlink("old", at("link"))
	if err := unix.Mkfifo(at("fifo"), 0o600); err != nil {
		t.Fatal(err)
	}
	fifo, err := os.OpenFile(at("fifo"), os.O_RDWR|unix.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer fifo.Close()
	for _, name := range []string{"new", "link", "fifo"} {
		if err := install(at("img"), at(name)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, mode := range map[string]os.FileMode{"new": 0, "old": 0, "link": os.ModeSymlink, "fifo": os.ModeNamedPipe} {
		st, err := os.Lstat(at(name))
		if err != nil || st.Mode().Type() != mode {
			t.Errorf("%s is %v, %v", name, st.Mode(), err)
		}
		if mode == os.ModeNamedPipe {
			continue
		}
		if b, _ := os.ReadFile(at(name)); string(b) != "an image" {
			t.Errorf("%s has %q", name, b)
		}
	}
	b := make([]byte, 100)
	fifo.SetReadDeadline(time.Now().Add(time.Second))
	if n, _ := fifo.Read(b); string(b[:n]) != "an image" {
		t.Errorf("the fifo got %q", b[:n])
	}
}
