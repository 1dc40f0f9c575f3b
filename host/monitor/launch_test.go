package monitor

import (
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestLaunchHandles holds that nothing is launched with a handle that is not open.
func TestLaunchHandles(t *testing.T) {
	open, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer open.Close()
	closed, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	var l launch
	l.give(open)
	if err := l.checkHandles(); err != nil {
		t.Fatal(err)
	}
	for _, bad := range []*os.File{nil, closed} {
		l := launch{handles: []*os.File{open, bad}}
		if err := l.checkHandles(); err == nil || !strings.Contains(err.Error(), "handle 1:") {
			t.Errorf("a handle that is not open: %v", err)
		}
		if _, err := unix.FcntlInt(fdOf(bad), unix.F_GETFD, 0); err != unix.EBADF {
			t.Errorf("its descriptor %d: %v, want EBADF", int(fdOf(bad)), err)
		}
	}
}
