// Package snapshot is the file format of a pVM's state: what the guest wrote (package
// abi), then a description as JSON, its length as 8 bytes little endian, and a magic.
// A file is checked whole before anything of it runs.
package snapshot

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"noyau.dev/abi"
)

// Version is that of the description. A file of another is refused.
const Version = 1

const (
	magic   = "NOYUSNAP"
	tail    = 8 + len(magic)
	maxMeta = 4 << 20
)

// Meta describes a snapshot.
type Meta struct {
	Version  int
	ABI      int
	Size     int64  // bytes that the guest wrote
	Sum      string // SHA-256 of them
	Image    string // path of the image when the snapshot was made
	ImageSum string // SHA-256 of the image
	Made     time.Time

	// What the pVM was started with.
	Name, Arg0, Dir, Hostname string
	Args, Env                 []string
	UID, GID                  uint32
	Memory                    uint64
	Forks                     int
	Publish                   []string
}

// Save makes the file path of what dump writes to an empty file. A failure leaves
// nothing there.
func Save(ctx context.Context, path string, m Meta, dump func(context.Context, *os.File) error) (err error) {
	if m.ImageSum, err = SumFile(m.Image); err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".noyau-snapshot-")
	if err != nil {
		return err
	}
	defer f.Close()
	defer func() {
		if err != nil {
			os.Remove(f.Name())
		}
	}()
	if err := dump(ctx, f); err != nil {
		return fmt.Errorf("snapshot: %w", err)
	}
	head := make([]byte, abi.SnapHead)
	if _, err := f.ReadAt(head, 0); err != nil {
		return fmt.Errorf("snapshot: %w", err)
	}
	m.Version, m.ABI, m.Made = Version, abi.Version, time.Now()
	m.Size = int64(binary.LittleEndian.Uint64(head[16:]))
	if binary.LittleEndian.Uint64(head) != abi.SnapMagic || m.Size < abi.SnapData {
		return errors.New("snapshot: the pVM wrote something else")
	}
	if m.Sum, err = sum(f, m.Size); err != nil {
		return err
	}
	b, err := json.Marshal(m)
	if err != nil {
		return err
	}
	n := len(b)
	b = append(binary.LittleEndian.AppendUint64(b, uint64(n)), magic...)
	if _, err := f.WriteAt(b, m.Size); err != nil {
		return err
	}
	if err := f.Truncate(m.Size + int64(len(b))); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

func sum(f io.ReaderAt, n int64) (string, error) {
	h := sha256.New()
	if k, err := io.Copy(h, io.NewSectionReader(f, 0, n)); err != nil || k != n {
		return "", fmt.Errorf("it has %d bytes, %d are missing (%v)", k, n-k, err)
	}
	return fmt.Sprintf("%x", h.Sum(nil)), nil
}

// Read reads the description of a snapshot, without a look at the rest.
func Read(f *os.File) (m Meta, err error) {
	bad := func(why string) (Meta, error) {
		return Meta{}, fmt.Errorf("%s is no snapshot, or is damaged: %s", f.Name(), why)
	}
	st, err := f.Stat()
	if err != nil {
		return m, err
	}
	if !st.Mode().IsRegular() || st.Size() < int64(abi.SnapData+tail) {
		return bad("it is too short")
	}
	end := make([]byte, tail)
	if _, err := f.ReadAt(end, st.Size()-int64(tail)); err != nil {
		return m, err
	}
	n := binary.LittleEndian.Uint64(end)
	if string(end[8:]) != magic || n > maxMeta || int64(n) > st.Size()-int64(tail) {
		return bad("it does not end as one")
	}
	b := make([]byte, n)
	if _, err := f.ReadAt(b, st.Size()-int64(tail)-int64(n)); err != nil {
		return m, err
	}
	if err := json.Unmarshal(b, &m); err != nil {
		return bad(err.Error())
	}
	if m.Version != Version || m.ABI != abi.Version {
		return m, fmt.Errorf("%s is a snapshot of version %d for ABI %d; this noyau has %d and %d: use the one that it was made with",
			f.Name(), m.Version, m.ABI, Version, abi.Version)
	}
	if m.Size != st.Size()-int64(tail)-int64(n) {
		return bad("its size is wrong")
	}
	return m, nil
}

// identity says whether a file is still the one that was checked.
type identity struct {
	dev, ino    uint64
	size, mtime int64
}

func identify(f *os.File) (id identity, err error) {
	st, err := f.Stat()
	if err != nil {
		return id, err
	}
	if s, ok := st.Sys().(*syscall.Stat_t); ok {
		id = identity{uint64(s.Dev), s.Ino, s.Size, s.Mtim.Nano()}
	}
	return id, nil
}

// sums remembers what was computed, so that many pVMs made of one file cost one look.
var sums sync.Map

func cachedSum(f *os.File, n int64) (string, error) {
	id, err := identify(f)
	if err != nil {
		return "", err
	}
	type key struct {
		identity
		n int64
	}
	if s, ok := sums.Load(key{id, n}); ok {
		return s.(string), nil
	}
	s, err := sum(f, n)
	if err == nil {
		sums.Store(key{id, n}, s)
	}
	return s, err
}

// SumFile is the SHA-256 of a whole file.
func SumFile(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	return sumImage(f)
}

func sumImage(f *os.File) (string, error) {
	st, err := f.Stat()
	if err != nil {
		return "", err
	}
	return cachedSum(f, st.Size())
}

// Check reads the description and refuses a file that is damaged or of another image.
func Check(f, image *os.File) (Meta, error) {
	m, err := Read(f)
	if err != nil {
		return m, err
	}
	s, err := cachedSum(f, m.Size)
	if err != nil {
		return m, fmt.Errorf("%s is damaged: %w", f.Name(), err)
	}
	if s != m.Sum {
		return m, fmt.Errorf("%s is damaged: its content is not what was written", f.Name())
	}
	if s, err = sumImage(image); err != nil {
		return m, err
	}
	if s != m.ImageSum {
		return m, fmt.Errorf("%s was made of another image than this %s; use the one that it was made of (%s at that time)", f.Name(), image.Name(), m.Image)
	}
	return m, nil
}
