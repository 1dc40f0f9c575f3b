package image

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"noyau.dev/abi"
)

// compile builds a small Go program from files (name → content) natively.
func compile(t *testing.T, files map[string]string, flags ...string) string {
	t.Helper()
	dir := t.TempDir()
	if files["go.mod"] == "" {
		files["go.mod"] = "module example.org/app\n\ngo 1.26\n"
	}
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	out := filepath.Join(dir, "out")
	cmd := exec.Command("go", append([]string{"build", "-o", out}, flags...)...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOWORK=off", "GOFLAGS=")
	if b, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, b)
	}
	return out
}

const hello = "package main\n\nfunc main() { println(\"hello\") }\n"

// The layout of the trailer is a promise to older and newer noyaus.
func TestTrailerGolden(t *testing.T) {
	m := Manifest{
		Format: 1, ABI: 1, Go: "go1.26.8", Path: "a/b", Module: Module{"a", "v1.0.0"},
		Bricks: []string{"sockets"}, Settings: map[string]string{"-tags": "x"}, Sizes: Sizes{File: 7, Split: Split{Of: "text"}},
	}
	got, err := m.encode()
	if err != nil {
		t.Fatal(err)
	}
	json := `{"format":1,"abi":1,"go":"go1.26.8","path":"a/b","module":{"path":"a","version":"v1.0.0"},` +
		`"bricks":["sockets"],"settings":{"-tags":"x"},"sizes":{"file":7,"text":0,"rodata":0,"data":0,"bss":0,` +
		`"pclntab":0,"symbols":0,"split":{"of":"text","app":0,"modules":0,"libos":0,"runtime":0,"std":0,"other":0}}}`
	tail, _ := hex.DecodeString("2a01000000000000" + hex.EncodeToString([]byte("NOYAUIMG")))
	if want := json + string(tail); string(got) != want {
		t.Errorf("trailer:\n got %q\nwant %q", got, want)
	}
}

func TestAppendOpen(t *testing.T) {
	path := compile(t, map[string]string{"main.go": hello})
	if _, err := Open(path); !errors.Is(err, ErrNotImage) || !strings.Contains(err.Error(), "noyau build") {
		t.Fatalf("plain executable: %v", err)
	}
	plain, _ := os.ReadFile(path)
	m := New()
	m.Go, m.Path = "go1.26.8", "example.org/app"
	for range 2 { // the second replaces the first
		got, err := Append(path, m)
		if err != nil {
			t.Fatal(err)
		}
		if got.Sizes.File != int64(len(plain)) || got.Sizes.Text == 0 || got.Sizes.Pclntab == 0 {
			t.Errorf("sizes not measured: %+v", got.Sizes)
		}
		m.Path = "example.org/again"
	}
	img, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer img.Close()
	if img.Manifest.Path != "example.org/again" || img.ELF.Size != int64(len(plain)) {
		t.Errorf("read back %+v, ELF of %d bytes", img.Manifest, img.ELF.Size)
	}
	if s := img.Manifest.Sizes.Split; s.Of != "symbols" || s.App == 0 || s.Runtime < s.App {
		t.Errorf("split: %+v", s)
	}
	if out, err := exec.Command(path).CombinedOutput(); err != nil || string(out) != "hello\n" {
		t.Errorf("with a manifest the executable no longer runs: %v %q", err, out)
	}
	if out, err := exec.Command("go", "version", "-m", path).CombinedOutput(); err != nil || !strings.Contains(string(out), "example.org/app") {
		t.Errorf("go version -m: %v %s", err, out)
	}
}

func TestStrippedSplit(t *testing.T) {
	path := compile(t, map[string]string{"main.go": hello}, "-ldflags=-s -w")
	s, err := Measure(path)
	if err != nil {
		t.Fatal(err)
	}
	if s.Split.Of != "text" || s.Split.App == 0 || s.Split.Runtime == 0 {
		t.Errorf("split of a stripped file: %+v", s.Split)
	}
}

// Each case damages a good image; Open must say what is wrong.
func TestOpenRefuses(t *testing.T) {
	path := compile(t, map[string]string{"main.go": hello})
	if _, err := Append(path, New()); err != nil {
		t.Fatal(err)
	}
	good, _ := os.ReadFile(path)
	phoff := 64 // the Go linker puts the program headers behind the ELF header
	tests := []struct {
		name   string
		damage func(b []byte) []byte
		want   string
	}{
		{"empty", func(b []byte) []byte { return nil }, "not an ELF file"},
		{"script", func(b []byte) []byte { return []byte("#!/bin/sh\n") }, "not an ELF file"},
		{"magic only", func(b []byte) []byte { return b[:4] }, "damaged"},
		{"headers only", func(b []byte) []byte { return b[:64] }, "damaged"},
		{"no magic", func(b []byte) []byte { return b[:len(b)-1] }, "no manifest"},
		{"length", func(b []byte) []byte { b[len(b)-16]++; return b }, "damaged"},
		{"huge length", func(b []byte) []byte { b[len(b)-9] = 0xff; return b }, "damaged"},
		{"json", func(b []byte) []byte { b[len(b)-17] = '!'; return b }, "damaged"},
		{"entry", func(b []byte) []byte { b[24+5] = 0x7f; return b }, "entry point"},
		{"machine", func(b []byte) []byte { b[18] = 0xb7; return b }, "EM_AARCH64"},
		{"wx", func(b []byte) []byte {
			for i := 0; i < 8; i++ {
				p := b[phoff+56*i:]
				if p[0] == 1 && p[4] == 5 { // PT_LOAD, R+X
					p[4] = 7
					return b
				}
			}
			panic("no text segment")
		}, "both writable and executable"},
		{"pie", func(b []byte) []byte { b[16] = 3; return b }, "position independent"},
		{"interp", func(b []byte) []byte { b[phoff] = 3; return b }, "dynamically linked"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := filepath.Join(t.TempDir(), "img")
			if err := os.WriteFile(p, tt.damage(append([]byte(nil), good...)), 0o755); err != nil {
				t.Fatal(err)
			}
			_, err := Open(p)
			if !errors.Is(err, ErrNotImage) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want it to contain %q", err, tt.want)
			}
		})
	}
	if _, err := Open(t.TempDir()); !errors.Is(err, ErrNotImage) || !strings.Contains(err.Error(), "directory") {
		t.Errorf("directory: %v", err)
	}
	if _, err := Open(filepath.Join(t.TempDir(), "none")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("missing file: %v", err)
	}
}

func TestABIMismatch(t *testing.T) {
	path := compile(t, map[string]string{"main.go": hello})
	for _, v := range []int{abi.Version + 1, abi.Version - 1} {
		m := New()
		m.ABI = v
		b, _ := (&m).encode()
		plain, _ := os.ReadFile(path)
		p := filepath.Join(t.TempDir(), "img")
		os.WriteFile(p, append(plain, b...), 0o755)
		_, err := Open(p)
		var mismatch *ABIError
		if !errors.As(err, &mismatch) || mismatch.Have != v {
			t.Fatalf("ABI %d: %v", v, err)
		}
		img, err := Inspect(p)
		if err != nil {
			t.Fatalf("Inspect must read other ABI versions: %v", err)
		}
		img.Close()
	}
}

// Whatever a file holds, the checks of Open end, without a panic, and what they
// accept is within the file.
func FuzzRead(f *testing.F) {
	m := New()
	trailer, _ := m.encode()
	f.Add(append(tinyELF(), trailer...))
	f.Add(tinyELF())
	f.Add(trailer)
	f.Fuzz(func(t *testing.T, b []byte) {
		r := bytes.NewReader(b)
		facts, err := readELF(r, r.Size())
		if err != nil {
			return
		}
		if facts.Size > r.Size() {
			t.Errorf("an ELF of %d bytes in a file of %d", facts.Size, r.Size())
		}
		facts.check()
		readTrailer(r, r.Size(), facts.Size)
	})
}

// tinyELF is the smallest executable that is accepted: headers and one byte of
// code.
func tinyELF() []byte {
	var b bytes.Buffer
	h := elf.Header64{
		Type: uint16(elf.ET_EXEC), Machine: uint16(elf.EM_X86_64), Version: 1, Entry: 0x400000,
		Phoff: 64, Ehsize: 64, Phentsize: 56, Phnum: 1, Shentsize: 64,
	}
	copy(h.Ident[:], "\x7fELF\x02\x01\x01")
	binary.Write(&b, binary.LittleEndian, h)
	binary.Write(&b, binary.LittleEndian, elf.Prog64{
		Type: uint32(elf.PT_LOAD), Flags: uint32(elf.PF_R | elf.PF_X), Off: 120, Vaddr: 0x400000, Filesz: 1, Memsz: 1, Align: 1,
	})
	return append(b.Bytes(), 0xf4)
}

func TestTinyELF(t *testing.T) {
	b := tinyELF()
	facts, err := readELF(bytes.NewReader(b), int64(len(b)))
	if err != nil || facts.check() != nil || facts.Size != int64(len(b)) {
		t.Errorf("%+v %v", facts, err)
	}
}
