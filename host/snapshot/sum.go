package snapshot

import (
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"slices"
	"sync"
	"syscall"

	"noyau.dev/abi"
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

// A known is what was found out about states of files. It is bounded.
type known[K comparable, V any] struct {
	mu sync.Mutex
	m  map[K]V
}

// maxKnown bounds it.
const maxKnown = 256

func (m *known[K, V]) get(k K) (v V, ok bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	v, ok = m.m[k]
	return v, ok
}

func (m *known[K, V]) put(k K, v V) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.m == nil || len(m.m) >= maxKnown {
		m.m = make(map[K]V)
	}
	m.m[k] = v
}

// sums remembers what was computed, so that many pVMs made of one file cost one look.
var sums known[sumKey, string]

type sumKey struct {
	Identity
	n int64
}

func cachedSum(f *os.File, n int64) (string, error) {
	id, err := identify(f)
	if err != nil {
		return "", err
	}
	key := sumKey{id, n}
	if s, ok := sums.get(key); ok {
		return s, nil
	}
	s, err := sum(f, n)
	if err == nil {
		sums.put(key, s)
	}
	return s, err
}

// checked remembers files that were found to be snapshots, with what they say. Those of families
// say much, and compressed ones are to be unpacked: they are looked at each time.
var checked known[Identity, contents]

type contents struct {
	meta   Meta
	header abi.SnapHeader
}

// remember notes that s was checked.
func (s *File) remember(id Identity) {
	if s.Family == nil && s.Compression == "" {
		checked.put(id, contents{s.Meta.clone(), s.Header})
	}
}

// recall makes s what was found out about this state of the file, if that is known.
func (s *File) recall(id Identity) bool {
	c, ok := checked.get(id)
	if ok {
		s.Meta, s.Header, s.Headers = c.meta.clone(), c.header, []abi.SnapHeader{c.header}
	}
	return ok
}

// clone is a copy that shares nothing with m, which has no family.
func (m Meta) clone() Meta {
	m.Processor, m.Args, m.Env, m.Publish = slices.Clone(m.Processor), slices.Clone(m.Args), slices.Clone(m.Env), slices.Clone(m.Publish)
	m.Volumes, m.Files = slices.Clone(m.Volumes), slices.Clone(m.Files)
	for i := range m.Files {
		m.Files[i].Locks = slices.Clone(m.Files[i].Locks)
	}
	return m
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
