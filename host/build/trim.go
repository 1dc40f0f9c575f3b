package build

import (
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// The cache is trimmed as the go command trims its own: an entry, which is a directory, has
// the time of its last use as its time of modification. Those that nobody has used for long
// are removed, now and then, and those that were used longest ago if all take too much.
const (
	trimAfter = 5 * 24 * time.Hour
	trimSpare = time.Hour // an entry that was used since then stays whatever there is
	trimEvery = time.Hour
	trimBytes = 4 << 30
)

// used notes that the entry at dir is in use. Whoever does not get at the note has an
// entry that ends sooner.
func used(dir string) {
	now := time.Now()
	if st, err := os.Stat(dir); err == nil && now.Sub(st.ModTime()) > trimSpare/2 {
		os.Chtimes(dir, now, now)
	}
}

// Used notes that the image at path is in use, if it is one of the cache.
func Used(path string) {
	cache, err := CacheDir()
	if err != nil {
		return
	}
	if dir := filepath.Dir(path); filepath.Dir(dir) == filepath.Join(cache, "build") {
		used(dir)
	}
}

// trim removes what the cache does not need any more, if that was not looked at lately. A
// pVM that runs keeps the file of its image.
func trim(cache string, now time.Time) {
	mark := filepath.Join(cache, "trimmed")
	if st, err := os.Stat(mark); err == nil && now.Sub(st.ModTime()) < trimEvery && now.After(st.ModTime()) {
		return
	}
	if os.WriteFile(mark, nil, 0o644) != nil || os.Chtimes(mark, now, now) != nil {
		return
	}
	trimTo(cache, now, trimBytes)
}

type cached struct {
	dir  string
	used time.Time
	size int64
}

func trimTo(cache string, now time.Time, limit int64) {
	var list []cached
	total := int64(0)
	for _, kind := range []string{"build", "goroot"} {
		entries, _ := os.ReadDir(filepath.Join(cache, kind))
		for _, e := range entries {
			info, err := e.Info()
			if err != nil || !e.IsDir() {
				continue
			}
			c := cached{dir: filepath.Join(cache, kind, e.Name()), used: info.ModTime()}
			if now.Sub(c.used) > trimAfter {
				remove(c.dir)
				continue
			}
			c.size = diskUsage(c.dir)
			total += c.size
			list = append(list, c)
		}
	}
	slices.SortFunc(list, func(a, b cached) int { return a.used.Compare(b.used) })
	for _, c := range list {
		if total <= limit || now.Sub(c.used) < trimSpare {
			return
		}
		remove(c.dir)
		total -= c.size
	}
}

// remove removes an entry so that nobody finds half of it.
func remove(dir string) {
	if strings.Contains(filepath.Base(dir), ".old-") {
		os.RemoveAll(dir)
		return
	}
	old := dir + ".old-trim"
	os.RemoveAll(old)
	if os.Rename(dir, old) == nil {
		os.RemoveAll(old)
	}
}

// diskUsage is what the files beneath dir take, bytes; holes and links to elsewhere do not count.
func diskUsage(dir string) (n int64) {
	filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			if st, err := d.Info(); err == nil {
				n += st.Sys().(*syscall.Stat_t).Blocks * 512
			}
		}
		return nil
	})
	return n
}
