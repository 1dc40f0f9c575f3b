package volume

import (
	"fmt"
	"os"
	"testing"

	"noyau.dev/guest/linux"
	"noyau.dev/test/fsdiff"
)

// TestDifferential compares a volume with a directory of the same file system.
func TestDifferential(t *testing.T) {
	steps := 3000
	if testing.Short() {
		steps = 800
	}
	for seed := int64(1); seed <= 3; seed++ {
		t.Run(fmt.Sprint("seed", seed), func(t *testing.T) {
			native := t.TempDir()
			if err := os.Chmod(native, 0o755); err != nil {
				t.Fatal(err)
			}
			home := fmt.Sprintf("/v/seed%d", seed)
			fsdiff.Guest.Must(t, linux.SYS_MKDIR, home, 0o755)
			fsdiff.Run(t, seed, home, native, fsdiff.Options{Volume: true}, steps)
		})
	}
}
