package snapshot

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/sys/unix"

	"noyau.dev/abi"
)

const (
	zstdName = "zstd"
	// maxRatio bounds what a compressed byte may stand for. Pages of zeros, which shrink
	// further than all else, are mostly not in a snapshot.
	maxRatio  = 1024
	maxWindow = 8 << 20 // of the decoder's memory
	// maxSize is more than any pVM can write.
	maxSize = abi.RegionMax + 8<<30
)

// compress writes r to w and returns how many bytes that took.
func compress(ctx context.Context, w io.Writer, r io.Reader) (int64, error) {
	n := counter{w: w}
	z, err := zstd.NewWriter(&n, zstd.WithWindowSize(maxWindow), zstd.WithEncoderConcurrency(2))
	if err != nil {
		return 0, err
	}
	_, err = io.Copy(z, ctxReader{ctx, r})
	if cerr := z.Close(); err == nil {
		err = cerr
	}
	return n.n, err
}

type counter struct {
	w io.Writer
	n int64
}

func (c *counter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}

type ctxReader struct {
	ctx context.Context
	r   io.Reader
}

func (r ctxReader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.r.Read(p)
}

// expand makes a file without a name of what is compressed in f, and returns its sum. It
// takes what m says or less: never more room, and no more memory than a window.
func expand(f *os.File, m *Meta) (data *os.File, hash string, err error) {
	dir, err := scratch()
	if err != nil {
		return nil, "", err
	}
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err == nil && fs.Bavail < uint64(m.Size)/uint64(fs.Bsize) {
		return nil, "", fmt.Errorf("%s takes %d MiB when it is not compressed, and %s has room for %d; set XDG_CACHE_HOME to a place with more",
			f.Name(), m.Size>>20, dir, fs.Bavail*uint64(fs.Bsize)>>20)
	}
	tmp, data, err := nameless()
	if err != nil {
		return nil, "", err
	}
	defer tmp.Close()
	if hash, err = expandTo(tmp, f, m); err != nil {
		data.Close()
		if errors.Is(err, unix.ENOSPC) {
			return nil, "", fmt.Errorf("%s cannot be unpacked: %w; set XDG_CACHE_HOME to a place with more room", f.Name(), err)
		}
		return nil, "", badf("%s is damaged: %w", f.Name(), err)
	}
	return data, hash, nil
}

// nameless makes a file that nobody can find by a name, to write, and the same to read: others
// get it read-only.
func nameless() (w, r *os.File, err error) {
	dir, err := scratch()
	if err != nil {
		return nil, nil, err
	}
	if w, err = os.CreateTemp(dir, ".noyau-restore-"); err != nil {
		return nil, nil, err
	}
	r, err = os.Open(w.Name())
	if rerr := os.Remove(w.Name()); err == nil && rerr != nil {
		r.Close()
		err = rerr
	}
	if err != nil {
		w.Close()
		return nil, nil, err
	}
	return w, r, nil
}

func expandTo(w *os.File, f io.ReaderAt, m *Meta) (string, error) {
	z, err := zstd.NewReader(io.NewSectionReader(f, 0, m.Stored), zstd.WithDecoderConcurrency(1),
		zstd.WithDecoderMaxWindow(maxWindow), zstd.WithDecoderLowmem(true))
	if err != nil {
		return "", err
	}
	defer z.Close()
	h := sha256.New()
	buf := make([]byte, 1<<20)
	for at := int64(0); ; {
		n, err := io.ReadFull(z, buf)
		if at+int64(n) > m.Size {
			return "", fmt.Errorf("there is more in it than the %d bytes that it says", m.Size)
		}
		h.Write(buf[:n])
		if werr := writeSparse(w, buf[:n], at); werr != nil {
			return "", werr
		}
		at += int64(n)
		switch {
		case (err == io.EOF || err == io.ErrUnexpectedEOF) && at < m.Size:
			return "", fmt.Errorf("it has %d bytes, %d are missing", at, m.Size-at)
		case err == io.EOF || err == io.ErrUnexpectedEOF:
			return fmt.Sprintf("%x", h.Sum(nil)), w.Truncate(m.Size)
		case err != nil:
			return "", err
		}
	}
}

// writeSparse writes p but for its pages that are zero. at is a multiple of the page size.
func writeSparse(w io.WriterAt, p []byte, at int64) error {
	for len(p) > 0 {
		n := 0
		for n < len(p) && !isZero(p[n:min(n+abi.PageSize, len(p))]) {
			n = min(n+abi.PageSize, len(p))
		}
		if n > 0 {
			if _, err := w.WriteAt(p[:n], at); err != nil {
				return err
			}
		} else {
			n = min(abi.PageSize, len(p))
		}
		p, at = p[n:], at+int64(n)
	}
	return nil
}

var zeros [abi.PageSize]byte

func isZero(page []byte) bool { return bytes.Equal(page, zeros[:len(page)]) }

// scratch is where compressed snapshots are unpacked: on a disk, if there is one.
func scratch() (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return os.TempDir(), nil
	}
	dir := filepath.Join(cache, "noyau")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return os.TempDir(), nil
	}
	return dir, nil
}
