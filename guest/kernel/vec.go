package kernel

import (
	"sync"

	"noyau.dev/guest/linux"
	"noyau.dev/guest/rt"
)

func init() {
	Register(linux.SYS_READV, func(a Args) (uintptr, linux.Errno) { return readv(a, -1, 0) })
	Register(linux.SYS_WRITEV, func(a Args) (uintptr, linux.Errno) { return writev(a, -1, 0) })
	Register(linux.SYS_PREADV, func(a Args) (uintptr, linux.Errno) { return preadv(a, 0) })
	Register(linux.SYS_PWRITEV, func(a Args) (uintptr, linux.Errno) { return pwritev(a, 0) })
	Register(linux.SYS_PREADV2, func(a Args) (uintptr, linux.Errno) { return preadv(a, a.A6) })
	Register(linux.SYS_PWRITEV2, func(a Args) (uintptr, linux.Errno) { return pwritev(a, a.A6) })
}

// gatherMost is the most that a vector call copies through one buffer, so that
// it is one call of the file: one datagram, one write to a pipe, one host call.
const gatherMost = 64 << 10

var buffers = sync.Pool{New: func() any { b := make([]byte, 0, 4096); return &b }}

// GetBuffer returns a buffer of n bytes, whose content is undefined, and
// PutBuffer gives it back.
func GetBuffer(n int) *[]byte {
	p := buffers.Get().(*[]byte)
	if cap(*p) < n {
		*p = make([]byte, n)
	}
	*p = (*p)[:n]
	return p
}

func PutBuffer(p *[]byte) { buffers.Put(p) }

// Iovecs reads a vector: the number of bytes in all, EINVAL if there are too
// many elements or bytes.
func Iovecs(addr, n uintptr) (v []linux.Iovec, total int, errno linux.Errno) {
	if n > linux.IOV_MAX {
		return nil, 0, linux.EINVAL
	}
	v, errno = Slice[linux.Iovec](addr, n)
	for i := range v {
		if v[i].Len > 1<<31 {
			return nil, 0, linux.EINVAL
		}
		if _, e := Bytes(v[i].Base, v[i].Len); e != 0 {
			return nil, 0, e
		}
		total += int(v[i].Len)
	}
	return v, total, errno
}

// Gather copies the vector into p, Scatter p into the vector; both return how
// much there was.
func Gather(p []byte, v []linux.Iovec) (n int) {
	for i := range v {
		if b, e := Bytes(v[i].Base, v[i].Len); e == 0 {
			n += copy(p[n:], b)
		}
	}
	return n
}

func Scatter(v []linux.Iovec, p []byte) (n int) {
	for i := range v {
		if b, e := Bytes(v[i].Base, v[i].Len); e == 0 {
			n += copy(b, p[n:])
		}
	}
	return n
}

func preadv(a Args, flags uintptr) (uintptr, linux.Errno) {
	if flags&^(linux.RWF_HIPRI|linux.RWF_NOWAIT) != 0 {
		return 0, linux.EOPNOTSUPP
	}
	if a.A4 == ^uintptr(0) && flags|a.A6 != 0 {
		return readv(a, -1, flags)
	}
	if int64(a.A4) < 0 {
		return 0, linux.EINVAL
	}
	return readv(a, int64(a.A4), flags)
}

func pwritev(a Args, flags uintptr) (uintptr, linux.Errno) {
	if flags&^(linux.RWF_HIPRI|linux.RWF_NOWAIT|linux.RWF_SYNC|linux.RWF_DSYNC) != 0 {
		return 0, linux.EOPNOTSUPP
	}
	if a.A4 == ^uintptr(0) && flags|a.A6 != 0 {
		return writev(a, -1, flags)
	}
	if int64(a.A4) < 0 {
		return 0, linux.EINVAL
	}
	return writev(a, int64(a.A4), flags)
}

// readv reads at off, or at the file's position if off is -1.
func readv(a Args, off int64, flags uintptr) (uintptr, linux.Errno) {
	d, e := GetReadable(a.A1)
	if e != 0 {
		return 0, e
	}
	defer d.Put()
	v, total, e := Iovecs(a.A2, a.A3)
	if e != 0 {
		return 0, e
	}
	read := func(p []byte) (n int, e linux.Errno) {
		switch {
		case off >= 0:
			if n, e = d.Pread(p, off); e == 0 {
				off += int64(n)
			}
		case flags&linux.RWF_NOWAIT != 0:
			n, e = d.File.Read(p)
		default:
			n, e = d.Read(p)
		}
		return n, e
	}
	if total <= gatherMost && len(v) != 1 {
		b := GetBuffer(total)
		defer PutBuffer(b)
		n, e := read(*b)
		Scatter(v, (*b)[:n])
		return uintptr(n), e
	}
	done := 0
	for i := range v {
		p, _ := Bytes(v[i].Base, v[i].Len)
		if done > 0 && d.Queue() != nil && d.Ready()&rt.In == 0 {
			break // the rest would block
		}
		n, e := read(p)
		if done += n; e != 0 && done == 0 {
			return 0, e
		}
		if n < len(p) || e != 0 {
			break
		}
	}
	return uintptr(done), 0
}

func writev(a Args, off int64, flags uintptr) (uintptr, linux.Errno) {
	d, e := GetWritable(a.A1)
	if e != 0 {
		return 0, e
	}
	defer d.Put()
	v, total, e := Iovecs(a.A2, a.A3)
	if e != 0 {
		return 0, e
	}
	more, _ := d.File.(MoreWriter)
	write := func(p []byte, last bool) (n int, e linux.Errno) {
		switch {
		case off >= 0:
			if n, e = d.Pwrite(p, off); e == 0 {
				off += int64(n)
			}
			return n, e
		case flags&linux.RWF_NOWAIT != 0:
			n, e = d.File.Write(p)
		case !last && more != nil:
			if n, e = more.WriteMore(p); !d.Nonblock() && (e == linux.EAGAIN || e == 0 && n < len(p)) {
				m, e2 := d.Write(p[n:])
				n, e = n+m, e2
			}
		default:
			n, e = d.Write(p)
		}
		if e == linux.EPIPE {
			rt.SendSignal(linux.SIGPIPE)
		}
		return n, e
	}
	done := 0
	if total <= gatherMost && len(v) != 1 {
		b := GetBuffer(total)
		defer PutBuffer(b)
		Gather(*b, v)
		done, e = write(*b, true)
	} else {
		for i := range v {
			p, _ := Bytes(v[i].Base, v[i].Len)
			if len(p) == 0 {
				continue
			}
			n, err := write(p, i == len(v)-1)
			if done += n; err != 0 && done == 0 {
				return 0, err
			}
			if n < len(p) || err != 0 {
				break
			}
		}
	}
	if s, ok := d.File.(Syncer); ok && e == 0 && flags&(linux.RWF_SYNC|linux.RWF_DSYNC) != 0 {
		e = s.Sync(flags&linux.RWF_SYNC == 0)
	}
	return uintptr(done), e
}
