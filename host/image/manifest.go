package image

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"noyau.dev/abi"
)

// Format is the version of the manifest's own layout.
const Format = 1

// A Manifest describes what an image was made from. It is written as JSON;
// fields may be added without a new Format, unknown ones are ignored.
type Manifest struct {
	Format   int               `json:"format"`
	ABI      int               `json:"abi"`              // abi.Version of the library OS inside
	Go       string            `json:"go"`               // toolchain: "go1.26.8"
	Path     string            `json:"path"`             // import path of the main package
	Module   Module            `json:"module"`           // the main module
	Bricks   []string          `json:"bricks,omitempty"` // parts of the library OS that it has
	Settings map[string]string `json:"settings,omitempty"`
	Noyau    string            `json:"noyau,omitempty"` // version of the noyau command that built it
	Sizes    Sizes             `json:"sizes"`
}

// BrickFork is among the bricks of an image whose program may want to fork.
const BrickFork = "fork"

// A Module names a Go module. Version is "(devel)" or empty for a checkout.
type Module struct {
	Path    string `json:"path,omitempty"`
	Version string `json:"version,omitempty"`
}

// Sizes are in bytes of the file; only Bss is memory.
type Sizes struct {
	File    int64 `json:"file"`    // the ELF file, without the manifest
	Text    int64 `json:"text"`    // machine code
	Rodata  int64 `json:"rodata"`  // constants, type descriptors
	Data    int64 `json:"data"`    // initialised variables
	Bss     int64 `json:"bss"`     // zeroed variables: memory, not file
	Pclntab int64 `json:"pclntab"` // the runtime's function table
	Symbols int64 `json:"symbols"` // symbol table and DWARF: not loaded
	Split   Split `json:"split"`
}

// Split says whose the code and data are. Of says what was counted: "symbols"
// (text, rodata and data) or "text" (the image was linked with -s).
type Split struct {
	Of      string `json:"of"`
	App     int64  `json:"app"`     // the main module
	Modules int64  `json:"modules"` // modules that the app requires
	LibOS   int64  `json:"libos"`
	Runtime int64  `json:"runtime"` // the Go runtime
	Std     int64  `json:"std"`     // the rest of the standard library
	Other   int64  `json:"other"`   // type descriptors, strings, not attributable
}

// New returns a manifest with Format and ABI of this program.
func New() Manifest { return Manifest{Format: Format, ABI: abi.Version} }

// The trailer: the manifest as JSON, its length as 8 bytes little endian, then
// trailerMagic. Whoever reads it starts at the file's end.
const (
	trailerMagic = "NOYAUIMG"
	trailerTail  = 16
	maxManifest  = 1 << 20
)

// encode returns m's trailer.
func (m *Manifest) encode() ([]byte, error) {
	b, err := json.Marshal(m)
	if err != nil {
		return nil, err
	}
	if len(b) > maxManifest {
		return nil, fmt.Errorf("the manifest has %d bytes, %d are allowed", len(b), maxManifest)
	}
	n := uint64(len(b))
	return append(abi.Append64(b, n), trailerMagic...), nil
}

// Append makes the ELF file at path an image: it writes m after the file's last
// byte, in place of an earlier manifest if there is one. Sizes that are zero in
// m are measured first. The file must be one that Open would accept, apart from
// the manifest.
func Append(path string, m Manifest) (Manifest, error) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return m, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return m, err
	}
	facts, err := readELF(f, st.Size())
	if err != nil {
		return m, &NotImageError{path, err.Error()}
	}
	if err := facts.check(); err != nil {
		return m, &NotImageError{path, err.Error()}
	}
	if m.Format == 0 {
		m.Format = Format
	}
	if m.ABI == 0 {
		m.ABI = abi.Version
	}
	if m.Sizes == (Sizes{}) {
		if m.Sizes, err = Measure(path); err != nil {
			return m, err
		}
	}
	b, err := m.encode()
	if err != nil {
		return m, err
	}
	if err := f.Truncate(facts.Size); err != nil {
		return m, err
	}
	if _, err := f.WriteAt(b, facts.Size); err != nil {
		return m, fmt.Errorf("append the manifest: %w", err)
	}
	return m, f.Close()
}

// readTrailer finds the manifest between the ELF's end and the file's.
func readTrailer(r io.ReaderAt, size, elfSize int64) (*Manifest, error) {
	const plain = "it has no manifest; was it built with plain go build? use noyau build"
	if size < elfSize+trailerTail {
		return nil, errors.New(plain)
	}
	var tail [trailerTail]byte
	if _, err := r.ReadAt(tail[:], size-trailerTail); err != nil {
		return nil, err
	}
	n, _, _ := abi.Take64(tail[:])
	if string(tail[8:]) != trailerMagic {
		return nil, errors.New(plain)
	}
	if n > maxManifest || int64(n) != size-trailerTail-elfSize {
		return nil, fmt.Errorf("its manifest is damaged (length %d, room for %d); build it again with noyau build", n, size-trailerTail-elfSize)
	}
	b := make([]byte, n)
	if _, err := r.ReadAt(b, elfSize); err != nil {
		return nil, err
	}
	m := new(Manifest)
	if err := json.Unmarshal(b, m); err != nil {
		return nil, fmt.Errorf("its manifest is damaged (%v); build it again with noyau build", err)
	}
	if m.Format != Format {
		return nil, fmt.Errorf("its manifest has format %d, this noyau reads format %d; build it again with noyau build", m.Format, Format)
	}
	return m, nil
}
