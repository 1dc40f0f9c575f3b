package broker

import (
	"os"

	"golang.org/x/sys/unix"

	"noyau.dev/host/tty"
)

// terminal is the user's terminal behind the standard stream that A names.
func (r *request) terminal() (*os.File, error) {
	if r.msg.A >= uint64(len(r.b.c.Terminal)) {
		return nil, unix.EINVAL
	}
	t := r.b.c.Terminal[r.msg.A]
	if t == nil {
		return nil, unix.ENOTTY
	}
	return t, nil
}

func doTermGet(r *request) (reply, error) {
	t, err := r.terminal()
	if err != nil {
		return reply{}, err
	}
	s, err := tty.Get(t)
	return reply{payload: s.Append(nil)}, err
}

func doTermSet(r *request) (reply, error) {
	t, err := r.terminal()
	if err != nil {
		return reply{}, err
	}
	s, ok := tty.Take(r.payload)
	if !ok {
		return reply{}, unix.EINVAL
	}
	switch r.msg.B {
	case unix.TCSETS, unix.TCSETSW, unix.TCSETSF:
	default:
		return reply{}, unix.EINVAL
	}
	return reply{}, r.slow(func() error { return s.Set(t, uint(r.msg.B)) })
}
