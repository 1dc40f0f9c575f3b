// Package snapshot is the file format of a pVM's state: what the guest wrote (package
// abi), compressed or not; then a description as JSON, its SHA-256, its length as 8 bytes
// little endian, and a magic. A file is checked whole before anything of it runs.
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
	"time"

	"golang.org/x/sys/unix"

	"noyau.dev/abi"
	"noyau.dev/host/volume"
)

// Version is that of the description. A file of another is refused.
const Version = 4

const (
	magic   = "NOYUSNAP"
	tail    = sha256.Size + 8 + len(magic)
	maxMeta = 16 << 20
)

// Meta describes a snapshot.
type Meta struct {
	Version     int
	ABI         int
	Size        int64  // bytes that the guest wrote
	Sum         string // SHA-256 of them
	Compression string `json:",omitempty"` // "zstd"; none
	Stored      int64  // bytes that they take in the file
	Image       string // path of the image when the snapshot was made
	ImageSum    string // SHA-256 of the image; for Save of the one that runs, or none
	Made        time.Time
	Processor   []string `json:",omitempty"` // as Processor returned then; none: not known

	// What the pVM was started with.
	Name, Arg0, Dir, Hostname string
	Args, Env                 []string
	UID, GID                  uint32
	Memory                    uint64
	Forks                     int
	Rights                    uint32 `json:",omitempty"` // that it had given up: abi.NarrowNet …
	Publish                   []string
	Volumes                   []volume.Spec // by number

	// What it had open of the volumes, and the number above all names of handles.
	Files      []volume.Record
	NextHandle uint32

	// Family is nil if it was saved alone. Else Files, NextHandle and Rights are in it.
	Family *Family `json:",omitempty"`
}

// Options of Save.
type Options struct {
	Compress bool
}

// Save makes the file path of what dump writes to an empty file; dump may complete the
// description. A failure leaves nothing there.
func Save(ctx context.Context, path string, m Meta, o Options, dump func(context.Context, *os.File, *Meta) error) (err error) {
	if path, err = place(path); err != nil {
		return err
	}
	if err := m.sumImage(); err != nil {
		return err
	}
	f, err := create(path)
	if err != nil {
		return err
	}
	defer func() { f.discard(err) }()
	if err := dump(ctx, f.File, &m); err != nil {
		return fmt.Errorf("snapshot: %w", err)
	}
	return finish(ctx, path, &f, m, o)
}

// SaveFamily is Save for a family, whose members write a file each, at the same time: dump
// returns them in the order of m.Family.Members, and completes that. create makes one. No member
// has the file itself, as it could still change what others have in it.
func SaveFamily(ctx context.Context, path string, m Meta, o Options,
	dump func(ctx context.Context, create func() (*os.File, error), m *Meta) ([]*os.File, error)) (err error) {
	if path, err = place(path); err != nil {
		return err
	}
	if err := m.sumImage(); err != nil {
		return err
	}
	f, err := create(path)
	if err != nil {
		return err
	}
	defer func() { f.discard(err) }()
	var all []*os.File
	defer func() {
		for _, d := range all {
			d.Close()
		}
	}()
	var mu sync.Mutex
	drafts, err := dump(ctx, func() (*os.File, error) {
		mu.Lock()
		defer mu.Unlock()
		d, err := create(path)
		if err != nil {
			return nil, err
		}
		d.unname()
		all = append(all, d.File)
		return d.File, nil
	}, &m)
	if err != nil {
		return fmt.Errorf("snapshot: %w", err)
	}
	if m.Family == nil || len(drafts) != len(m.Family.Members) {
		return errElse
	}
	if err := merge(f.File, drafts, &m); err != nil {
		return err
	}
	return finish(ctx, path, &f, m, o)
}

// sumImage puts down the sum of the image. That of the one that runs, if it is known, must be
// the same: a snapshot is of no use with another.
func (m *Meta) sumImage() error {
	h, err := SumFile(m.Image)
	switch {
	case err != nil:
		return fmt.Errorf("snapshot: the image that the pVM runs, which is needed to restore it: %w; put it back", err)
	case m.ImageSum != "" && h != m.ImageSum:
		return fmt.Errorf("snapshot: %s is not the image that the pVM runs, which is needed to restore it: it was changed after the start; put that one back", m.Image)
	}
	m.ImageSum = h
	return nil
}

// finish makes a whole file of what was written.
func finish(ctx context.Context, path string, d *draft, m Meta, o Options) (err error) {
	f := *d
	defer func() { *d = f }()
	head := make([]byte, abi.SnapHead)
	if _, err := f.ReadAt(head, 0); err != nil {
		return fmt.Errorf("snapshot: %w", err)
	}
	m.Version, m.ABI, m.Made = Version, abi.Version, time.Now()
	m.Size = int64(binary.LittleEndian.Uint64(head[abi.SnapSizeAt:]))
	if binary.LittleEndian.Uint64(head) != abi.SnapMagic || m.Size < abi.SnapData {
		return errElse
	}
	if m.Sum, err = sum(f, m.Size); err != nil {
		return err
	}
	if m.Stored = m.Size; o.Compress {
		c, err := create(path)
		if err != nil {
			return err
		}
		n, err := compress(ctx, c, io.NewSectionReader(f, 0, m.Size))
		if err != nil {
			c.discard(err)
			return fmt.Errorf("snapshot: %w", err)
		}
		// What shrinks so far that nobody would believe it is left as it is.
		if m.Size/maxRatio < n {
			f, c = c, f
			m.Compression, m.Stored = zstdName, n
		}
		c.discard(errDiscard)
	}
	if m.Compression == "" {
		punch(f.File, m.Size)
	}
	b, err := json.Marshal(m)
	if err != nil {
		return err
	}
	if len(b) > maxMeta {
		return fmt.Errorf("snapshot: its description has %d bytes, %d at most; the pVM has too many files open (%d)", len(b), maxMeta, len(m.Files))
	}
	n, h := len(b), sha256.Sum256(b)
	b = append(b, h[:]...)
	b = append(binary.LittleEndian.AppendUint64(b, uint64(n)), magic...)
	if _, err := f.WriteAt(b, m.Stored); err != nil {
		return err
	}
	if err := f.Truncate(m.Stored + int64(len(b))); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil { // nobody wants it any more
		return fmt.Errorf("snapshot: %w", err)
	}
	if err := f.put(path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

// syncDir makes a rename last.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	if err := d.Sync(); err != nil && !errors.Is(err, unix.EINVAL) { // file systems without it
		return err
	}
	return nil
}

// punch makes holes of the pages of the first n bytes that are zero. Where that is not
// possible they stay.
func punch(f *os.File, n int64) {
	raw, err := f.SyscallConn()
	if err != nil {
		return
	}
	hole := func(from, to int64) bool {
		err := errors.New("closed")
		raw.Control(func(fd uintptr) {
			err = unix.Fallocate(int(fd), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, from, to-from)
		})
		return err == nil
	}
	buf := make([]byte, 1<<20)
	from := int64(-1) // of the zero pages that were seen last
	at := int64(0)
	for at < n {
		k, err := f.ReadAt(buf[:min(int64(len(buf)), n-at)], at)
		if k < abi.PageSize && err != nil {
			break
		}
		for p := 0; p+abi.PageSize <= k; p += abi.PageSize {
			zero := isZero(buf[p : p+abi.PageSize])
			switch {
			case zero && from < 0:
				from = at + int64(p)
			case !zero && from >= 0:
				if !hole(from, at+int64(p)) {
					return
				}
				from = -1
			}
		}
		at += int64(k) &^ (abi.PageSize - 1)
		if k < len(buf) {
			break
		}
	}
	if from >= 0 && from < at {
		hole(from, at)
	}
}
