package kernel

import "noyau.dev/guest/linux"

func init() {
	Register(linux.SYS_SENDFILE, sysSendfile)
	Register(linux.SYS_COPY_FILE_RANGE, sysCopyFileRange)
	// Go falls back to read and write.
	for _, nr := range [...]int{linux.SYS_SPLICE, linux.SYS_TEE, linux.SYS_VMSPLICE} {
		Register(nr, func(Args) (uintptr, linux.Errno) { return 0, linux.EINVAL })
	}
}

const copyChunk = 128 << 10

// position is where a copy reads or writes: an offset of the app's, or the
// file's own position.
type position struct {
	f   File
	p   *int64
	off int64
}

func positionOf(f File, addr uintptr) (position, linux.Errno) {
	if addr == 0 {
		off, e := f.Lseek(0, linux.SEEK_CUR)
		return position{f, nil, off}, e
	}
	p, e := Ptr[int64](addr)
	if e != 0 {
		return position{}, e
	}
	if *p < 0 {
		return position{}, linux.EINVAL
	}
	return position{f, p, *p}, 0
}

func (p *position) store() {
	if p.p != nil {
		*p.p = p.off
	} else {
		p.f.Lseek(p.off, linux.SEEK_SET)
	}
}

// sysSendfile copies from a file that has positions to any file.
func sysSendfile(a Args) (uintptr, linux.Errno) {
	out, e := GetWritable(a.A1)
	if e != 0 {
		return 0, e
	}
	defer out.Put()
	in, e := GetReadable(a.A2)
	if e != 0 {
		return 0, e
	}
	defer in.Put()
	pos, e := positionOf(in.File, a.A3)
	if e == linux.ESPIPE || out.Flags()&linux.O_APPEND != 0 {
		return 0, linux.EINVAL
	}
	if e != 0 {
		return 0, e
	}
	n, e := copyLoop(in, &pos, a.A4, func(p []byte) (int, linux.Errno) { return out.Write(p) })
	pos.store()
	return n, e
}

func sysCopyFileRange(a Args) (uintptr, linux.Errno) {
	in, e := GetReadable(a.A1)
	if e != 0 {
		return 0, e
	}
	defer in.Put()
	out, e := GetWritable(a.A3)
	if e != 0 {
		return 0, e
	}
	defer out.Put()
	if out.Flags()&linux.O_APPEND != 0 {
		return 0, linux.EBADF
	}
	var si, so linux.Stat
	if e := in.Stat(&si); e != 0 {
		return 0, e
	}
	if e := out.Stat(&so); e != 0 {
		return 0, e
	}
	if si.Mode&linux.S_IFMT == linux.S_IFDIR || so.Mode&linux.S_IFMT == linux.S_IFDIR {
		return 0, linux.EISDIR
	}
	if si.Mode&linux.S_IFMT != linux.S_IFREG || so.Mode&linux.S_IFMT != linux.S_IFREG || a.A6 != 0 {
		return 0, linux.EINVAL
	}
	from, e := positionOf(in.File, a.A2)
	if e != 0 {
		return 0, e
	}
	to, e := positionOf(out.File, a.A4)
	if e != 0 {
		return 0, e
	}
	if si.Dev == so.Dev && si.Ino == so.Ino {
		if n := int64(min(a.A5, 1<<62)); from.off < to.off+n && to.off < from.off+n {
			return 0, linux.EINVAL
		}
	}
	n, e := copyLoop(in, &from, a.A5, func(p []byte) (int, linux.Errno) {
		n, e := out.Pwrite(p, to.off)
		to.off += int64(n)
		return n, e
	})
	from.store()
	to.store()
	return n, e
}

// copyLoop copies up to count bytes from in, at pos, which it advances by what
// was written.
func copyLoop(in *Desc, pos *position, count uintptr, write func([]byte) (int, linux.Errno)) (uintptr, linux.Errno) {
	count = min(count, 1<<31-4096)
	b := GetBuffer(int(min(count, copyChunk)))
	defer PutBuffer(b)
	var done uintptr
	for done < count {
		p := (*b)[:min(uintptr(len(*b)), count-done)]
		n, e := in.Pread(p, pos.off)
		if e == linux.ESPIPE {
			e = linux.EINVAL
		}
		if e == 0 && n > 0 {
			p = p[:n]
			n, e = write(p)
			pos.off += int64(n)
			done += uintptr(n)
		}
		if e != 0 && done == 0 {
			return 0, e
		}
		if e != 0 || n < len(p) {
			break // end of file, or out takes no more for now
		}
	}
	return done, 0
}
