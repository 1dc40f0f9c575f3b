package build

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// optional are the bricks that an image may go without.
var optional = []string{"event", "exec", "inotify", "ipc", "mem", "sock"}

// inspect returns what an image has of them.
func inspect(t *testing.T, img string) []string {
	t.Helper()
	code, stdout, stderr := run(t, "", nil, "inspect", "image", "--json", img)
	var m struct{ Bricks []string }
	if err := json.Unmarshal([]byte(stdout), &m); code != 0 || err != nil || len(m.Bricks) == 0 {
		t.Fatalf("exit code %d, %v\n%s%s", code, err, stdout, stderr)
	}
	slices.Sort(m.Bricks)
	return slices.DeleteFunc(m.Bricks, func(b string) bool { return !slices.Contains(optional, b) })
}

// TestBricks: a program has the bricks that it can reach, those that it cannot are not in the
// image, and what it has works.
func TestBricks(t *testing.T) {
	slow(t)
	dir := unpack(t, "bricks.txtar")
	for _, c := range []struct {
		pkg  string
		want string
	}{
		{"none", ""},
		{"pipe", "event"},
		{"command", "event exec"},
		{"fifo", "event"},
		{"epoll", "event"},
		{"inotify", "inotify"},
		{"mmap", "mem"},
		{"socket", "sock"},
		{"net", "sock"},
		{"number", "event inotify ipc mem sock"},
		{"xsys", "event inotify ipc mem sock"},
		{"assembly", "event inotify ipc mem sock"},
	} {
		t.Run(c.pkg, func(t *testing.T) {
			img := filepath.Join(t.TempDir(), "x.img")
			if code, _, stderr := run(t, dir, nil, "build", "-o", img, "./"+c.pkg); code != 0 {
				t.Fatal(stderr)
			}
			if got := strings.Join(inspect(t, img), " "); got != c.want {
				t.Errorf("its bricks are %q, want %q", got, c.want)
			}
			code, stdout, stderr := run(t, dir, nil, "run", img)
			if code != 0 || !strings.HasPrefix(stdout, "ok") {
				t.Errorf("exit code %d, %q\n%s", code, stdout, stderr)
			}
		})
	}
}

// TestSize: the image of a small program is not much larger than its native binary.
func TestSize(t *testing.T) {
	slow(t)
	for _, c := range []struct {
		pkg    string
		most   float64
		bricks string
	}{
		{"noyau.dev/examples/hello", 1.27, ""},
		{"noyau.dev/examples/api", 1.02, "event sock"},
		{"noyau.dev/examples/prefork", 1.04, "event inotify ipc mem sock"},
	} {
		t.Run(filepath.Base(c.pkg), func(t *testing.T) {
			dir := t.TempDir()
			native, img := filepath.Join(dir, "native"), filepath.Join(dir, "x.img")
			cmd := exec.Command("go", "build", "-o", native, c.pkg)
			cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			if code, _, stderr := run(t, ".", nil, "build", "-o", img, c.pkg); code != 0 {
				t.Fatal(stderr)
			}
			if got := strings.Join(inspect(t, img), " "); got != c.bricks {
				t.Errorf("its bricks are %q, want %q", got, c.bricks)
			}
			var size [2]int64
			for i, f := range []string{native, img} {
				st, err := os.Stat(f)
				if err != nil {
					t.Fatal(err)
				}
				size[i] = st.Size()
			}
			ratio := float64(size[1]) / float64(size[0])
			t.Logf("%d bytes natively, image %d: %.3f", size[0], size[1], ratio)
			if ratio > c.most {
				t.Errorf("%d bytes natively, image %d: %.3f times, want at most %.2f", size[0], size[1], ratio, c.most)
			}
		})
	}
}
