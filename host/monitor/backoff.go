package monitor

import "time"

// The pause after a failure: the first one, and the longest.
const (
	backoffMin = time.Second
	backoffMax = time.Minute
)

// A Backoff is what is remembered of something that has failed and is tried again: not
// before a pause is over, which doubles from a second up to a minute for as long as it fails.
// The zero value is of something that has not failed. It is not safe for concurrent use.
type Backoff struct {
	err   error
	pause time.Duration
	until time.Time
}

// Failed begins a pause.
func (b *Backoff) Failed(err error) {
	b.pause = min(max(2*b.pause, backoffMin), backoffMax)
	b.err, b.until = err, time.Now().Add(b.pause)
}

// Worked forgets what has failed.
func (b *Backoff) Worked() { *b = Backoff{} }

// Err is why it has failed the last time; nil: it has not.
func (b *Backoff) Err() error { return b.err }

// Over reports whether it may be tried.
func (b *Backoff) Over() bool { return !time.Now().Before(b.until) }
