package mem

import (
	"noyau.dev/guest/kernel"
	"noyau.dev/guest/linux"
)

// written updates the copies after a call has written n bytes (n < 0: to the
// end) at off of the inode with that key.
func written(key any, off, n int64) {
	mu.Lock()
	defer mu.Unlock()
	for _, m := range maps {
		if m.key == nil || m.key != key {
			continue
		}
		start, end := max(off, m.off), m.off+int64(m.end-m.start)
		if n >= 0 {
			end = min(end, off+n)
		}
		if start < end {
			m.load(start, end-start)
		}
	}
}

// writeBack stores what the app changed in shared writable copies within
// [start, end). A page is written only if it differs from the file's, and
// nothing behind the file's end is.
func writeBack(start, end uintptr) (errno linux.Errno) {
	if !exist.Load() {
		return 0
	}
	mu.Lock()
	ps := pieces(start, end)
	mu.Unlock()
	defer putAll(ps)
	b := kernel.GetBuffer(page)
	defer kernel.PutBuffer(b)
	for _, m := range ps {
		if m.key == nil || !m.stored || !m.desc.Writable() || m.desc.Flags()&linux.O_APPEND != 0 {
			continue
		}
		for off := m.off; off < m.off+int64(m.end-m.start); off += page {
			n, e := m.desc.Pread(*b, off)
			if e == 0 && n > 0 {
				if now := m.bytes(off, int64(n)); string(now) != string((*b)[:n]) {
					_, e = m.desc.Pwrite(append([]byte(nil), now...), off)
				}
			}
			if e != 0 {
				errno = e
			}
			if n < page || e != 0 {
				break
			}
		}
	}
	return errno
}
