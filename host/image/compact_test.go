package image

import (
	"bytes"
	"debug/buildinfo"
	"debug/elf"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestCompact: a program whose segments begin at multiples of 2 MiB is as large as one
// whose segments lie behind one another, runs, and is the same for tools.
func TestCompact(t *testing.T) {
	const program = "package main\n\nimport \"fmt\"\n\nvar some [1 << 20]byte\n\nfunc main() { some[7]++; fmt.Println(\"hello\", some[7], some[8]) }\n"
	plain := compile(t, map[string]string{"main.go": program})
	wide := compile(t, map[string]string{"main.go": program}, "-ldflags=-R=0x200000")
	dense, again := filepath.Join(t.TempDir(), "dense"), filepath.Join(t.TempDir(), "again")
	if err := Compact(dense, wide); err != nil {
		t.Fatal(err)
	}
	size := func(path string) int64 {
		st, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		return st.Size()
	}
	if p, w, d := size(plain), size(wide), size(dense); d > p+4096 || w < d+1<<20 {
		t.Errorf("plain %d bytes, wide %d, compacted %d", p, w, d)
	}
	if out, err := exec.Command(dense).CombinedOutput(); err != nil || string(out) != "hello 1 0\n" {
		t.Errorf("it printed %q (%v)", out, err)
	}

	// Another time there is nothing left to do, nor is there in a plain one, but for what lies behind the segments.
	if err := Compact(again, dense); err != nil {
		t.Fatal(err)
	}
	a, _ := os.ReadFile(dense)
	b, _ := os.ReadFile(again)
	if !bytes.Equal(a, b) {
		t.Error("a compacted file changes when it is compacted")
	}

	_, ew, err := openELF(wide)
	if err != nil {
		t.Fatal(err)
	}
	_, ed, err := openELF(dense)
	if err != nil {
		t.Fatal(err)
	}
	if len(ew.Sections) != len(ed.Sections) || len(ew.Progs) != len(ed.Progs) {
		t.Fatalf("%d sections and %d segments became %d and %d", len(ew.Sections), len(ew.Progs), len(ed.Sections), len(ed.Progs))
	}
	apart := 0
	for i, p := range ed.Progs {
		q := ew.Progs[i]
		was, _ := readAll(q)
		is, err := readAll(p)
		if p.Off < 4096 { // the headers themselves
			n := min(4096-p.Off, p.Filesz)
			was, is = was[n:], is[n:]
		}
		if err != nil || !bytes.Equal(was, is) || p.Vaddr != q.Vaddr || p.Memsz != q.Memsz || p.Flags != q.Flags {
			t.Errorf("segment %+v became %+v (%v)", q.ProgHeader, p.ProgHeader, err)
		}
		if p.Type == elf.PT_LOAD {
			if (p.Vaddr-p.Off)%p.Align != 0 {
				t.Errorf("segment %+v: address and offset differ modulo its alignment", p.ProgHeader)
			}
			if p.Vaddr%(2<<20) == 0 {
				apart++
			}
		}
	}
	if apart < 3 {
		t.Errorf("%d segments begin at multiples of 2 MiB", apart)
	}
	for i, s := range ed.Sections {
		if s.Type == elf.SHT_NULL || s.Type == elf.SHT_NOBITS {
			continue
		}
		was, _ := ew.Sections[i].Data()
		is, err := s.Data()
		if err != nil || !bytes.Equal(was, is) || s.Name != ew.Sections[i].Name || s.Addralign > 1 && s.Offset%s.Addralign != 0 {
			t.Errorf("section %+v became %+v (%v)", ew.Sections[i].SectionHeader, s.SectionHeader, err)
		}
	}
	sw, _ := ew.Symbols()
	sd, err := ed.Symbols()
	if err != nil || !reflect.DeepEqual(sw, sd) || len(sd) == 0 {
		t.Errorf("%d symbols became %d (%v)", len(sw), len(sd), err)
	}
	if d, err := ed.DWARF(); err != nil {
		t.Error(err)
	} else if e, err := d.Reader().Next(); err != nil || e == nil {
		t.Errorf("debug information: %v, %v", e, err)
	}
	if info, err := buildinfo.ReadFile(dense); err != nil || info.Main.Path != "example.org/app" {
		t.Errorf("build information: %v, %v", info, err)
	}
	fw, _ := Functions(wide)
	fd, err := Functions(dense)
	if err != nil || !reflect.DeepEqual(fw, fd) {
		t.Errorf("%d functions became %d (%v)", len(fw), len(fd), err)
	}
	for _, tool := range [][]string{{"tool", "nm"}, {"tool", "buildid"}} {
		was, _ := exec.Command("go", append(tool, wide)...).Output()
		is, err := exec.Command("go", append(tool, dense)...).Output()
		if err != nil || !bytes.Equal(was, is) || len(is) == 0 {
			t.Errorf("go %s: %d bytes became %d (%v)", strings.Join(tool, " "), len(was), len(is), err)
		}
	}

	// The gaps of the original take no space on the disk afterwards.
	was, _ := os.ReadFile(wide)
	if err := Sparse(wide); err != nil {
		t.Fatal(err)
	}
	is, _ := os.ReadFile(wide)
	if !bytes.Equal(was, is) {
		t.Error("Sparse has changed the file")
	}
	var st unix.Stat_t
	if err := unix.Stat(wide, &st); err != nil || st.Blocks*512 > size(dense)+64<<10 {
		t.Errorf("the original takes %d bytes of the disk, the copy has %d (%v)", st.Blocks*512, size(dense), err)
	}
}

func readAll(p *elf.Prog) ([]byte, error) {
	b := make([]byte, p.Filesz)
	if len(b) == 0 {
		return b, nil
	}
	_, err := p.ReadAt(b, 0)
	return b, err
}

// TestCompactDamaged: what is no ELF file, or a damaged one, gives an error.
func TestCompactDamaged(t *testing.T) {
	path := compile(t, map[string]string{"main.go": hello})
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	bad, out := filepath.Join(t.TempDir(), "bad"), filepath.Join(t.TempDir(), "out")
	for _, n := range []int{0, 63, 100, 0x180} {
		if err := os.WriteFile(bad, whole[:n], 0o644); err != nil {
			t.Fatal(err)
		}
		if err := Compact(out, bad); err == nil {
			t.Errorf("%d bytes of a program were compacted", n)
		}
	}
}
