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

// An Identity tells one state of a file from any other. It is comparable.
type Identity struct {
	dev, ino           uint64
	size, mtime, ctime int64
}

func identify(f *os.File) (id Identity, err error) {
	st, err := f.Stat()
	if err != nil {
		return id, err
	}
	if s, ok := st.Sys().(*syscall.Stat_t); ok {
		id = Identity{uint64(s.Dev), s.Ino, s.Size, s.Mtim.Nano(), s.Ctim.Nano()}
	}
	return id, nil
}

// sums remembers what was computed, so that many pVMs made of one file cost one look.
var sums = struct {
	sync.Mutex
	m map[sumKey]string
}{m: make(map[sumKey]string)}

type sumKey struct {
	Identity
	n int64
}

// maxSums bounds what is remembered.
const maxSums = 256

func cachedSum(f *os.File, n int64) (string, error) {
	id, err := identify(f)
	if err != nil {
		return "", err
	}
	key := sumKey{id, n}
	sums.Lock()
	s, ok := sums.m[key]
	sums.Unlock()
	if ok {
		return s, nil
	}
	if s, err = sum(f, n); err != nil {
		return "", err
	}
	sums.Lock()
	defer sums.Unlock()
	if len(sums.m) >= maxSums {
		clear(sums.m)
	}
	sums.m[key] = s
	return s, nil
}

// SumFile is the SHA-256 of a whole file.
func SumFile(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	return SumImage(f)
}

// SumImage is the SHA-256 of an open file.
func SumImage(f *os.File) (string, error) {
	st, err := f.Stat()
	if err != nil {
		return "", err
	}
	return cachedSum(f, st.Size())
}
