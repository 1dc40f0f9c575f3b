package snapshot

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
)

func names(t *testing.T, dir string) (list []string) {
	t.Helper()
	all, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range all {
		list = append(list, e.Name())
	}
	return list
}

// TestDraft: a draft that gets its place is all that there is then, one that is discarded is
// nowhere, and so with and without a name.
func TestDraft(t *testing.T) {
	for what, named := range map[string]bool{"as this file system has it": false, "with a name": true} {
		t.Run(what, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, "x")
			for _, content := range []string{"first", "second"} {
				d := newDraft(t, path, named)
				if _, err := d.WriteString(content); err != nil {
					t.Fatal(err)
				}
				err := d.put(path)
				d.discard(err)
				got, _ := os.ReadFile(path)
				if list := names(t, dir); err != nil || string(got) != content || len(list) != 1 {
					t.Fatalf("%v, %q, files %v", err, got, list)
				}
			}
			d := newDraft(t, path, named)
			d.discard(errDiscard)
			if list := names(t, dir); len(list) != 1 {
				t.Errorf("files %v", list)
			}
			d = newDraft(t, path, named)
			if err := d.put(dir); err == nil { // a directory with something in it
				t.Error("no error")
			} else {
				d.discard(err)
			}
			if list := names(t, dir); len(list) != 1 {
				t.Errorf("files %v", list)
			}
		})
	}
}

func newDraft(t *testing.T, path string, named bool) draft {
	t.Helper()
	if named {
		f, err := os.CreateTemp(filepath.Dir(path), draftPrefix)
		if err != nil {
			t.Fatal(err)
		}
		return draft{f, f.Name()}
	}
	d, err := create(path)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// TestNameless: while a snapshot is made there is nothing that a process which is killed could
// leave behind.
func TestNameless(t *testing.T) {
	dir := t.TempDir()
	path, image := filepath.Join(dir, "app.snap"), filepath.Join(t.TempDir(), "app.img")
	if err := os.WriteFile(image, []byte("an image"), 0o644); err != nil {
		t.Fatal(err)
	}
	if d := newDraft(t, path, false); d.name != "" {
		d.discard(errDiscard)
		t.Skip("this file system has no files without a name")
	}
	for _, o := range []Options{{}, {Compress: true}} {
		err := Save(t.Context(), path, meta(image), o, func(_ context.Context, f *os.File, _ *Meta) error {
			if list := names(t, dir); len(list) > 1 || len(list) == 1 && list[0] != "app.snap" {
				t.Errorf("files %v", list)
			}
			_, err := f.Write(content())
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		if st, err := os.Stat(path); err != nil || st.Mode() != 0o600 {
			t.Errorf("%v, %v", st, err)
		}
	}
	if err := Save(t.Context(), path, meta(image), Options{}, func(context.Context, *os.File, *Meta) error { return errors.New("no") }); err == nil {
		t.Error("no error")
	}
	if list := names(t, dir); len(list) != 1 {
		t.Errorf("files %v", list)
	}
}
