package snapshot

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"noyau.dev/abi"
	"noyau.dev/host/volume"
)

// content is what a guest writes: a header, a table of two extents, and their pages, of
// which one is zero.
func content() []byte {
	const vars, region = 0x400000, 2 * abi.PageSize
	h := abi.SnapHeader{
		Magic: abi.SnapMagic, Version: abi.SnapVersion, Extents: 2, Size: abi.SnapData + 3*abi.PageSize,
		Region: region, DataLo: vars, DataHi: vars + abi.PageSize, Open: vars, Handles: 64,
	}
	var head bytes.Buffer
	binary.Write(&head, binary.LittleEndian, &h)
	b := make([]byte, h.Size)
	copy(b, head.Bytes())
	for i, v := range []uint64{vars, abi.PageSize, abi.SnapData, abi.RegionBase, region, abi.SnapData + abi.PageSize} {
		binary.LittleEndian.PutUint64(b[abi.SnapHead+8*i:], v)
	}
	r := rand.New(rand.NewPCG(1, 2))
	for i := abi.SnapData; i < len(b); i++ {
		b[i] = byte(r.Uint32())
	}
	clear(b[abi.SnapData+abi.PageSize:][:abi.PageSize])
	return b
}

func meta(image string) Meta {
	return Meta{Image: image, Name: "app", Args: []string{"a"}, NextHandle: 70, Volumes: []volume.Spec{{Host: "/h", Guest: "/g"}},
		Files: []volume.Record{{Handle: 64, Path: "f", Size: 5}}}
}

func write(b []byte) func(context.Context, *os.File, *Meta) error {
	return func(_ context.Context, f *os.File, _ *Meta) error { _, err := f.Write(b); return err }
}

func save(t testing.TB, o Options, b []byte) (path, image string) {
	t.Helper()
	dir := t.TempDir()
	image = filepath.Join(dir, "app.img")
	if err := os.WriteFile(image, []byte("an image"), 0o644); err != nil {
		t.Fatal(err)
	}
	path = filepath.Join(dir, "app.snap")
	if err := Save(t.Context(), path, meta(image), o, write(b)); err != nil {
		t.Fatal(err)
	}
	return path, image
}

func check(t testing.TB, path, image string) error {
	t.Helper()
	s, err := Open(path)
	if err != nil {
		return err
	}
	defer s.Close()
	img, err := os.Open(image)
	if err != nil {
		t.Fatal(err)
	}
	defer img.Close()
	return s.CheckImage(img)
}

// TestLayout holds the format: the guest's bytes as they are, the description, its sum and
// length, the magic.
func TestLayout(t *testing.T) {
	path, image := save(t, Options{}, content())
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
	if int(n) != len(b)-48-len(want) {
		t.Fatalf("the description has %d bytes, the file has room for %d", n, len(b)-48-len(want))
	}
	var fields map[string]any
	if err := json.Unmarshal(b[len(want):len(b)-48], &fields); err != nil {
		t.Fatal(err)
	}
	for _, k := range []string{"Version", "ABI", "Size", "Sum", "Stored", "Image", "ImageSum", "Made", "Name", "Arg0", "Dir", "Hostname", "Args", "Env", "UID", "GID",
		"Memory", "Forks", "Publish", "Volumes", "Files", "NextHandle"} {
		if _, ok := fields[k]; !ok {
			t.Errorf("the description has no %s: older snapshots could not be read; change Version", k)
		}
	}
	st, _ := os.Stat(path)
	if st.Mode().Perm() != 0o600 {
		t.Errorf("mode %v", st.Mode())
	}
}

// TestCompressed: the guest's bytes are the same again, in a file that has no name.
func TestCompressed(t *testing.T) {
	cache := t.TempDir()
	t.Setenv("XDG_CACHE_HOME", cache)
	b := append(content(), make([]byte, 1<<20)...)
	for i := range b[abi.SnapData+3*abi.PageSize:] {
		b[abi.SnapData+3*abi.PageSize+i] = "an easily compressed text "[i%26]
	}
	binary.LittleEndian.PutUint64(b[16:], uint64(len(b)))
	path, image := save(t, Options{Compress: true}, b)
	if st, _ := os.Stat(path); st.Size() > 64<<10 {
		t.Errorf("%d bytes of %d are left", st.Size(), len(b))
	}
	s, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	f, err := s.Data()
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	got, err := io.ReadAll(io.NewSectionReader(f, 0, 1<<40))
	if err != nil || !bytes.Equal(got, b) {
		t.Errorf("%d bytes, %v; they are not those that were written", len(got), err)
	}
	if _, err := f.WriteAt([]byte("x"), 0); err == nil {
		t.Error("what all share can be written")
	}
	var left []string
	filepath.WalkDir(cache, func(p string, d os.DirEntry, _ error) error {
		if !d.IsDir() {
			left = append(left, p)
		}
		return nil
	})
	if left != nil {
		t.Errorf("left behind: %v", left)
	}
	if err := check(t, path, image); err != nil {
		t.Error(err)
	}
}

// TestSparse: zero pages that the guest has written take no room.
func TestSparse(t *testing.T) {
	b := append(content(), make([]byte, 8<<20)...)
	b = append(b, 1)
	binary.LittleEndian.PutUint64(b[16:], uint64(len(b)))
	path, image := save(t, Options{}, b)
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		t.Fatal(err)
	}
	if st.Blocks*512 > 2<<20 {
		t.Errorf("%d bytes on the disk for %d", st.Blocks*512, st.Size)
	}
	if err := check(t, path, image); err != nil {
		t.Error(err)
	}
}

// TestDamaged changes or cuts the file at many places: each is refused.
func TestDamaged(t *testing.T) {
	for _, o := range []Options{{}, {Compress: true}} {
		path, _ := save(t, o, content())
		good, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		bad := filepath.Join(t.TempDir(), "bad.snap")
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		want, err := Read(f)
		if err != nil {
			t.Fatal(err)
		}
		try := func(name string, b []byte) {
			t.Helper()
			if err := os.WriteFile(bad, b, 0o644); err != nil {
				t.Fatal(err)
			}
			defer os.Remove(bad)
			s, err := Open(bad)
			if err != nil {
				return
			}
			defer s.Close()
			// Some bits of a compressed stream mean nothing.
			got, err := io.ReadAll(io.NewSectionReader(s.data, 0, s.Size))
			if !o.Compress || err != nil || !bytes.Equal(got, content()) || fmt.Sprint(s.Meta) != fmt.Sprint(want) {
				t.Errorf("%s: not refused", name)
			}
		}
		for n := 0; n < len(good); n += 97 {
			try(fmt.Sprint("cut at ", n), good[:n])
		}
		try("cut at its end", good[:len(good)-1])
		try("longer", append(bytes.Clone(good), 0))
		try("longer in front", append([]byte{0}, good...))
		for at := 0; at < len(good); at += 41 {
			b := bytes.Clone(good)
			b[at] ^= 1
			try(fmt.Sprint("changed at ", at), b)
		}
	}
}

// TestRemembered: what was found out about a file holds until it changes, and each that
// opens it has its own copy.
func TestRemembered(t *testing.T) {
	path, image := save(t, Options{}, content())
	whole := filepath.Join(t.TempDir(), "whole.snap")
	if err := Save(t.Context(), whole, goldenMeta(image), Options{}, write(content())); err != nil {
		t.Fatal(err)
	}
	var list []*File
	for range 3 {
		s, err := Open(whole)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		if id, err := s.Identity(); err != nil {
			t.Fatal(err)
		} else if _, ok := checked.get(id); !ok {
			t.Fatal("it is not remembered")
		}
		list = append(list, s)
		if got, want := fmt.Sprint(s.Meta, s.Header, s.Headers), fmt.Sprint(list[0].Meta, list[0].Header, list[0].Headers); got != want {
			t.Fatalf("%s, before %s", got, want)
		}
		for _, o := range list[:len(list)-1] {
			apart(t, "Meta", reflect.ValueOf(o.Meta), reflect.ValueOf(s.Meta))
			apart(t, "Headers", reflect.ValueOf(o.Headers), reflect.ValueOf(s.Headers))
		}
	}
	for _, p := range []string{path, whole} {
		if err := check(t, p, image); err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(p)
		if err != nil {
			t.Fatal(err)
		}
		b[len(b)/2] ^= 1
		if err := os.WriteFile(p, b, 0); err != nil {
			t.Fatal(err)
		}
		if err := check(t, p, image); !errors.Is(err, ErrBad) {
			t.Errorf("changed in its place: %v", err)
		}
	}
}

// apart wants that two equal values have no memory in common, but for that of strings.
func apart(t *testing.T, name string, a, b reflect.Value) {
	t.Helper()
	switch a.Kind() {
	case reflect.Pointer, reflect.Map, reflect.Interface:
		if !a.IsNil() && a.Type() != reflect.TypeFor[*time.Location]() {
			t.Errorf("%s: a %v may be shared", name, a.Type())
		}
	case reflect.Slice:
		if a.Len() > 0 && a.Pointer() == b.Pointer() {
			t.Errorf("%s is shared", name)
		}
		for i := range a.Len() {
			apart(t, fmt.Sprint(name, "[", i, "]"), a.Index(i), b.Index(i))
		}
	case reflect.Struct:
		for i := range a.NumField() {
			apart(t, name+"."+a.Type().Field(i).Name, a.Field(i), b.Field(i))
		}
	}
}

// forge makes a file of another description and other bytes of the guest, with sums that
// fit: nothing but the checks of the fields is in its way.
func forge(t testing.TB, data []byte, m *Meta) string {
	t.Helper()
	b, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	h := sha256.Sum256(b)
	f := append(append(bytes.Clone(data), b...), h[:]...)
	f = append(binary.LittleEndian.AppendUint64(f, uint64(len(b))), magic...)
	path := filepath.Join(t.TempDir(), "forged")
	if err := os.WriteFile(path, f, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestForged: each field that makes no sense is refused, and newer versions by name.
func TestForged(t *testing.T) {
	path, image := save(t, Options{}, content())
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	good, err := Read(f)
	f.Close()
	if err != nil {
		t.Fatal(err)
	}
	if err := check(t, forge(t, content(), &good), image); err != nil {
		t.Fatal("as it was:", err)
	}
	for name, change := range map[string]func(*Meta){
		fmt.Sprint("version ", Version+1): func(m *Meta) { m.Version++ },
		"for ABI ":                        func(m *Meta) { m.ABI++ },
		"size is wrong":                   func(m *Meta) { m.Size++ },
		"size is wrong ":                  func(m *Meta) { m.Size, m.Stored = -1, -1 },
		"size is wrong  ":                 func(m *Meta) { m.Stored-- },
		"is damaged":                      func(m *Meta) { m.Sum = strings.Repeat("0", 64) },
		"another image":                   func(m *Meta) { m.ImageSum = "" },
		"compression \"xz\"":              func(m *Meta) { m.Compression = "xz" },
		"is damaged ":                     func(m *Meta) { m.Compression = "zstd" },
		"list of open files":              func(m *Meta) { m.Files = append(m.Files, m.Files[0]) },
		"list of open files ":             func(m *Meta) { m.Files[0].Handle = 70 },
		"list of open files  ":            func(m *Meta) { m.Files[0].Volume = 1 },
		"list of open files   ":           func(m *Meta) { m.NextHandle = 0 },
	} {
		m := good
		m.Files = append([]volume.Record(nil), good.Files...)
		change(&m)
		if err := check(t, forge(t, content(), &m), image); err == nil || !strings.Contains(err.Error(), strings.TrimSpace(name)) {
			t.Errorf("%s: %v", name, err)
		}
	}
	put := binary.LittleEndian.PutUint64
	for name, change := range map[string]func(b []byte){
		"magic":         func(b []byte) { b[0]++ },
		"version":       func(b []byte) { b[8]++ },
		"extents":       func(b []byte) { binary.LittleEndian.PutUint32(b[12:], abi.SnapExtents+1) },
		"size":          func(b []byte) { b[16]++ },
		"page's addr":   func(b []byte) { put(b[abi.SnapHead:], 0x1000) },
		"variables":     func(b []byte) { put(b[64:], 0) },
		"page's end":    func(b []byte) { put(b[abi.SnapHead:], 1<<63) },
		"page's length": func(b []byte) { put(b[abi.SnapHead+8:], 1<<62) },
		"no length":     func(b []byte) { put(b[abi.SnapHead+8:], 0) },
		"page's place":  func(b []byte) { put(b[abi.SnapHead+16:], 1<<62) },
		"page's header": func(b []byte) { put(b[abi.SnapHead+16:], 0) },
		"page's align":  func(b []byte) { b[abi.SnapHead+16]++ },
	} {
		b := content()
		change(b)
		m := good
		m.Sum = fmt.Sprintf("%x", sha256.Sum256(b))
		if err := check(t, forge(t, b, &m), image); err == nil {
			t.Errorf("%s of the header: not refused", name)
		}
	}
}

// TestBomb: a small file never takes more room than it says, nor than its size allows.
func TestBomb(t *testing.T) {
	cache := t.TempDir()
	t.Setenv("XDG_CACHE_HOME", cache)
	var packed bytes.Buffer
	big := make([]byte, 4<<20)
	for i := range big {
		big[i] = 1
	}
	copy(big, content())
	if _, err := compress(t.Context(), &packed, bytes.NewReader(big)); err != nil {
		t.Fatal(err)
	}
	try := func(what string, size int64) {
		t.Helper()
		m := meta("/image")
		m.Version, m.ABI, m.Compression, m.Size, m.Stored = Version, abi.Version, "zstd", size, int64(packed.Len())
		s, err := Open(forge(t, packed.Bytes(), &m))
		if err == nil {
			s.Close()
			t.Fatalf("%s: it was opened", what)
		}
		t.Log(what+":", err)
	}
	try("more than it says", abi.SnapData)
	try("less than it says", int64(len(big))+1)
	try("more than is believed", int64(packed.Len())*(maxRatio+1))
	try("more than there is room for", maxSize+1)
	packed.Reset()
	packed.Write([]byte{0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x88}) // a frame with a window of 256 MiB …
	packed.Write(bytes.Repeat([]byte{0x02, 0, 0x10, 1}, 1000))
	try("a large window", abi.SnapData)
	if left, _ := os.ReadDir(filepath.Join(cache, "noyau")); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestForeignImage(t *testing.T) {
	path, image := save(t, Options{}, content())
	other := image + ".2"
	if err := os.WriteFile(other, []byte("another image"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := check(t, path, other); err == nil || !strings.Contains(err.Error(), "another image") {
		t.Errorf("error %v, want one that says that the image is another", err)
	}
}

// TestFailure wants no half snapshot, whatever fails, and that an older one stays.
func TestFailure(t *testing.T) {
	var cancel context.CancelFunc
	for name, dump := range map[string]func(context.Context, *os.File, *Meta) error{
		"who asked goes away": func(_ context.Context, f *os.File, _ *Meta) error {
			cancel()
			_, err := f.Write(content())
			return err
		},
		"the guest fails":          func(context.Context, *os.File, *Meta) error { return errors.New("disk full") },
		"the guest writes less":    write([]byte("x")),
		"the guest writes rubbish": write(make([]byte, abi.SnapData)),
		"the size is a lie": func(_ context.Context, f *os.File, _ *Meta) error {
			b := content()
			binary.LittleEndian.PutUint64(b[16:], uint64(len(b)+1))
			_, err := f.Write(b)
			return err
		},
		"too many files": func(_ context.Context, f *os.File, m *Meta) error {
			m.Files = make([]volume.Record, 400_000)
			_, err := f.Write(content())
			return err
		},
	} {
		for _, o := range []Options{{}, {Compress: true}} {
			dir := t.TempDir()
			image := filepath.Join(dir, "app.img")
			os.WriteFile(image, []byte("an image"), 0o644)
			os.WriteFile(filepath.Join(dir, "s"), []byte("an older one"), 0o600)
			var ctx context.Context
			ctx, cancel = context.WithCancel(t.Context())
			if err := Save(ctx, filepath.Join(dir, "s"), Meta{Image: image}, o, dump); err == nil {
				t.Errorf("%s: no error", name)
			}
			cancel()
			left, _ := os.ReadDir(dir)
			if len(left) != 2 {
				t.Errorf("%s: %v is left", name, left)
			}
			if b, _ := os.ReadFile(filepath.Join(dir, "s")); string(b) != "an older one" {
				t.Errorf("%s: the older one is %q", name, b)
			}
		}
	}
}

// TestPlace: a snapshot takes the place of a file, by a symbolic link too, and of nothing else.
func TestPlace(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	image := at("app.img")
	os.WriteFile(image, []byte("an image"), 0o644)
	os.WriteFile(at("old"), []byte("an older one"), 0o600)
	os.Mkdir(at("dir"), 0o700)
	for to, name := range map[string]string{"old": "link", "dir": "dirlink", "nowhere": "dangling"} {
		if err := os.Symlink(to, at(name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := unix.Mkfifo(at("fifo"), 0o600); err != nil {
		t.Fatal(err)
	}
	before, _ := os.ReadDir(dir)
	for _, name := range []string{"dir", "dirlink", "dangling", "fifo", "nowhere/s", "app.img/s"} {
		ran := false
		err := Save(t.Context(), at(name), Meta{Image: image}, Options{}, func(context.Context, *os.File, *Meta) error { ran = true; return nil })
		if err == nil || ran || !strings.Contains(err.Error(), at(name)) && name != "dangling" {
			t.Errorf("%s: %v, the guest was asked: %v", name, err, ran)
		}
	}
	if after, _ := os.ReadDir(dir); !slices.EqualFunc(before, after, func(a, b os.DirEntry) bool { return a.Name() == b.Name() && a.Type() == b.Type() }) {
		t.Errorf("%v became %v", before, after)
	}
	if err := Save(t.Context(), at("link"), Meta{Image: image}, Options{}, write(content())); err != nil {
		t.Fatal(err)
	}
	if err := check(t, at("old"), image); err != nil {
		t.Error(err)
	}
	if to, err := os.Readlink(at("link")); to != "old" || err != nil {
		t.Errorf("the link is %q, %v", to, err)
	}
}
