package vm

import (
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"noyau.dev/host/image"
)

// Text and read-only data of an image take a guest one touch for each 4 KiB page, some
// 300 of them before main, unless the host has them in pages of 2 MiB. In a file
// there is no room for these: text and read-only data may not share one, as the latter
// would be executable, and each filled up with zeros would double a small image. So a
// monitor that starts an image again makes a copy of it in memory, in which both
// begin at multiples of 2 MiB. All virtual machines of the monitor share that copy.

const (
	// mostConstants bounds the size of such a copy, bytes, and mostCopies their number.
	mostConstants = 64 << 20
	mostCopies    = 8
)

// copies are those of the images that were started last.
var copies struct {
	sync.Mutex
	list []*imageCopy // the latest first
}

type imageCopy struct {
	of   identity
	made sync.Once
	file *os.File // nil: not yet, or none can be made
}

// forImage finds or adds the entry of an image. known says whether it was there.
func forImage(is identity) (c *imageCopy, known bool) {
	copies.Lock()
	defer copies.Unlock()
	for i, c := range copies.list {
		if c.of == is {
			copy(copies.list[1:i+1], copies.list[:i])
			copies.list[0] = c
			return c, true
		}
	}
	if len(copies.list) == mostCopies {
		copies.list = copies.list[:mostCopies-1] // its file is closed when nobody has it any more
	}
	c = &imageCopy{of: is}
	copies.list = append([]*imageCopy{c}, copies.list...)
	return c, false
}

// make makes the copy, once.
func (c *imageCopy) make(f *os.File) {
	c.made.Do(func() {
		file, _ := inLargePages(f)
		copies.Lock()
		c.file = file
		copies.Unlock()
	})
}

// best is what a runner is to load for an image that is started now: the copy, if there
// is one. From the second start on it is made in the background.
func best(f *os.File) *os.File {
	is, err := identify(f)
	if err != nil {
		return f
	}
	c, known := forImage(is)
	copies.Lock()
	file := c.file
	copies.Unlock()
	if file != nil {
		return file
	}
	if known {
		if fd, err := unix.FcntlInt(uintptr(fdOf(f)), unix.F_DUPFD_CLOEXEC, 0); err == nil {
			own := os.NewFile(uintptr(fd), f.Name())
			go func() {
				defer own.Close()
				c.make(own)
			}()
		}
	}
	return f
}

// ready is best for an image that will be started often: it waits for the copy.
func ready(f *os.File) *os.File {
	is, err := identify(f)
	if err != nil {
		return f
	}
	c, _ := forImage(is)
	c.make(f)
	copies.Lock()
	defer copies.Unlock()
	if c.file != nil {
		return c.file
	}
	return f
}

var errNoCopy = errors.New("vm: the image cannot be kept in large pages")

// inLargePages returns a sealed memory file that loads as the image in f does, with text
// and read-only data in pages of 2 MiB.
func inLargePages(f *os.File) (*os.File, error) {
	facts, err := image.ReadFacts(f)
	if err != nil {
		return nil, err
	}
	to, constants, size, err := spread(facts.Segments)
	if err != nil {
		return nil, err
	}
	return newLargeFile("image", size, constants, func(b []byte) error {
		for i, s := range facts.Segments {
			if _, err := f.ReadAt(b[to[i]:][:s.File], int64(s.Offset)); err != nil {
				return fmt.Errorf("vm: the image: %w", err)
			}
			if s.Flags&elf.PF_X != 0 { // what fills the last page is no code either
				rest := b[to[i]+s.File : (to[i]+s.File+largePage-1)&^(largePage-1)]
				for j := range rest {
					rest[j] = 0xcc // INT3
				}
			}
		}
		return moveSegments(b, to)
	})
}

// spread says where in the copy each segment goes, how many bytes hold those that are not
// writable, and how many the whole takes.
func spread(segs []image.Segment) (to []uint64, constants, size uint64, err error) {
	end := uint64(0) // of the large pages of the segment before
	for _, s := range segs {
		if s.Addr&^(largePage-1) < end || s.File > mostConstants || s.Memory > s.File && !s.Writable() {
			return nil, 0, 0, errNoCopy // an image whose segments share large pages
		}
		end = (s.Addr + s.Memory + largePage - 1) &^ (largePage - 1)
		if s.Writable() {
			size = (size + 4095) &^ 4095
			to = append(to, size+s.Addr%4096)
			size += s.Addr%4096 + s.File
			continue
		}
		if s.Addr%largePage != 0 || size != constants {
			return nil, 0, 0, errNoCopy
		}
		to = append(to, size)
		size += end - s.Addr
		constants = size
	}
	if len(to) == 0 || constants == 0 || size > mostConstants || segs[0].Offset != 0 {
		return nil, 0, 0, errNoCopy
	}
	return to, constants, size, nil
}

// moveSegments changes the program headers of the copy: offsets, and the sizes of
// segments that are not writable, which now fill their large pages.
func moveSegments(b []byte, to []uint64) error {
	le := binary.LittleEndian
	off, n := le.Uint64(b[32:]), int(le.Uint16(b[56:]))
	i := 0
	for ; n > 0; n, off = n-1, off+56 {
		if off > uint64(len(b)-56) {
			return errNoCopy
		}
		h := b[off:][:56]
		if le.Uint32(h) != 1 { // PT_LOAD
			continue
		}
		if i == len(to) {
			return errNoCopy
		}
		le.PutUint64(h[8:], to[i])
		if le.Uint32(h[4:])&2 == 0 {
			n := (le.Uint64(h[40:]) + largePage - 1) &^ (largePage - 1)
			le.PutUint64(h[32:], n)
			le.PutUint64(h[40:], n)
		}
		i++
	}
	if i != len(to) {
		return errNoCopy
	}
	return nil
}
