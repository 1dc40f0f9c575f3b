package snapshot

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"noyau.dev/abi"
)

// A File is a snapshot that was checked whole. Any number of pVMs can be made of it, and
// they share its pages.
type File struct {
	Meta
	Header  abi.SnapHeader
	Headers []abi.SnapHeader // of the members of a family; else of the pVM
	name    string
	data    *os.File // what the guest wrote, as it wrote it

	mu    sync.Mutex
	apart map[string]*os.File // see DataFor
}

// ErrBad is what errors are that are the file's fault: it is no snapshot, damaged, of another
// version, or of another image.
var ErrBad = errors.New("bad snapshot")

type badError struct{ error }

func (badError) Is(target error) bool { return target == ErrBad }
func (e badError) Unwrap() error      { return e.error }

// badf is fmt.Errorf for an error that is ErrBad.
func badf(format string, v ...any) error { return badError{fmt.Errorf(format, v...)} }

// Open reads the snapshot at path and refuses one that is damaged, or newer than this
// program. A compressed one is unpacked into a file that nobody else can see.
func Open(path string) (*File, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	s := &File{name: path, data: f}
	id, err := identify(f)
	if err == nil && s.recall(id) {
		return s, nil
	}
	if err == nil {
		s.Meta, err = Read(f)
	}
	if err == nil {
		err = s.checkProcessor(path, Processor())
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	var hash string
	if s.Compression != "" {
		s.data, hash, err = expand(f, &s.Meta)
		f.Close()
	} else if hash, err = cachedSum(f, s.Size); err != nil {
		err = badf("%s is damaged: %w", path, err)
	}
	if err == nil && hash != s.Sum {
		err = badf("%s is damaged: its content is not what was written", path)
	}
	if err == nil {
		if err = s.checkContent(); err != nil {
			err = badf("%s is no snapshot that can be used: %w", path, err)
		}
	}
	if err != nil {
		if s.data != nil {
			s.data.Close()
		}
		return nil, err
	}
	s.remember(id)
	return s, nil
}

// Close gives the file back. PVMs that were made of it go on.
func (s *File) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range s.apart {
		f.Close()
	}
	s.apart = nil
	return s.data.Close()
}

// Identity tells its content from that of other files.
func (s *File) Identity() (Identity, error) { return identify(s.data) }

// Extents is the table of pages of the pVM, in a family of the first.
func (s *File) Extents() ([]abi.Extent, error) {
	b := make([]byte, abi.SnapData)
	if _, err := s.data.ReadAt(b, 0); err != nil {
		return nil, err
	}
	list := make([]abi.Extent, s.Header.Extents)
	for i := range list {
		list[i] = abi.SnapExtentAt(b, i)
	}
	return list, nil
}

// Data is a descriptor of what the guest wrote, for reading, which the caller closes.
func (s *File) Data() (*os.File, error) { return again(s.data, s.name) }

// again is another descriptor of a file.
func again(f *os.File, name string) (*os.File, error) {
	raw, err := f.SyscallConn()
	if err != nil {
		return nil, err
	}
	fd := -1
	if cerr := raw.Control(func(n uintptr) { fd, err = unix.FcntlInt(n, unix.F_DUPFD_CLOEXEC, 0) }); cerr != nil {
		return nil, cerr
	}
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), name), nil
}

// CheckImage refuses an image that the snapshot was not made of.
func (s *File) CheckImage(image *os.File) error {
	h, err := SumImage(image)
	if err != nil {
		return err
	}
	if h != s.ImageSum {
		return badf("%s was made of another image than this %s; use the one that it was made of (%s at that time)", s.name, image.Name(), s.Image)
	}
	return nil
}

// CheckExec refuses an image that the members of a family which run the one of that name did
// not run.
func (s *File) CheckExec(name string, image *os.File) error {
	for _, x := range s.Family.Execs {
		if x.Name != name {
			continue
		}
		h, err := SumImage(image)
		if err == nil && h != x.Sum {
			err = badf("%s has members of another image than this %s for %s; use the one that it was made of (%s at that time)", s.name, image.Name(), name, x.Image)
		}
		return err
	}
	return nil
}

// Read reads the description of a snapshot, without a look at the rest.
func Read(f *os.File) (m Meta, err error) {
	bad := func(format string, v ...any) (Meta, error) {
		return Meta{}, badf("%s is no snapshot, or is damaged: %s", f.Name(), fmt.Sprintf(format, v...))
	}
	st, err := f.Stat()
	if err != nil {
		return m, err
	}
	if !st.Mode().IsRegular() {
		return bad("it is no file")
	}
	if st.Size() < int64(tail) {
		return bad("it is too short")
	}
	end := make([]byte, tail)
	if _, err := f.ReadAt(end, st.Size()-int64(tail)); err != nil {
		return m, err
	}
	n := binary.LittleEndian.Uint64(end[sha256.Size:])
	if string(end[sha256.Size+8:]) != magic || n > maxMeta || int64(n) > st.Size()-int64(tail) {
		return bad("it does not end as one")
	}
	b := make([]byte, n)
	if _, err := f.ReadAt(b, st.Size()-int64(tail)-int64(n)); err != nil {
		return m, err
	}
	if sha256.Sum256(b) != [sha256.Size]byte(end) {
		return bad("its description is not what was written")
	}
	err = json.Unmarshal(b, &m)
	if err != nil || m.Version != Version || m.ABI != abi.Version {
		var v struct{ Version, ABI int } // another version may have other fields
		if json.Unmarshal(b, &v) == nil && (v.Version != Version || v.ABI != abi.Version) {
			return Meta{}, badf("%s is a snapshot of version %d for ABI %d; this noyau has %d and %d: use the one that it was made with",
				f.Name(), v.Version, v.ABI, Version, abi.Version)
		}
		return bad("%v", err)
	}
	switch {
	case m.Compression != "" && m.Compression != zstdName:
		return bad("its compression %q is not known; a newer noyau may know it", m.Compression)
	case m.Stored != st.Size()-int64(tail)-int64(n),
		m.Compression == "" && m.Stored != m.Size,
		m.Size < abi.SnapData || m.Size > maxSize,
		m.Size/maxRatio > m.Stored:
		return bad("its size is wrong")
	}
	seen := make(map[uint32]bool)
	for _, r := range m.Files {
		if seen[r.Handle] || r.Handle >= m.NextHandle || int64(r.Volume) >= int64(len(m.Volumes)) {
			return bad("its list of open files is wrong")
		}
		seen[r.Handle] = true
	}
	if m.Family != nil {
		if wrong := m.Family.check(&m); wrong != "" || m.Files != nil {
			return bad("%s", wrong)
		}
	}
	return m, nil
}

// checkContent looks at what the guest wrote: whether a guest of this ABI can read it.
func (s *File) checkContent() error {
	b := make([]byte, abi.SnapData)
	for _, x := range s.All() {
		if err := s.checkHeader(b, &x); err != nil {
			return err
		}
	}
	s.Header = s.Headers[0]
	return nil
}

func (s *File) checkHeader(b []byte, x *Member) error {
	if _, err := s.data.ReadAt(b[:abi.SnapHead], x.At); err != nil {
		return err
	}
	if _, err := s.data.ReadAt(b[abi.SnapHead:][:abi.SnapEntries(b)*abi.SnapExtent], x.At+abi.SnapHead); err != nil {
		return err
	}
	h, wrong := abi.TakeSnap(b, uint64(s.Size))
	switch {
	case h.Magic == abi.SnapMagic && h.Version != abi.SnapVersion:
		return fmt.Errorf("its layout is version %d; this noyau has %d: use the one that it was made with", h.Version, abi.SnapVersion)
	case wrong != "":
		return errors.New(wrong)
	case h.Size != uint64(s.Size):
		return fmt.Errorf("it is of %d bytes and says %d", s.Size, h.Size)
	case h.Shared != 0:
		return errors.New("it is not complete")
	case int(h.AreaN) != len(x.Areas):
		return fmt.Errorf("member %d has %d pieces of shared memory and says %d", x.PID, len(x.Areas), h.AreaN)
	}
	s.Headers = append(s.Headers, h)
	return nil
}
