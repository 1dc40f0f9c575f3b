package fs

import (
	"fmt"
	"math/rand"
	"sync"
	"testing"

	"noyau.dev/guest/linux"
	"noyau.dev/test/fsdiff"
)

// TestConcurrent has many goroutines work on the same few names, with watches
// and /proc/self/fd: nothing may hang, panic or race, and in the end the
// directory is empty and all its space given back.
func TestConcurrent(t *testing.T) {
	root := fresh(t)
	g := fsdiff.Guest
	before := root.quota.used
	in := g.Must(t, linux.SYS_INOTIFY_INIT1, linux.O_NONBLOCK)
	g.Must(t, linux.SYS_INOTIFY_ADD_WATCH, in, "/tmp", inAllEvents)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			r := rand.New(rand.NewSource(int64(i)))
			b := make([]byte, 4096)
			name := func() string { return fmt.Sprint("/tmp/", r.Intn(5)) }
			for range 1500 {
				switch r.Intn(8) {
				case 0, 1, 2:
					fd, e := g.Do(linux.SYS_OPEN, name(), linux.O_RDWR|linux.O_CREAT|linux.O_NONBLOCK, 0o644)
					if e != 0 {
						continue
					}
					g.Do(linux.SYS_PWRITE64, fd, b, len(b), r.Intn(200000))
					g.Do(linux.SYS_READLINK, fmt.Sprint("/proc/self/fd/", fd), b, len(b))
					g.Do(linux.SYS_FLOCK, fd, linux.LOCK_EX|linux.LOCK_NB)
					g.Do(linux.SYS_FTRUNCATE, fd, r.Intn(100000))
					g.Do(linux.SYS_CLOSE, fd)
				case 3:
					g.Do(linux.SYS_RENAME, name(), name())
				case 4:
					g.Do(linux.SYS_UNLINK, name())
				case 5:
					g.Do(linux.SYS_LINK, name(), name())
				case 6:
					if fd, e := g.Do(linux.SYS_OPEN, []string{"/tmp", "/proc/self/fd"}[r.Intn(2)], linux.O_DIRECTORY, 0); e == 0 {
						g.Names(fd)
						g.Do(linux.SYS_CLOSE, fd)
					}
				case 7:
					g.Do(linux.SYS_READ, in, b, len(b))
				}
			}
		})
	}
	wg.Wait()
	g.Must(t, linux.SYS_CLOSE, in)
	for i := range 5 {
		g.Do(linux.SYS_UNLINK, fmt.Sprint("/tmp/", i))
	}
	if root.quota.used != before || root.watched != 0 {
		t.Errorf("%d bytes and %d watches are left", root.quota.used-before, root.watched)
	}
	for _, s := range root.quota.pool.slabs {
		if s.used != 0 {
			t.Errorf("chunks %x of a slab are left", s.used)
		}
	}
}
