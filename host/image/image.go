// Package image reads, writes and checks Noyau images: an ELF executable (the
// app, the library OS and the Go runtime, linked by the stock toolchain) with a
// manifest appended after its last byte. Loaders ignore what follows the
// sections that an ELF header names, so an image stays an ordinary ELF file.
//
// The package may import package abi and nothing else of the project.
package image

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"noyau.dev/abi"
)

// ErrNotImage is what errors.Is finds in the error for a file that is no image.
var ErrNotImage = errors.New("not a Noyau image")

// A NotImageError says why a file is not an image. It is ErrNotImage.
type NotImageError struct {
	Path   string
	Reason string // what was found, and what to do
}

func (e *NotImageError) Error() string {
	return fmt.Sprintf("%s: not a Noyau image: %s", e.Path, e.Reason)
}

func (e *NotImageError) Is(target error) bool { return target == ErrNotImage }

// An ABIError says that an image was built for another version of the host ABI.
type ABIError struct {
	Path       string
	Have, Want int // of the image, of this program
	Go         string
}

func (e *ABIError) Error() string {
	todo := "rebuild it with this noyau: noyau build"
	if e.Have > e.Want {
		todo = "it needs a newer noyau, or rebuild it with this one: noyau build"
	}
	return fmt.Sprintf("%s: the image speaks host ABI version %d, this noyau speaks version %d; %s", e.Path, e.Have, e.Want, todo)
}

// An Image is an open image. File stays open until Close; it is positioned
// nowhere in particular, readers use offsets.
type Image struct {
	File     *os.File
	Path     string
	Manifest Manifest
	ELF      Facts
}

// Open opens an image and checks it: a manifest of this ABI version, an x86-64
// static executable, no segment both writable and executable. It reads headers
// only and so takes microseconds. Errors are *NotImageError, *ABIError or those
// of package os.
func Open(path string) (*Image, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0) // a FIFO is refused, not waited for
	if err != nil {
		return nil, err
	}
	img, err := FromFile(f, path)
	if err != nil {
		f.Close()
		return nil, err
	}
	return img, nil
}

// FromFile is Open for an open file, which the Image then owns. On error f
// stays open and the caller's.
func FromFile(f *os.File, path string) (*Image, error) {
	img, err := read(f, path)
	if err != nil {
		return nil, err
	}
	if img.Manifest.ABI != abi.Version {
		return nil, &ABIError{Path: path, Have: img.Manifest.ABI, Want: abi.Version, Go: img.Manifest.Go}
	}
	return img, nil
}

// Inspect is Open for images of any ABI version: they can be looked at, though
// not run.
func Inspect(path string) (*Image, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	img, err := read(f, path)
	if err != nil {
		f.Close()
		return nil, err
	}
	return img, nil
}

// read does what Open and Inspect have in common.
func read(f *os.File, path string) (*Image, error) {
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !st.Mode().IsRegular() {
		return nil, &NotImageError{path, "it is a " + kind(st.Mode()) + ", not a file"}
	}
	readLarge(int(f.Fd()), st.Size())
	facts, err := readELF(f, st.Size())
	if err != nil {
		return nil, &NotImageError{path, err.Error()}
	}
	m, err := readTrailer(f, st.Size(), facts.Size)
	if err != nil {
		return nil, &NotImageError{path, err.Error()}
	}
	if err := facts.check(); err != nil {
		return nil, &NotImageError{path, err.Error()}
	}
	return &Image{File: f, Path: path, Manifest: *m, ELF: *facts}, nil
}

// Close closes the image's file.
func (i *Image) Close() error { return i.File.Close() }

func kind(m os.FileMode) string {
	switch {
	case m.IsDir():
		return "directory"
	case m&os.ModeNamedPipe != 0:
		return "pipe"
	case m&os.ModeDevice != 0:
		return "device"
	case m&os.ModeSocket != 0:
		return "socket"
	}
	return "special file"
}
