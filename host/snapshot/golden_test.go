package snapshot

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"noyau.dev/abi"
	"noyau.dev/host/volume"
)

var update = flag.Bool("update", false, "write testdata anew: only with another Version, abi.SnapVersion or abi.Version")

// goldenMeta has a value in each field.
func goldenMeta(image string) Meta {
	return Meta{
		Image: image, Made: time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC),
		Name: "web", Arg0: "server", Dir: "/srv", Hostname: "web-1", Args: []string{"-v", "a b"}, Env: []string{"A=1"},
		UID: 7, GID: 8, Memory: 64 << 20, Forks: 3, Publish: []string{"127.0.0.1:8080:80/tcp", "0:53/udp"},
		Volumes: []volume.Spec{{Host: "/srv/data", Guest: "/data"}, {Host: "/usr/share/zoneinfo", Guest: "/usr/share/zoneinfo", ReadOnly: true}},
		Files: []volume.Record{
			{Handle: 64, Volume: 0, Path: "db", Flags: unix.O_RDWR, Size: 4096, Mtime: 1764072000123456789, Flock: unix.LOCK_EX,
				Locks: []volume.Held{{Type: unix.F_WRLCK, Start: 1, Length: 2}}},
			{Handle: 66, Volume: 0, Path: ".", Dir: true},
			{Handle: 67, Volume: 1, Path: "/elsewhere", Gone: true},
		},
		NextHandle: 70,
	}
}

// goldenPages are what the guest wrote: pages that are easily told apart.
func goldenPages() []byte {
	b := content()
	for i := range b[abi.SnapData:] {
		if i/abi.PageSize != 1 {
			b[abi.SnapData+i] = byte(i / 64)
		}
	}
	return b
}

// TestGolden reads files that an earlier build has written, and writes the same file again.
// If this fails, snapshots of users cannot be restored any more: a change of the format
// needs another Version, abi.SnapVersion or abi.Version, with which older ones are refused by name.
func TestGolden(t *testing.T) {
	dir := t.TempDir()
	image := filepath.Join(dir, "image")
	if err := os.WriteFile(image, []byte("the image"), 0o644); err != nil {
		t.Fatal(err)
	}
	for name, o := range map[string]Options{"plain.snap": {}, "zstd.snap": {Compress: true}} {
		path := filepath.Join("testdata", name)
		fresh := filepath.Join(dir, name)
		m := goldenMeta(image)
		made := func(_ context.Context, f *os.File, _ *Meta) error { _, err := f.Write(goldenPages()); return err }
		if err := Save(t.Context(), fresh, m, o, made); err != nil {
			t.Fatal(err)
		}
		if *update {
			b, err := os.ReadFile(fresh)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, b, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		s, err := Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		got, err := io.ReadAll(io.NewSectionReader(s.data, 0, 1<<30))
		if err != nil || !bytes.HasPrefix(got, goldenPages()) {
			t.Errorf("%s: its pages are others, or %v", name, err)
		}
		if s.Sum != "eef88809f716f0d9b8c77bce131f6053152d9342af9cbf460d08e41b6c0a6bf0" || s.ImageSum != "97e9d7a16021e6d07fbe28cce398f5847fc00c574991fbff65d95fd5e032d389" {
			t.Errorf("%s: sums %s, %s", name, s.Sum, s.ImageSum)
		}
		n, err := Open(fresh)
		if err != nil {
			t.Fatal(err)
		}
		defer n.Close()
		// What differs from run to run, or with the compressor.
		for _, m := range []*Meta{&s.Meta, &n.Meta} {
			if m.Image, m.Made = "", (time.Time{}); o.Compress {
				m.Stored = 0
			}
		}
		want, _ := json.Marshal(n.Meta)
		have, _ := json.Marshal(s.Meta)
		if !bytes.Equal(want, have) {
			t.Errorf("%s: the description is\n%s\nwant\n%s", name, have, want)
		}
	}
}
