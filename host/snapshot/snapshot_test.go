package snapshot

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"noyau.dev/abi"
)

// content is what a guest writes: a header that says its size, then pages.
func content() []byte {
	b := make([]byte, abi.SnapData+8192)
	binary.LittleEndian.PutUint64(b, abi.SnapMagic)
	binary.LittleEndian.PutUint32(b[8:], abi.SnapVersion)
	binary.LittleEndian.PutUint64(b[16:], uint64(len(b)))
	copy(b[abi.SnapData:], "a page")
	return b
}

func save(t *testing.T) (path, image string) {
	t.Helper()
	dir := t.TempDir()
	image = filepath.Join(dir, "app.img")
	if err := os.WriteFile(image, []byte("an image"), 0o644); err != nil {
		t.Fatal(err)
	}
	path = filepath.Join(dir, "app.snap")
	err := Save(context.Background(), path, Meta{Image: image, Name: "app", Args: []string{"a"}}, func(_ context.Context, f *os.File) error {
		_, err := f.Write(content())
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return path, image
}

func check(t *testing.T, path, image string) error {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	img, err := os.Open(image)
	if err != nil {
		t.Fatal(err)
	}
	defer img.Close()
	_, err = Check(f, img)
	return err
}

// TestLayout holds the format: the guest's bytes as they are, the description, its
// length, the magic.
func TestLayout(t *testing.T) {
	path, image := save(t)
	if err := check(t, path, image); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	want := content()
	if !bytes.HasPrefix(b, want) {
		t.Error("the file does not begin with what the guest wrote")
	}
	if string(b[len(b)-8:]) != "NOYUSNAP" {
		t.Errorf("the file ends with %q", b[len(b)-8:])
	}
	n := binary.LittleEndian.Uint64(b[len(b)-16:])
	if int(n) != len(b)-16-len(want) {
		t.Fatalf("the description has %d bytes, the file has room for %d", n, len(b)-16-len(want))
	}
	var fields map[string]any
	if err := json.Unmarshal(b[len(want):len(b)-16], &fields); err != nil {
		t.Fatal(err)
	}
	for _, k := range []string{"Version", "ABI", "Size", "Sum", "Image", "ImageSum", "Made", "Name", "Arg0", "Dir", "Hostname", "Args", "Env", "UID", "GID", "Memory", "Forks", "Publish"} {
		if _, ok := fields[k]; !ok {
			t.Errorf("the description has no %s: older snapshots could not be read; change Version", k)
		}
	}
}

// TestDamaged changes or cuts the file at many places: each is refused.
func TestDamaged(t *testing.T) {
	path, image := save(t)
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	bad := filepath.Join(t.TempDir(), "bad.snap")
	try := func(name string, b []byte) {
		t.Helper()
		if err := os.WriteFile(bad, b, 0o644); err != nil {
			t.Fatal(err)
		}
		if check(t, bad, image) == nil {
			t.Errorf("%s: not refused", name)
		}
		os.Remove(bad)
	}
	for _, n := range []int{0, 1, 15, 16, abi.SnapHead, abi.SnapData, len(content()), len(good) - 1} {
		try("cut", good[:n])
	}
	try("longer", append(bytes.Clone(good), 0))
	try("longer in front", append([]byte{0}, good...))
	for _, at := range []int{0, 16, abi.SnapHead, abi.SnapData + 3, len(content()) - 1, len(good) - 1, len(good) - 9, len(good) - 16} {
		b := bytes.Clone(good)
		b[at] ^= 1
		try("changed", b)
	}
	newer := bytes.Replace(good, []byte(`"Version":1`), []byte(`"Version":2`), 1)
	try("newer", newer)
}

func TestForeignImage(t *testing.T) {
	path, image := save(t)
	other := image + ".2"
	if err := os.WriteFile(other, []byte("another image"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := check(t, path, other); err == nil || !strings.Contains(err.Error(), "another image") {
		t.Errorf("error %v, want one that says that the image is another", err)
	}
}

// TestFailure wants no half snapshot, whatever fails.
func TestFailure(t *testing.T) {
	for name, dump := range map[string]func(context.Context, *os.File) error{
		"the guest fails":       func(context.Context, *os.File) error { return errors.New("disk full") },
		"the guest writes less": func(_ context.Context, f *os.File) error { _, err := f.Write([]byte("x")); return err },
		"the guest writes rubbish": func(_ context.Context, f *os.File) error {
			_, err := f.Write(make([]byte, abi.SnapData))
			return err
		},
		"the size is a lie": func(_ context.Context, f *os.File) error {
			b := content()
			binary.LittleEndian.PutUint64(b[16:], uint64(len(b)+1))
			_, err := f.Write(b)
			return err
		},
	} {
		dir := t.TempDir()
		image := filepath.Join(dir, "app.img")
		os.WriteFile(image, []byte("an image"), 0o644)
		if err := Save(context.Background(), filepath.Join(dir, "s"), Meta{Image: image}, dump); err == nil {
			t.Errorf("%s: no error", name)
		}
		left, _ := os.ReadDir(dir)
		if len(left) != 1 {
			t.Errorf("%s: %v is left", name, left)
		}
	}
}
