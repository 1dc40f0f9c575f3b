package volume

import (
	"os"
	"path/filepath"
	"testing"

	"noyau.dev/guest/linux"
)

// TestNested uses a volume that is mounted inside another.
func TestNested(t *testing.T) {
	write(t, "/v/nested/f", "within")
	if got, _ := os.ReadFile(filepath.Join(nested, "f")); string(got) != "within" {
		t.Errorf("the host's file: %q", got)
	}
	if _, err := os.Stat(filepath.Join(rw, "nested", "f")); err == nil {
		t.Error("it is in the outer volume too")
	}
	write(t, "/v/outer", "outside")
	if got := content(t, "/v/nested/../outer"); got != "outside" {
		t.Errorf("by way of ..: %q", got)
	}
	if got := content(t, "/v/nested/../nested/f"); got != "within" {
		t.Errorf("out and in: %q", got)
	}
	if _, e := g.Do(linux.SYS_RENAME, "/v/outer", "/v/nested/x"); e != linux.EXDEV {
		t.Errorf("rename between volumes: %v", e)
	}
	if _, e := g.Do(linux.SYS_RMDIR, "/v/nested"); e != linux.EBUSY {
		t.Errorf("removing a mount point: %v", e)
	}
}
