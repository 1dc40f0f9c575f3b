package snapshot

import (
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"sync"
	"syscall"
)

func sum(f io.ReaderAt, n int64) (string, error) {
	h := sha256.New()
	if k, err := io.Copy(h, io.NewSectionReader(f, 0, n)); err != nil || k != n {
		return "", fmt.Errorf("it has %d bytes, %d are missing (%v)", k, n-k, err)
	}
	return fmt.Sprintf("%x", h.Sum(nil)), nil
}

// identity says whether a file is still the one that was looked at.
type identity struct {
	dev, ino           uint64
	size, mtime, ctime int64
}

func identify(f *os.File) (id identity, err error) {
	st, err := f.Stat()
	if err != nil {
		return id, err
	}
	if s, ok := st.Sys().(*syscall.Stat_t); ok {
		id = identity{uint64(s.Dev), s.Ino, s.Size, s.Mtim.Nano(), s.Ctim.Nano()}
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
