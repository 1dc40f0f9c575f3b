package volume

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"noyau.dev/abi"
)

func TestParseSpec(t *testing.T) {
	wd, _ := os.Getwd()
	for in, want := range map[string]string{
		"/a:/b": "/a:/b", "/a:/b:ro": "/a:/b:ro", "/a:/b:rw": "/a:/b", "./x:/b/": wd + "/x:/b", "/a:/b/../c": "/a:/c",
		"/a": "error: no guest path", "/a:b": "error: not absolute", ":/b": "error: host path is empty",
		"/a:/b:zz": "error: not an option", "/a:/": "error: root directory", "/a:/b:ro:x": "error: no guest path", "/a:/b\x00": "error: not absolute",
	} {
		v, err := ParseSpec(in)
		if w, bad := strings.CutPrefix(want, "error: "); bad {
			if err == nil || !strings.Contains(err.Error(), w) {
				t.Errorf("%q: %v, %v; want an error with %q", in, v, err, w)
			}
		} else if err != nil || v.String() != want {
			t.Errorf("%q: %v, %v; want %s", in, v, err, want)
		}
	}
}

func TestOwners(t *testing.T) {
	m := IDs{HostUID: 1000, HostGID: 100, GuestUID: 0, GuestGID: 5}
	for host, want := range map[uint32]uint32{1000: 0, 0: nobody, 33: 33} {
		if got := m.uid(host); got != want {
			t.Errorf("host user %d is seen as %d; want %d", host, got, want)
		}
	}
	for host, want := range map[uint32]uint32{100: 5, 5: nobody, 33: 33} {
		if got := m.gid(host); got != want {
			t.Errorf("host group %d is seen as %d; want %d", host, got, want)
		}
	}
	for _, tt := range []struct {
		want, is uint32
		id       int
		ok       bool
	}{{^uint32(0), 7, -1, true}, {7, 7, -1, true}, {0, 7, 1000, true}, {8, 7, 0, false}} {
		if id, ok := owner(tt.want, tt.is, 0, 1000); id != tt.id || ok != tt.ok {
			t.Errorf("chown to %d of a file of %d: %d, %v", tt.want, tt.is, id, ok)
		}
	}
}

func TestTimespec(t *testing.T) {
	for ns, want := range map[uint64]unix.Timespec{
		0: {}, 1: {Nsec: 1}, 1e9: {Sec: 1}, 1<<64 - 1: {Sec: -1, Nsec: 999999999}, abi.TimeOmit: {Nsec: unix.UTIME_OMIT},
	} {
		if got := timespec(ns); got != want {
			t.Errorf("%d: %+v; want %+v", ns, got, want)
		}
	}
}

func TestOpenErrors(t *testing.T) {
	file := filepath.Join(t.TempDir(), "f")
	os.WriteFile(file, nil, 0o600)
	for _, host := range []string{"/nowhere", file} {
		if r, err := Open(Spec{Host: host, Guest: "/d"}, 0, IDs{}); err == nil {
			r.Close()
			t.Errorf("%s: no error", host)
		}
	}
}

// What Open does to files that exist, are missing or are replaced meanwhile.
func TestOpenModes(t *testing.T) {
	dir := t.TempDir()
	r, err := Open(Spec{Host: dir, Guest: "/d"}, 3, IDs{HostUID: uint32(os.Geteuid()), HostGID: uint32(os.Getegid())})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	old := unix.Umask(0o077)
	defer unix.Umask(old)
	f, st, err := r.Open("new", unix.O_CREAT|unix.O_RDWR, 0o6666)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if st.Mode != unix.S_IFREG|0o666 || st.Dev != 4 {
		t.Errorf("%+v: want mode 666 whatever the monitor's umask, and no set-user-ID", st)
	}
	if err := r.Mkdir("sub", 0o777); err != nil {
		t.Fatal(err)
	}
	if st, _ := r.Stat("sub", true); st.Mode != unix.S_IFDIR|0o777 {
		t.Errorf("directory mode %o", st.Mode)
	}
	for _, tt := range []struct {
		path  string
		flags uint64
		want  error
	}{
		{"none", unix.O_RDONLY, unix.ENOENT},
		{"none/x", unix.O_CREAT | unix.O_WRONLY, unix.ENOENT},
		{"new/x", unix.O_RDONLY, unix.ENOTDIR},
		{"sub", unix.O_WRONLY, unix.EISDIR},
		{"sub", unix.O_CREAT, unix.EISDIR},
		{"", unix.O_RDWR, unix.EISDIR},
		{"new", unix.O_DIRECTORY, unix.ENOTDIR},
		{"new", unix.O_ACCMODE, unix.EINVAL},
		{"new", unix.O_CREAT | unix.O_DIRECTORY, unix.EINVAL},
		{"new", unix.O_CREAT | unix.O_EXCL, unix.EEXIST},
		{"new", unix.O_TRUNC | unix.O_RDWR, nil},
		{"new", unix.O_PATH, nil},
		{"sub", unix.O_DIRECTORY, nil},
		{".", unix.O_RDONLY, nil},
		{"new", unix.O_RDONLY | 1<<40, nil}, // unknown bits are ignored, as by open(2)
	} {
		f, _, err := r.Open(tt.path, tt.flags, 0o600)
		if err != tt.want {
			t.Errorf("open %q with %#o: %v; want %v", tt.path, tt.flags, err, tt.want)
		}
		if err == nil {
			f.Close()
		}
	}
}

// Two that create and remove one name must never see an error of the race.
func TestCreateRace(t *testing.T) {
	r, err := Open(Spec{Host: t.TempDir(), Guest: "/d"}, 0, IDs{})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range 3000 {
			r.Unlink("f", false)
		}
	}()
	for n := 0; ; n++ {
		f, _, err := r.Open("f", unix.O_CREAT|unix.O_RDWR, 0o600)
		if err != nil {
			t.Fatalf("after %d: %v", n, err)
		}
		f.Close()
		select {
		case <-done:
			return
		default:
		}
	}
}

func TestPlaceholder(t *testing.T) {
	fd, err := placeholder()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := unix.Pwrite(fd, []byte("x"), 0); err == nil {
		t.Error("a guest could write to the file that all directories share")
	}
	if err := unix.Ftruncate(fd, 100); err == nil {
		t.Error("a guest could grow it")
	}
}
