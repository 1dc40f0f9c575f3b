package broker

import (
	"context"
	"math"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"noyau.dev/host/volume"
)

// A blocking flock or fcntl in the kernel would hold a thread of the monitor
// for as long as somebody else likes, and could not be cancelled. So a waiting
// lock is tried again: at once when any pVM of this monitor gives a lock up, else
// at growing intervals, since the other one may be any process of the host.
const (
	lockFirst = time.Millisecond
	lockMost  = 25 * time.Millisecond
)

var lockNews struct {
	sync.Mutex
	c chan struct{} // closed at the next news; nil if nobody waits
}

// pokeLocks wakes everybody who waits for a lock.
func pokeLocks() {
	lockNews.Lock()
	if lockNews.c != nil {
		close(lockNews.c)
		lockNews.c = nil
	}
	lockNews.Unlock()
}

func lockChange() <-chan struct{} {
	lockNews.Lock()
	defer lockNews.Unlock()
	if lockNews.c == nil {
		lockNews.c = make(chan struct{})
	}
	return lockNews.c
}

func busy(err error) bool { return err == unix.EAGAIN || err == unix.EACCES }

// waitLocked calls try until it has the lock, or the request is given up.
func waitLocked(ctx context.Context, try func() error) error {
	pause := lockFirst
	timer := time.NewTimer(pause)
	defer timer.Stop()
	for {
		news := lockChange() // before the try: nothing is missed
		err := try()
		if !busy(err) {
			return err
		}
		select {
		case <-ctx.Done():
			return unix.EINTR
		case <-news:
		case <-timer.C:
			pause = min(2*pause, lockMost)
		}
		timer.Reset(pause)
	}
}

func doFlock(r *request) (reply, error) {
	op, err := small(r.msg.A)
	if err != nil {
		return reply{}, err
	}
	err = r.file(func(f *volume.File) error { return f.Flock(int(op &^ unix.LOCK_NB)) })
	if op&^unix.LOCK_NB == unix.LOCK_UN {
		pokeLocks()
	}
	if err == unix.EAGAIN && op&unix.LOCK_NB == 0 {
		return reply{}, errLater
	}
	return reply{}, err
}

func waitFlock(r *request) (reply, error) {
	return reply{}, r.file(func(f *volume.File) error {
		return waitLocked(r.ctx, func() error { return f.Flock(int(r.msg.A)) })
	})
}

const (
	lockWait = 1
	lockGet  = 2
)

func (r *request) record() (typ int16, start, length int64, err error) {
	if r.msg.A > 2 || r.msg.B > math.MaxInt64 || r.msg.C > math.MaxInt64 || r.msg.D > lockGet {
		return 0, 0, 0, unix.EINVAL
	}
	return int16(r.msg.A), int64(r.msg.B), int64(r.msg.C), nil
}

func doLock(r *request) (rep reply, err error) {
	typ, start, length, err := r.record()
	if err != nil {
		return reply{}, err
	}
	err = r.file(func(f *volume.File) error {
		if r.msg.D == lockGet {
			typ, start, length, err := f.Locked(typ, start, length)
			rep.a, rep.b, rep.c = uint64(typ), uint64(start), uint64(length)
			return err
		}
		return f.Lock(typ, start, length)
	})
	if typ == unix.F_UNLCK && r.msg.D != lockGet {
		pokeLocks()
	}
	if busy(err) && r.msg.D == lockWait {
		return reply{}, errLater
	}
	return rep, err
}

func waitLock(r *request) (reply, error) {
	typ, start, length, err := r.record()
	if err != nil {
		return reply{}, err
	}
	return reply{}, r.file(func(f *volume.File) error {
		return waitLocked(r.ctx, func() error { return f.Lock(typ, start, length) })
	})
}
