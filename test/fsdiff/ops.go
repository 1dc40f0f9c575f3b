package fsdiff

import (
	"bytes"
	"os"
	"slices"
	"strings"

	"noyau.dev/guest/linux"
)

// The calls that TestDifferential makes.

func (d *differ) open(i fdSlot, dirfd any, path string, flags, mode int) {
	d.close(int(i))
	r, e := d.both(linux.SYS_OPENAT, dirfd, path, flags, mode)
	if e == 0 {
		d.fds[i] = [2]uint{uint(r[0]) + 1, uint(r[1]) + 1}
		d.plain[i] = flags&linux.O_PATH == 0
	}
}

func (d *differ) names(i fdSlot) []string {
	a, ea := Guest.Names(uintptr(d.fds[i][0]) - 1)
	b, eb := Native.Names(uintptr(d.fds[i][1]) - 1)
	if (ea == 0) != (eb == 0) || !slices.Equal(a, b) {
		d.fail("directory: the guest lists %v (%v), the kernel %v (%v)", a, ea, b, eb)
	}
	return a
}

func (d *differ) read(i fdSlot, n int) {
	a, b := make([]byte, n), make([]byte, n)
	ra, ea := Guest.Do(linux.SYS_READ, uintptr(d.fds[i][0])-1, a, n)
	rb, eb := Native.Do(linux.SYS_READ, uintptr(d.fds[i][1])-1, b, n)
	if d.fds[i][0] == 0 {
		return
	}
	if !d.equal(ea, eb) || ea == 0 && (ra != rb || !bytes.Equal(a, b)) {
		d.fail("read: the guest %d, %v; the kernel %d, %v", ra, ea, rb, eb)
	}
}

func (d *differ) pread(i fdSlot, n, off int) {
	a, b := make([]byte, n), make([]byte, n)
	ra, ea := Guest.Do(linux.SYS_PREAD64, uintptr(d.fds[i][0])-1, a, n, off)
	rb, eb := Native.Do(linux.SYS_PREAD64, uintptr(d.fds[i][1])-1, b, n, off)
	if d.fds[i][0] != 0 && (!d.equal(ea, eb) || ea == 0 && (ra != rb || !bytes.Equal(a, b))) {
		d.fail("pread: the guest %d, %v; the kernel %d, %v", ra, ea, rb, eb)
	}
}

// same compares results that are numbers with the same meaning on both sides.
func (d *differ) same(nr int, args ...any) {
	r, e := d.both(nr, args...)
	if e == 0 && r[0] != r[1] {
		d.fail("the guest returns %d, the kernel %d", r[0], r[1])
	}
}

func (d *differ) stat(nr int, who ...any) {
	var a, b linux.Stat
	both := func(st *[2]*linux.Stat) linux.Errno {
		var es [2]linux.Errno
		for i, s := range d.sides {
			v := who[0]
			if f, ok := v.(fdSlot); ok {
				v = uintptr(d.fds[f][i]) - 1
				if d.fds[f][i] == 0 {
					v = uintptr(9999)
				}
			}
			_, es[i] = s.Do(nr, v, st[i])
		}
		if !d.equal(es[0], es[1]) {
			d.fail("stat %v: the guest says %v, the kernel %v", who, es[0], es[1])
		}
		return es[0]
	}
	if both(&[2]*linux.Stat{&a, &b}) != 0 {
		return
	}
	size := a.Size != b.Size && a.Mode&linux.S_IFMT != linux.S_IFDIR
	if a.Mode != b.Mode || a.Nlink != b.Nlink || a.UID != b.UID || a.GID != b.GID || size {
		d.fail("stat %v: the guest %+v, the kernel %+v", who, a, b)
	}
	old := linux.Timespec{Sec: 1 << 20}
	if (a.Mtim.Sec <= old.Sec || b.Mtim.Sec <= old.Sec) && a.Mtim != b.Mtim {
		d.fail("stat %v: mtime %v and %v", who, a.Mtim, b.Mtim)
	}
}

func (d *differ) flock() *linux.Flock {
	return &linux.Flock{
		Type: int16(d.r.Intn(3)), Whence: int16(d.r.Intn(3)), Start: int64(d.r.Intn(30) + 3), Len: int64(d.r.Intn(30) - 3),
	}
}

// lock compares fcntl on record locks: OFD ones, and what blocks them.
func (d *differ) lock(i fdSlot) {
	l := d.flock()
	cmd := []int{linux.F_OFD_GETLK, linux.F_OFD_SETLK, linux.F_OFD_SETLK}[d.r.Intn(3)]
	if cmd == linux.F_OFD_GETLK && l.Type == linux.F_UNLCK {
		l.Type = linux.F_RDLCK
	}
	var out [2]linux.Flock
	var es [2]linux.Errno
	var st linux.Stat
	if _, e := Guest.Do(linux.SYS_FSTAT, uintptr(d.fds[i][0])-1, &st); e != 0 || st.Mode&linux.S_IFMT != linux.S_IFREG {
		return // the guest has no record locks on directories
	}
	for k, s := range d.sides {
		fd := uintptr(d.fds[i][k]) - 1
		c := *l
		_, es[k] = s.Do(linux.SYS_FCNTL, fd, cmd, &c)
		out[k] = c
	}
	if !d.equal(es[0], es[1]) || es[0] == 0 && out[0] != out[1] {
		d.fail("lock %d %+v: the guest %+v %v, the kernel %+v %v", cmd, *l, out[0], es[0], out[1], es[1])
	}
}

func (d *differ) dirfd() any {
	if d.r.Intn(3) == 0 {
		return d.slot()
	}
	return linux.AT_FDCWD
}

func (d *differ) step() {
	r := d.r
	mode := []int{0o644, 0o600, 0o755, 0o777, 0o4755, 0o2711, 0o400}[r.Intn(7)]
	if d.o.Volume {
		mode &= 0o777
	}
	switch r.Intn(40) {
	case 0, 1, 2, 3:
		d.open(d.slot(), d.dirfd(), d.path(), d.flags(), mode)
	case 4:
		d.close(int(d.slot()))
	case 5, 6:
		d.read(d.slot(), r.Intn(200))
	case 7, 8:
		b := bytes.Repeat([]byte{byte('a' + r.Intn(26))}, r.Intn(5000))
		d.same(linux.SYS_WRITE, d.slot(), b, len(b))
	case 9:
		b := bytes.Repeat([]byte{byte('A' + r.Intn(26))}, r.Intn(300))
		d.same(linux.SYS_PWRITE64, d.slot(), b, len(b), r.Intn(100000)-10)
	case 10:
		d.pread(d.slot(), r.Intn(3000), r.Intn(100000)-10)
	case 11:
		d.same(linux.SYS_LSEEK, d.slot(), r.Intn(5000)-50, r.Intn(3))
	case 12:
		d.both(linux.SYS_FTRUNCATE, d.data(), r.Intn(70000)-10)
	case 13:
		d.both(linux.SYS_TRUNCATE, d.path(), r.Intn(70000)-10)
	case 14:
		d.stat(linux.SYS_STAT, d.path())
	case 15:
		d.stat(linux.SYS_LSTAT, d.path())
	case 16:
		d.stat(linux.SYS_FSTAT, d.slot())
	case 17, 18:
		d.both(linux.SYS_MKDIRAT, d.dirfd(), d.path(), mode|0o700)
	case 19:
		d.both(linux.SYS_RMDIR, d.path())
	case 20:
		d.both(linux.SYS_UNLINK, d.path())
	case 21:
		d.both(linux.SYS_UNLINKAT, d.dirfd(), d.path(), []int{0, linux.AT_REMOVEDIR}[r.Intn(2)])
	case 22, 23:
		d.both(linux.SYS_RENAME, d.path(), d.path())
	case 24, 25:
		d.both(linux.SYS_RENAMEAT2, d.dirfd(), d.path(), d.dirfd(), d.path(), r.Intn(4))
	case 26:
		d.both(linux.SYS_LINK, d.path(), d.path())
	case 27:
		d.both(linux.SYS_LINKAT, d.dirfd(), d.path(), d.dirfd(), d.path(), []int{0, linux.AT_SYMLINK_FOLLOW}[r.Intn(2)])
	case 28, 29:
		d.both(linux.SYS_SYMLINKAT, d.target(), d.dirfd(), d.path())
	case 30:
		a, b := make([]byte, 20), make([]byte, 20)
		p := d.path()
		ra, ea := Guest.Do(linux.SYS_READLINK, p, a, 3+r.Intn(17))
		rb, eb := Native.Do(linux.SYS_READLINK, p, b, 20)
		if !d.equal(ea, eb) || ea == 0 && string(a[:ra]) != string(b[:min(rb, ra)]) {
			d.fail("readlink %q: the guest %q %v, the kernel %q %v", p, a, ea, b, eb)
		}
	case 31:
		d.both(linux.SYS_CHMOD, d.path(), mode|0o700)
	case 32:
		d.both(linux.SYS_FCHMOD, d.slot(), mode|0o700)
	case 33:
		if os.Getuid() == 0 && !d.o.Volume {
			flag := []int{0, linux.AT_SYMLINK_NOFOLLOW}[r.Intn(2)]
			d.both(linux.SYS_FCHOWNAT, d.dirfd(), d.path(), r.Intn(3)-1, r.Intn(3)-1, flag)
		}
	case 34:
		d.both(linux.SYS_ACCESS, d.path(), r.Intn(9))
	case 35:
		if i := d.slot(); d.fds[i][0] != 0 {
			d.both(linux.SYS_LSEEK, i, 0, 0)
			d.names(i)
		}
	case 36:
		if d.o.Volume {
			d.both(linux.SYS_MKNODAT, d.dirfd(), d.path(), linux.S_IFREG|mode, 0)
			break
		}
		d.both(linux.SYS_MKNODAT, d.dirfd(), d.path(), []int{linux.S_IFREG, linux.S_IFSOCK, linux.S_IFIFO, 0, 0o170000}[r.Intn(5)]|mode, 0)
	case 37:
		ts := &[2]linux.Timespec{{Sec: int64(r.Intn(1000)), Nsec: int64(r.Intn(1e9))}, {Sec: int64(r.Intn(1000)), Nsec: int64(r.Intn(1e9))}}
		if r.Intn(3) == 0 {
			ts[r.Intn(2)].Nsec = []int64{linux.UTIME_OMIT, linux.UTIME_NOW, 2e9}[r.Intn(3)]
		}
		d.both(linux.SYS_UTIMENSAT, d.dirfd(), d.path(), ts, []int{0, linux.AT_SYMLINK_NOFOLLOW}[r.Intn(2)])
	case 38:
		switch r.Intn(3) {
		case 0:
			mode := []int{0, 1, 3}[r.Intn(3)]
			d.both(linux.SYS_FALLOCATE, d.data(), mode, r.Intn(50000), r.Intn(50000)-5)
		case 1:
			d.both(linux.SYS_FLOCK, d.data(), []int{1, 2, 8}[r.Intn(3)]|linux.LOCK_NB)
		case 2:
			d.lock(d.data())
		}
	case 39:
		switch r.Intn(3) {
		case 0:
			if p := d.path(); !strings.Contains(p, "..") {
				d.openat2(p)
			}
		case 1:
			d.both(linux.SYS_FACCESSAT2, d.dirfd(), d.path(), r.Intn(8), []int{0, linux.AT_SYMLINK_NOFOLLOW}[r.Intn(2)])
		case 2:
			d.getcwd()
		}
	}
}

func (d *differ) openat2(path string) {
	i := d.slot()
	d.close(int(i))
	how := &[3]uint64{uint64(d.flags()), 0, uint64([]int{0, 4, 8, 16, 2, 12}[d.r.Intn(6)])}
	if how[0]&(linux.O_CREAT|linux.O_TMPFILE&^linux.O_DIRECTORY) != 0 {
		how[1] = 0o644
	}
	r, e := d.both(linux.SYS_OPENAT2, linux.AT_FDCWD, path, how, 24)
	if e == 0 {
		d.fds[i] = [2]uint{uint(r[0]) + 1, uint(r[1]) + 1}
		d.plain[i] = how[0]&linux.O_PATH == 0
	}
}

// getcwd compares working directories, and moves there and back.
func (d *differ) getcwd() {
	p := d.path()
	if strings.Contains(p, "..") {
		return
	}
	if _, e := d.both(linux.SYS_CHDIR, p); e != 0 {
		return
	}
	a, b := make([]byte, 500), make([]byte, 500)
	ra := Guest.Must(d.t, linux.SYS_GETCWD, a, 500)
	rb := Native.Must(d.t, linux.SYS_GETCWD, b, 500)
	if got, want := strings.TrimPrefix(string(a[:ra]), d.home[0]), strings.TrimPrefix(string(b[:rb]), d.home[1]); got != want {
		d.fail("getcwd: the guest %q, the kernel %q", got, want)
	}
	Guest.Must(d.t, linux.SYS_CHDIR, d.home[0]+"/w")
	Native.Must(d.t, linux.SYS_CHDIR, d.home[1]+"/w")
}
