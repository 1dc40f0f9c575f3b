package fs

import (
	"noyau.dev/abi"
	"noyau.dev/guest/host"
	"noyau.dev/guest/linux"
)

// A hostContent is the content of a file that came with the boot block: bytes of
// the block itself, or a read-only handle that is read when somebody wants it.
// It is never changed; the first write to the file makes a copy.
type hostContent struct {
	bytes  []byte
	handle int32 // -1: bytes
	size   int64
}

func (h *hostContent) readAt(p []byte, off int64) (int, linux.Errno) {
	if off >= h.size {
		return 0, 0
	}
	if left := h.size - off; int64(len(p)) > left {
		p = p[:left]
	}
	if h.handle < 0 {
		return copy(p, h.bytes[off:]), 0
	}
	total := 0
	for total < len(p) {
		n, e := host.Pread(h.handle, p[total:], off+int64(total))
		if e != 0 && total == 0 {
			return 0, e
		}
		if e != 0 || n <= 0 {
			break
		}
		total += n
	}
	return total, 0
}

func (h *hostContent) close() {
	if h.handle >= abi.HandleFirst {
		host.Close(h.handle)
	}
}

// own gives a regular file content of its own, to be changed. What there was
// behind a handle is read into memory.
func (t *Tree) own(n *inode) linux.Errno {
	if n.proc {
		return linux.EPERM
	}
	h := n.host
	if h == nil {
		return 0
	}
	c := new(content)
	for off := int64(0); off < h.size; {
		b, e := c.grow(off/chunkSize, int(min(h.size-off, chunkSize)), &t.quota)
		if e == 0 {
			var k int
			if k, e = h.readAt(b, off); e == 0 && k < len(b) {
				e = linux.EIO
			}
		}
		if e != 0 {
			c.free(&t.quota)
			return e
		}
		off += int64(len(b))
	}
	c.size = h.size
	h.close()
	n.host, n.data = nil, c
	return 0
}
