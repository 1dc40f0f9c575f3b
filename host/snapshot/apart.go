package snapshot

import (
	"fmt"
	"io"
	"os"

	"noyau.dev/abi"
)

// DataFor is Data for member k of a family. One that is of another image than the first gets a
// file in which is what members of that image had, where it is in the whole file, and nothing
// of others: an image that is started again has the file in hand before it is what it was.
func (s *File) DataFor(k int) (*os.File, error) {
	if s.Family == nil || s.Family.Members[k].Exec == "" {
		return s.Data()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	name := s.Family.Members[k].Exec
	f := s.apart[name]
	if f == nil {
		var err error
		if f, err = s.takeApart(name); err != nil {
			return nil, fmt.Errorf("the members of the image %s: %w", name, err)
		}
		if s.apart == nil {
			s.apart = make(map[string]*os.File)
		}
		s.apart[name] = f
	}
	return again(f, s.name)
}

// takeApart makes the file of an image.
func (s *File) takeApart(image string) (*os.File, error) {
	w, f, err := nameless()
	if err != nil {
		return nil, err
	}
	defer w.Close()
	head := make([]byte, abi.SnapData)
	for i := range s.Family.Members {
		x := &s.Family.Members[i]
		if x.Exec != image {
			continue
		}
		if _, err = s.data.ReadAt(head, x.At); err == nil {
			_, err = w.WriteAt(head, x.At)
		}
		for k := 0; k < int(s.Headers[i].Extents) && err == nil; k++ {
			e := abi.SnapExtentAt(head, k)
			err = copySparse(w, s.data, int64(e.At), e.Len, int64(e.At))
		}
		if err != nil {
			break
		}
	}
	if err == nil {
		err = w.Truncate(s.Size)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// copySparse copies n bytes at from to a file that is zero there, at to. All are multiples of
// the page size.
func copySparse(w io.WriterAt, r io.ReaderAt, from int64, n uint64, to int64) error {
	b := make([]byte, min(n, 256<<10))
	for done := uint64(0); done < n; done += uint64(len(b)) {
		b = b[:min(uint64(len(b)), n-done)]
		if _, err := r.ReadAt(b, from+int64(done)); err != nil {
			return err
		}
		if err := writeSparse(w, b, to+int64(done)); err != nil {
			return err
		}
	}
	return nil
}

// CopyShare writes what is in the file of shared memory to a file of zeros, at off.
func (s *File) CopyShare(w io.WriterAt, x *Share, off int64) error {
	return copySparse(w, s.data, x.At, x.Len, off)
}
