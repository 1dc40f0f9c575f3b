package linux

// Timespec is struct timespec.
type Timespec struct{ Sec, Nsec int64 }

// Nano returns t in nanoseconds, saturating at the ends of int64.
func (t Timespec) Nano() int64 {
	const most, billion = int64(1<<63 - 1), int64(1e9)
	if t.Sec >= most/billion {
		return most
	}
	if t.Sec <= -most/billion {
		return -most
	}
	return t.Sec*1e9 + t.Nsec
}

// Valid reports whether t is what timeouts must be: not negative, less than a
// second of nanoseconds.
func (t Timespec) Valid() bool { return t.Sec >= 0 && uint64(t.Nsec) < 1e9 }

// NsecToTimespec is the inverse of Nano.
func NsecToTimespec(ns int64) Timespec {
	t := Timespec{ns / 1e9, ns % 1e9}
	if t.Nsec < 0 {
		t.Sec--
		t.Nsec += 1e9
	}
	return t
}

// Timeval is struct timeval.
type Timeval struct{ Sec, Usec int64 }

// NsecToTimeval converts nanoseconds, rounding down.
func NsecToTimeval(ns int64) Timeval {
	t := NsecToTimespec(ns)
	return Timeval{t.Sec, t.Nsec / 1000}
}

// Itimerspec is struct itimerspec, Itimerval struct itimerval.
type (
	Itimerspec struct{ Interval, Value Timespec }
	Itimerval  struct{ Interval, Value Timeval }
)

// Clocks.
const (
	CLOCK_REALTIME           = 0
	CLOCK_MONOTONIC          = 1
	CLOCK_PROCESS_CPUTIME_ID = 2
	CLOCK_THREAD_CPUTIME_ID  = 3
	CLOCK_MONOTONIC_RAW      = 4
	CLOCK_REALTIME_COARSE    = 5
	CLOCK_MONOTONIC_COARSE   = 6
	CLOCK_BOOTTIME           = 7
	CLOCK_TAI                = 11

	TIMER_ABSTIME = 1

	UTIME_NOW  = 0x3fffffff
	UTIME_OMIT = 0x3ffffffe

	TFD_TIMER_ABSTIME = 1
	TFD_NONBLOCK      = O_NONBLOCK
	TFD_CLOEXEC       = O_CLOEXEC
)
