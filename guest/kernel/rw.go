package kernel

import (
	"noyau.dev/guest/linux"
	"noyau.dev/guest/rt"
)

func init() {
	Register(linux.SYS_READ, sysRead)
	Register(linux.SYS_WRITE, sysWrite)
	Register(linux.SYS_PREAD64, sysPread)
	Register(linux.SYS_PWRITE64, sysPwrite)
	Register(linux.SYS_LSEEK, sysLseek)
	Register(linux.SYS_READAHEAD, func(a Args) (uintptr, linux.Errno) { return 0, checkFD(a.A1) })
	Register(linux.SYS_FADVISE64, func(a Args) (uintptr, linux.Errno) { return 0, checkFD(a.A1) })
}

func checkFD(fd uintptr) linux.Errno {
	d, e := Get(fd)
	if e == 0 {
		d.Put()
	}
	return e
}

// GetReadable and GetWritable are Get that also want the access mode: EBADF.
func GetReadable(fd uintptr) (*Desc, linux.Errno) {
	d, e := Get(fd)
	if e == 0 && !d.Readable() {
		d.Put()
		return nil, linux.EBADF
	}
	return d, e
}

func GetWritable(fd uintptr) (*Desc, linux.Errno) {
	d, e := Get(fd)
	if e == 0 && !d.Writable() {
		d.Put()
		return nil, linux.EBADF
	}
	return d, e
}

func sysRead(a Args) (uintptr, linux.Errno) {
	d, e := GetReadable(a.A1)
	if e != 0 {
		return 0, e
	}
	var n int
	p, e := Bytes(a.A2, a.A3)
	if e == 0 {
		n, e = d.Read(p)
	}
	d.Put()
	return uintptr(n), e
}

func sysWrite(a Args) (uintptr, linux.Errno) {
	d, e := GetWritable(a.A1)
	if e != 0 {
		return 0, e
	}
	var n int
	p, e := Bytes(a.A2, a.A3)
	if e == 0 {
		if n, e = d.Write(p); e == linux.EPIPE {
			rt.SendSignal(linux.SIGPIPE)
		}
	}
	d.Put()
	return uintptr(n), e
}

func sysPread(a Args) (uintptr, linux.Errno) {
	d, e := GetReadable(a.A1)
	if e != 0 {
		return 0, e
	}
	var n int
	p, e := Bytes(a.A2, a.A3)
	if int64(a.A4) < 0 {
		e = linux.EINVAL
	}
	if e == 0 {
		n, e = d.Pread(p, int64(a.A4))
	}
	d.Put()
	return uintptr(n), e
}

func sysPwrite(a Args) (uintptr, linux.Errno) {
	d, e := GetWritable(a.A1)
	if e != 0 {
		return 0, e
	}
	var n int
	p, e := Bytes(a.A2, a.A3)
	if int64(a.A4) < 0 {
		e = linux.EINVAL
	}
	if e == 0 {
		n, e = d.Pwrite(p, int64(a.A4))
	}
	d.Put()
	return uintptr(n), e
}

func sysLseek(a Args) (uintptr, linux.Errno) {
	d, e := Get(a.A1)
	if e != 0 {
		return 0, e
	}
	defer d.Put()
	if d.Flags()&linux.O_PATH != 0 {
		return 0, linux.EBADF
	}
	off, e := d.Lseek(int64(a.A2), int(int32(a.A3)))
	return uintptr(off), e
}
