package state

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
)

func logEntry(t *testing.T) *Entry {
	t.Helper()
	e, err := open(t).Create(Meta{Name: "log", Detached: true}, "")
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// drain reads all there is now.
func drain(t *testing.T, r *LogReader) (out, err []byte) {
	t.Helper()
	for {
		rec, e := r.Next()
		if errors.Is(e, io.EOF) {
			return out, err
		}
		if e != nil {
			t.Fatal(e)
		}
		if rec.Stream == "stderr" {
			err = append(err, rec.Data()...)
		} else {
			out = append(out, rec.Data()...)
		}
	}
}

func TestLogIsByteExact(t *testing.T) {
	e := logEntry(t)
	w, err := e.OpenLog(DefaultLogLimits)
	if err != nil {
		t.Fatal(err)
	}
	in := []string{"one\ntwo\nthr", "ee\n", "", "\n\n", "\xff\xfe\x00binary\n", "<&>\u2028 Grüße \"\\", strings.Repeat("ü", 3*maxRecord), strings.Repeat("\x80", 2*maxRecord), "<end"}
	for _, s := range in {
		if n, err := io.WriteString(w.Stream("stdout"), s); n != len(s) || err != nil {
			t.Fatalf("%d %v", n, err)
		}
		io.WriteString(w.Stream("stderr"), "!")
	}
	r := e.ReadLog()
	defer r.Close()
	out, stderr := drain(t, r)
	if string(out) != strings.Join(in, "") || string(stderr) != strings.Repeat("!", len(in)) {
		t.Errorf("read back %d bytes, wrote %d", len(out), len(strings.Join(in, "")))
	}
	io.WriteString(w.Stream("stdout"), "later\n")
	if out, _ := drain(t, r); string(out) != "later\n" {
		t.Errorf("followed: %q", out)
	}
	w.Close()
	if _, err := w.Stream("stdout").Write([]byte("x")); err == nil {
		t.Error("a closed log takes writes")
	}
}

func TestLogRotation(t *testing.T) {
	e := logEntry(t)
	limits := LogLimits{Size: 2000, Files: 3}
	w, err := e.OpenLog(limits)
	if err != nil {
		t.Fatal(err)
	}
	r := e.ReadLog() // follows from the start, keeping up: loses nothing
	defer r.Close()
	var want, got bytes.Buffer
	for i := range 500 {
		line := fmt.Sprintf("line %d\n", i)
		want.WriteString(line)
		io.WriteString(w.Stream("stdout"), line)
		if i%7 == 0 {
			out, _ := drain(t, r)
			got.Write(out)
		}
	}
	out, _ := drain(t, r)
	got.Write(out)
	if got.String() != want.String() {
		t.Errorf("the follower got %d bytes of %d", got.Len(), want.Len())
	}
	var total int64
	files, _ := os.ReadDir(e.Path())
	for _, f := range files {
		if strings.HasPrefix(f.Name(), "log") {
			st, _ := f.Info()
			total += st.Size()
		}
	}
	if total == 0 || total > limits.Size*int64(limits.Files) {
		t.Errorf("the log has %d bytes, at most %d are allowed", total, limits.Size*int64(limits.Files))
	}
	late := e.ReadLog()
	defer late.Close()
	if out, _ := drain(t, late); !bytes.HasSuffix(want.Bytes(), out) || len(out) == 0 {
		t.Errorf("a late reader got %q", out)
	}
}

// A monitor that was killed in the middle of a record, and rubbish, cost that
// record only.
func TestLogDamage(t *testing.T) {
	e := logEntry(t)
	os.WriteFile(e.Path("log"), []byte(`{"log":"a\n","stream":"stdout"}`+"\nrubbish\n"+strings.Repeat("x", 2*maxLine)+"\n"+`{"log":"b\n"`), 0o600)
	r := e.ReadLog()
	defer r.Close()
	if out, _ := drain(t, r); string(out) != "a\n" {
		t.Errorf("got %q", out)
	}
	f, _ := os.OpenFile(e.Path("log"), os.O_APPEND|os.O_WRONLY, 0)
	io.WriteString(f, `,"stream":"stdout"}`+"\n")
	f.Close()
	if out, _ := drain(t, r); string(out) != "b\n" {
		t.Errorf("got %q after the rest came", out)
	}
}
