package linux

// Utsname is struct new_utsname.
type Utsname struct {
	Sysname, Nodename, Release, Version, Machine, Domainname [65]byte
}

// Rlimit is struct rlimit.
type Rlimit struct{ Cur, Max uint64 }

const (
	RLIMIT_CPU     = 0
	RLIMIT_FSIZE   = 1
	RLIMIT_DATA    = 2
	RLIMIT_STACK   = 3
	RLIMIT_CORE    = 4
	RLIMIT_RSS     = 5
	RLIMIT_NPROC   = 6
	RLIMIT_NOFILE  = 7
	RLIMIT_MEMLOCK = 8
	RLIMIT_AS      = 9
	RLIM_NLIMITS   = 16
	RLIM_INFINITY  = 1<<64 - 1
)

// Sysinfo is struct sysinfo.
type Sysinfo struct {
	Uptime    int64
	Loads     [3]uint64
	Totalram  uint64
	Freeram   uint64
	Sharedram uint64
	Bufferram uint64
	Totalswap uint64
	Freeswap  uint64
	Procs     uint16
	_         [6]byte
	Totalhigh uint64
	Freehigh  uint64
	Unit      uint32
	_         [4]byte
}

// Rusage is struct rusage.
type Rusage struct {
	Utime, Stime Timeval
	Maxrss       int64 // KiB
	_            [13]int64
}

const (
	RUSAGE_SELF     = 0
	RUSAGE_CHILDREN = -1
	RUSAGE_THREAD   = 1
)

// Tms is struct tms, in ticks of 10 ms.
type Tms struct{ Utime, Stime, Cutime, Cstime int64 }

// Requests of ioctl(2).
const (
	TCGETS     = 0x5401
	TCSETS     = 0x5402
	TCSETSW    = 0x5403
	TCSETSF    = 0x5404
	TIOCGPGRP  = 0x540f
	TIOCSPGRP  = 0x5410
	TIOCGWINSZ = 0x5413
	TIOCSWINSZ = 0x5414
	FIONREAD   = 0x541b
	FIONBIO    = 0x5421
	FIONCLEX   = 0x5450
	FIOCLEX    = 0x5451
	TIOCGSID   = 0x5429
	TIOCGPTN   = 0x80045430
	FICLONE    = 0x40049409
)

// Termios is the kernel's struct termios: 36 bytes.
type Termios struct {
	Iflag, Oflag, Cflag, Lflag uint32
	Line                       uint8
	CC                         [19]uint8
}

// Winsize is struct winsize.
type Winsize struct{ Row, Col, Xpixel, Ypixel uint16 }

// Commands of prctl(2).
const (
	PR_SET_PDEATHSIG    = 1
	PR_GET_PDEATHSIG    = 2
	PR_GET_DUMPABLE     = 3
	PR_SET_DUMPABLE     = 4
	PR_GET_KEEPCAPS     = 7
	PR_SET_KEEPCAPS     = 8
	PR_SET_NAME         = 15
	PR_GET_NAME         = 16
	PR_CAPBSET_READ     = 23
	PR_SET_TIMERSLACK   = 29
	PR_GET_TIMERSLACK   = 30
	PR_SET_NO_NEW_PRIVS = 38
	PR_GET_NO_NEW_PRIVS = 39
	PR_SET_VMA          = 0x53564d41
)

// Operations of futex(2).
const (
	FUTEX_WAIT           = 0
	FUTEX_WAKE           = 1
	FUTEX_WAIT_BITSET    = 9
	FUTEX_WAKE_BITSET    = 10
	FUTEX_PRIVATE_FLAG   = 128
	FUTEX_CLOCK_REALTIME = 256
)

// Flags of close_range(2) and getrandom(2).
const (
	CLOSE_RANGE_UNSHARE = 2
	CLOSE_RANGE_CLOEXEC = 4

	GRND_NONBLOCK = 1
	GRND_RANDOM   = 2
	GRND_INSECURE = 4
)

// Flags of preadv2 and pwritev2.
const (
	RWF_HIPRI  = 1
	RWF_DSYNC  = 2
	RWF_SYNC   = 4
	RWF_NOWAIT = 8
	RWF_APPEND = 16
)
