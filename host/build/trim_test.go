package build

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

// entry makes an entry of a cache that was used so long ago.
func entry(t *testing.T, cache, name string, ago time.Duration, size int) string {
	t.Helper()
	dir := filepath.Join(cache, name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "x"), make([]byte, size), 0o644); err != nil {
		t.Fatal(err)
	}
	at := time.Now().Add(-ago)
	if err := os.Chtimes(dir, at, at); err != nil {
		t.Fatal(err)
	}
	return dir
}

func left(t *testing.T, cache string) (names []string) {
	t.Helper()
	for _, kind := range []string{"build", "goroot", "runner"} {
		list, _ := os.ReadDir(filepath.Join(cache, kind))
		for _, e := range list {
			names = append(names, kind+"/"+e.Name())
		}
	}
	return names
}

func TestTrim(t *testing.T) {
	cache := t.TempDir()
	const kb, day = 1 << 10, 24 * time.Hour
	entry(t, cache, "build/old", 6*day, 4*kb)
	entry(t, cache, "build/halfway.old-trim", 6*day, 4*kb)
	entry(t, cache, "build/a", 3*day, 64*kb)
	entry(t, cache, "build/b", 2*day, 64*kb)
	entry(t, cache, "build/c", time.Minute, 64*kb)
	entry(t, cache, "goroot/old", 6*day, 4*kb)
	entry(t, cache, "goroot/.making-1", 6*day, 4*kb)
	entry(t, cache, "goroot/new", day, 4*kb)
	entry(t, cache, "runner/old", 60*day, 4*kb) // asked for by nothing that could mark it
	trimTo(cache, time.Now(), 1<<20)
	if got, want := left(t, cache), []string{"build/a", "build/b", "build/c", "goroot/new", "runner/old"}; !slices.Equal(got, want) {
		t.Errorf("with room: %q, want %q", got, want)
	}
	trimTo(cache, time.Now(), 150*kb)
	if got, want := left(t, cache), []string{"build/b", "build/c", "goroot/new", "runner/old"}; !slices.Equal(got, want) {
		t.Errorf("one too many: %q, want %q", got, want)
	}
	trimTo(cache, time.Now(), 0)
	if got, want := left(t, cache), []string{"build/c", "runner/old"}; !slices.Equal(got, want) {
		t.Errorf("no room: %q, want %q; what was just used stays", got, want)
	}
}

// It is looked at once in a while, not at each build, and use keeps an entry.
func TestTrimSeldom(t *testing.T) {
	cache := t.TempDir()
	t.Setenv("XDG_CACHE_HOME", filepath.Dir(cache))
	now := time.Now()
	trim(cache, now)
	entry(t, cache, "build/old", 6*24*time.Hour, 1)
	trim(cache, now.Add(trimEvery/2))
	if got := left(t, cache); len(got) != 1 {
		t.Errorf("looked at again: %q", got)
	}
	used(filepath.Join(cache, "build/old"))
	trim(cache, now.Add(2*trimEvery))
	if got := left(t, cache); len(got) != 1 {
		t.Errorf("in use: %q", got)
	}
	trim(cache, now.Add(trimAfter+3*trimEvery))
	if got := left(t, cache); len(got) != 0 {
		t.Errorf("still there: %q", got)
	}
}

// An image of the cache that a pVM is restored with stays; others are not touched.
func TestUsed(t *testing.T) {
	home := t.TempDir()
	t.Setenv("XDG_CACHE_HOME", home)
	for name, want := range map[string]bool{"noyau/build/e": true, "elsewhere/build/e": false} {
		dir := entry(t, home, name, 4*24*time.Hour, 1)
		Used(filepath.Join(dir, "x"))
		st, err := os.Stat(dir)
		if err != nil {
			t.Fatal(err)
		}
		if got := time.Since(st.ModTime()) < time.Hour; got != want {
			t.Errorf("%s: marked %v, want %v", name, got, want)
		}
	}
}
