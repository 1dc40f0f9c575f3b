package linux

// File types and mode bits of Stat.Mode.
const (
	S_IFMT   = 0170000
	S_IFSOCK = 0140000
	S_IFLNK  = 0120000
	S_IFREG  = 0100000
	S_IFBLK  = 0060000
	S_IFDIR  = 0040000
	S_IFCHR  = 0020000
	S_IFIFO  = 0010000
	S_ISUID  = 0004000
	S_ISGID  = 0002000
	S_ISVTX  = 0001000
)

// Stat is struct stat.
type Stat struct {
	Dev     uint64
	Ino     uint64
	Nlink   uint64
	Mode    uint32
	UID     uint32
	GID     uint32
	_       int32
	Rdev    uint64
	Size    int64
	Blksize int64
	Blocks  int64 // of 512 bytes
	Atim    Timespec
	Mtim    Timespec
	Ctim    Timespec
	_       [3]int64
}

// Statx is struct statx.
type Statx struct {
	Mask           uint32
	Blksize        uint32
	Attributes     uint64
	Nlink          uint32
	UID            uint32
	GID            uint32
	Mode           uint16
	_              uint16
	Ino            uint64
	Size           uint64
	Blocks         uint64
	AttributesMask uint64
	Atime          StatxTimestamp
	Btime          StatxTimestamp
	Ctime          StatxTimestamp
	Mtime          StatxTimestamp
	RdevMajor      uint32
	RdevMinor      uint32
	DevMajor       uint32
	DevMinor       uint32
	MntID          uint64
	DioMemAlign    uint32
	DioOffsetAlign uint32
	_              [12]uint64
}

// StatxTimestamp is struct statx_timestamp.
type StatxTimestamp struct {
	Sec  int64
	Nsec uint32
	_    int32
}

const (
	STATX_BASIC_STATS = 0x7ff
	STATX_BTIME       = 0x800
)

// Statfs is struct statfs.
type Statfs struct {
	Type    int64
	Bsize   int64
	Blocks  uint64
	Bfree   uint64
	Bavail  uint64
	Files   uint64
	Ffree   uint64
	Fsid    [2]int32
	Namelen int64
	Frsize  int64
	Flags   int64
	_       [4]int64
}

// Magic numbers of Statfs.Type.
const (
	TMPFS_MAGIC         = 0x01021994
	PROC_SUPER_MAGIC    = 0x9fa0
	ANON_INODE_FS_MAGIC = 0x09041934
	PIPEFS_MAGIC        = 0x50495045
	SOCKFS_MAGIC        = 0x534f434b
)

// File types of a directory entry.
const (
	DT_UNKNOWN = 0
	DT_FIFO    = 1
	DT_CHR     = 2
	DT_DIR     = 4
	DT_BLK     = 6
	DT_REG     = 8
	DT_LNK     = 10
	DT_SOCK    = 12
)

// DirentSize is the size of struct linux_dirent64 without its name. The name,
// a NUL, and padding to a multiple of 8 bytes follow.
const DirentSize = 19

// AppendDirent appends a struct linux_dirent64. off is the cookie of the next
// entry. It reports false, and appends nothing, if b would exceed max bytes.
func AppendDirent(b []byte, max int, ino uint64, off int64, typ byte, name string) ([]byte, bool) {
	n := (DirentSize + len(name) + 1 + 7) &^ 7
	if len(b)+n > max {
		return b, false
	}
	start := len(b)
	for i := 0; i < 64; i += 8 {
		b = append(b, byte(ino>>i))
	}
	for i := 0; i < 64; i += 8 {
		b = append(b, byte(uint64(off)>>i))
	}
	b = append(b, byte(n), byte(n>>8), typ)
	b = append(b, name...)
	for len(b) < start+n {
		b = append(b, 0)
	}
	return b, true
}
