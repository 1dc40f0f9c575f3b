package fs

import (
	"fmt"
	"os"
	"testing"

	"noyau.dev/guest/linux"
	"noyau.dev/test/fsdiff"
)

// TestDifferential compares the in-memory tree with a real directory, on tmpfs
// if there is a tmpfs, since that is what the tree means to be.
func TestDifferential(t *testing.T) {
	steps := 20000
	if testing.Short() {
		steps = 4000
	}
	for seed := int64(1); seed <= 6; seed++ {
		t.Run(fmt.Sprint("seed", seed), func(t *testing.T) {
			fresh(t)
			base := t.TempDir()
			if dir, err := os.MkdirTemp("/dev/shm", "noyau"); err == nil {
				base = dir
				t.Cleanup(func() { os.RemoveAll(dir) })
			} else {
				t.Log("no tmpfs at /dev/shm, comparing with what is at ", base)
			}
			if err := os.Chmod(base, 0o755); err != nil {
				t.Fatal(err)
			}
			fsdiff.Guest.Must(t, linux.SYS_CHMOD, "/tmp", 0o755)
			fsdiff.Run(t, seed, "/tmp", base, fsdiff.Options{}, steps)
		})
	}
}
