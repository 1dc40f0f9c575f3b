package volume

import (
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

func TestHeldLocks(t *testing.T) {
	const r, w, un = unix.F_RDLCK, unix.F_WRLCK, unix.F_UNLCK
	for i, tt := range []struct {
		sets [][3]int64
		want string
	}{
		{[][3]int64{{r, 0, 10}}, "[{0 0 10}]"},
		{[][3]int64{{r, 0, 10}, {un, 0, 0}}, "[]"},
		{[][3]int64{{r, 0, 10}, {w, 3, 2}}, "[{0 0 3} {0 5 5} {1 3 2}]"},
		{[][3]int64{{r, 0, 0}, {un, 5, 5}}, "[{0 0 5} {0 10 0}]"},
		{[][3]int64{{r, 5, 5}, {r, 20, 5}, {w, 7, 15}}, "[{0 5 2} {0 22 3} {1 7 15}]"},
		{[][3]int64{{w, math.MaxInt64 - 1, 0}, {un, math.MaxInt64 - 1, 1}}, "[{1 9223372036854775807 0}]"},
		{[][3]int64{{w, 10, math.MaxInt64}, {un, 0, 11}}, "[{1 11 0}]"},
	} {
		var h held
		for _, s := range tt.sets {
			h.set(int16(s[0]), s[1], s[2])
		}
		if _, got, err := h.list(); fmt.Sprint(got) != tt.want || err != nil {
			t.Errorf("%d: %v, %v; want %s", i, got, err, tt.want)
		}
	}
	var h held
	for i := range int64(maxHeld + 1) {
		h.set(w, 2*i, 1)
	}
	if _, _, err := h.list(); err != unix.EFBIG {
		t.Errorf("more locks than are known: %v", err)
	}
}

// TestRecord opens files again by their records, whatever they are called by then.
func TestRecord(t *testing.T) {
	dir := t.TempDir()
	r, err := Open(Spec{Host: dir, Guest: "/g"}, 3, IDs{})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	os.Mkdir(filepath.Join(dir, "d"), 0o755)
	f, _, err := r.Open("d/f", unix.O_RDWR|unix.O_CREAT|unix.O_EXCL|unix.O_TRUNC|unix.O_APPEND|unix.O_SYNC, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	unix.Write(f.fd, []byte("hello"))
	os.Rename(filepath.Join(dir, "d"), filepath.Join(dir, "e (deleted)"))
	rec, err := f.Record()
	if err != nil || rec.Path != "e (deleted)/f" || rec.Volume != 3 || rec.Size != 5 || rec.Gone || rec.Flags != unix.O_RDWR|unix.O_APPEND|unix.O_SYNC {
		t.Fatalf("%+v, %v", rec, err)
	}
	for _, same := range []bool{true, false} {
		g, err := r.Reopen(rec, same)
		if err != nil {
			t.Fatal(err)
		}
		again, err := g.Record()
		if fmt.Sprint(again) != fmt.Sprint(rec) || err != nil {
			t.Errorf("%+v, %v; want %+v", again, err, rec)
		}
		g.Close()
	}
	// A record from elsewhere cannot create, empty or reach more than an open could.
	for name, bad := range map[string]Record{
		"creates":  {Path: "new", Flags: unix.O_RDWR | unix.O_CREAT},
		"leaves":   {Path: "../x", Flags: unix.O_RDONLY},
		"absolute": {Path: "/etc/passwd", Flags: unix.O_RDONLY},
		"both":     {Path: "e (deleted)/f", Flags: unix.O_ACCMODE},
	} {
		if g, err := r.Reopen(bad, false); !errors.Is(err, ErrNotSame) {
			t.Errorf("%s: %v, %v", name, g, err)
		}
	}
	trunc := rec
	trunc.Flags |= unix.O_TRUNC
	if g, err := r.Reopen(trunc, true); err != nil {
		t.Error(err)
	} else {
		g.Close()
	}
	if b, _ := os.ReadFile(filepath.Join(dir, "e (deleted)", "f")); string(b) != "hello" {
		t.Errorf("the file was emptied: %q", b)
	}
	os.Remove(filepath.Join(dir, "e (deleted)", "f"))
	if rec, err = f.Record(); err != nil || !rec.Gone {
		t.Errorf("deleted: %+v, %v", rec, err)
	}
	os.WriteFile(filepath.Join(dir, "e (deleted)", "f (deleted)"), nil, 0o600)
	if rec, err = f.Record(); err != nil || !rec.Gone {
		t.Errorf("deleted, and there is another of that name: %+v, %v", rec, err)
	}
}
