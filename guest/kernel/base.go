package kernel

import (
	"noyau.dev/guest/linux"
	"noyau.dev/guest/rt"
)

// Base is embedded by implementations of File. Each method answers as Linux
// does for a file without that operation.
type Base struct{}

func (Base) Read([]byte) (int, linux.Errno)                { return 0, linux.EINVAL }
func (Base) Write([]byte) (int, linux.Errno)               { return 0, linux.EINVAL }
func (Base) Pread([]byte, int64) (int, linux.Errno)        { return 0, linux.ESPIPE }
func (Base) Pwrite([]byte, int64) (int, linux.Errno)       { return 0, linux.ESPIPE }
func (Base) Lseek(int64, int) (int64, linux.Errno)         { return 0, linux.ESPIPE }
func (Base) Ready() uint32                                 { return rt.In | rt.Out }
func (Base) Queue() *WaitQueue                             { return nil }
func (Base) Ioctl(req, arg uintptr) (uintptr, linux.Errno) { return 0, linux.ENOTTY }
func (Base) Release()                                      {}

// Stat describes an anonymous inode.
func (Base) Stat(st *linux.Stat) linux.Errno {
	*st = linux.Stat{Dev: 1, Ino: 1, Nlink: 1, Mode: 0600, Blksize: 4096}
	return 0
}

// The rest of the interfaces are optional: a file without one gives the error
// in the comment.
type (
	// Truncater is ftruncate: EINVAL.
	Truncater interface {
		Truncate(size int64) linux.Errno
	}
	// Syncer is fsync, and fdatasync if dataOnly: EINVAL.
	Syncer interface {
		Sync(dataOnly bool) linux.Errno
	}
	// Allocator is fallocate: ENODEV; ESPIPE for pipes.
	Allocator interface {
		Allocate(mode uint32, off, n int64) linux.Errno
	}
	// Flocker is flock, with op LOCK_SH, LOCK_EX or LOCK_UN, and LOCK_NB. It
	// may park. The file itself is the owner of the lock: EBADF.
	Flocker interface {
		Flock(op int) linux.Errno
	}
	// RecordLocker is fcntl with F_GETLK … F_OFD_SETLKW as cmd. It may park
	// for the waiting ones. PosixClose is called at each close of a descriptor
	// of this file, which is when POSIX record locks end: EINVAL.
	RecordLocker interface {
		RecordLock(cmd int, l *linux.Flock) linux.Errno
		PosixClose()
	}
	// DirReader is getdents64: whole records into p, 0 at the end, EINVAL if p
	// holds not even one: ENOTDIR.
	DirReader interface {
		Getdents(p []byte) (int, linux.Errno)
	}
	// Chmoder is fchmod: EPERM.
	Chmoder interface {
		Chmod(mode uint32) linux.Errno
	}
	// Chowner is fchown; ^0 leaves that id as it is: EPERM.
	Chowner interface {
		Chown(uid, gid uint32) linux.Errno
	}
	// Timer is futimens. A time with Nsec UTIME_OMIT stays, UTIME_NOW has
	// been replaced by the time now: EPERM.
	TimeSetter interface {
		SetTimes(atime, mtime linux.Timespec) linux.Errno
	}
	// Statfser is fstatfs: an anonymous file system.
	Statfser interface {
		Statfs(st *linux.Statfs) linux.Errno
	}
	// FlagSetter is told of fcntl F_SETFL (O_APPEND, O_NONBLOCK, …).
	FlagSetter interface {
		SetFlags(flags uint32)
	}
	// MoreWriter is a stream that can be told that more follows at once
	// (MSG_MORE); writev uses it.
	MoreWriter interface {
		WriteMore(p []byte) (int, linux.Errno)
	}
	// Mapper is a file that can be mapped: ENODEV. MapHandle gives the host
	// handle of a file that the host can map, MAP_SHARED, into this pVM.
	// Others are mapped as a copy that is kept coherent: MapKey is a
	// comparable that is equal for the same inode, and files call
	// kernel.FileWritten after each write, truncation or hole.
	Mapper interface {
		MapHandle() (handle int32, ok bool)
		MapKey() any
	}
)

// FileWritten tells the memory maps that n bytes at off of the inode with that
// MapKey changed (n < 0: to the end). Without maps it costs a load. Call it
// without holding what Pread takes.
func FileWritten(key any, off, n int64) {
	if f := onFileWritten; f != nil && mapsExist.Load() {
		f(key, off, n)
	}
}
