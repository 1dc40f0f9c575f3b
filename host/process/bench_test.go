package process

import (
	"os"
	"os/exec"
	"testing"
)

// The same static ELF that ends at once, launched by this package and by
// os/exec. The work of the image is the same: nothing.

func BenchmarkStart(b *testing.B) {
	img := new(code).exit(0).file(b)
	files := testFiles(b)
	if _, err := theJail(); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		p, err := Start(Spec{Image: img, Args: []string{"guest"}, Files: files, Tick: 10e6})
		if err != nil {
			b.Fatal(err)
		}
		if st, _ := p.Wait(); st != (Status{}) {
			b.Fatal(st)
		}
	}
}

func BenchmarkExec(b *testing.B) {
	img := new(code).exit(0).file(b)
	files := testFiles(b)
	for b.Loop() {
		cmd := exec.Command(img.Name())
		cmd.Stdin, cmd.Stdout, cmd.Stderr = files[0], files[1], files[2]
		cmd.ExtraFiles = files[3:]
		cmd.Env = []string{}
		if err := cmd.Run(); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkJail is what the first start of a process pays once.
func BenchmarkJail(b *testing.B) {
	for b.Loop() {
		j, err := makeJail()
		if err != nil {
			b.Fatal(err)
		}
		j.close()
	}
}

func testFiles(t testing.TB) []*os.File {
	t.Helper()
	var list []*os.File
	for range 6 {
		f, err := os.OpenFile("/dev/null", os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		list = append(list, f)
	}
	return list
}
