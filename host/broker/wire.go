package broker

import (
	"errors"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"noyau.dev/abi"
)

// Message buffers are shared by all pVMs of the process: a broker holds one
// only while it works on a packet.
var buffers = sync.Pool{New: func() any { b := make([]byte, abi.MaxMsg); return &b }}

// oobRoom is room for two descriptors: one may be sent, a second is noticed, and
// the kernel drops more by itself.
var oobRoom = unix.CmsgSpace(2 * 4)

// errWoken is returned by receive after wake.
var errWoken = errors.New("woken")

// wake makes receive return, now or the next time.
func (b *Broker) wake() { b.c.Control.SetReadDeadline(time.Now()) }

// receive waits for one packet and has it handled. It returns an error when the
// channel is at its end.
func (b *Broker) receive(handle func(p []byte, whole bool, fds []int)) error {
	var (
		buf   *[]byte
		n     int
		fds   []int
		flags int
		err   error
	)
	werr := b.raw.Read(func(fd uintptr) bool {
		buf = buffers.Get().(*[]byte)
		n, fds, flags, err = recvPacket(int(fd), *buf, oobRoom)
		if err == unix.EAGAIN {
			// Parked without a buffer.
			buffers.Put(buf)
			buf = nil
			return false
		}
		return true
	})
	if buf == nil {
		if werr == nil {
			werr = os.ErrClosed
		}
		if errors.Is(werr, os.ErrDeadlineExceeded) {
			b.c.Control.SetReadDeadline(time.Time{})
			werr = errWoken
		}
		return werr
	}
	defer buffers.Put(buf)
	if err != nil {
		return err
	}
	if n == 0 && len(fds) == 0 {
		return os.ErrClosed
	}
	handle((*buf)[:n], flags&(unix.MSG_TRUNC|unix.MSG_CTRUNC) == 0, fds)
	return nil
}

func recvPacket(fd int, buf []byte, room int) (n int, fds []int, flags int, err error) {
	var oob [64]byte
	var oobn int
	for {
		n, oobn, flags, _, err = unix.Recvmsg(fd, buf, oob[:room], unix.MSG_DONTWAIT|unix.MSG_CMSG_CLOEXEC)
		// A guest that ends without having read all makes the kernel say ECONNRESET, once, and
		// before what it has sent last, its OpKilled for instance.
		if err != unix.EINTR && err != unix.ECONNRESET {
			break
		}
	}
	if err != nil || oobn == 0 {
		return n, nil, flags, err
	}
	cmsgs, err := unix.ParseSocketControlMessage(oob[:oobn])
	if err != nil {
		return n, nil, flags, err
	}
	for _, c := range cmsgs {
		if c.Header.Level != unix.SOL_SOCKET || c.Header.Type != unix.SCM_RIGHTS {
			continue
		}
		got, err := unix.ParseUnixRights(&c)
		if err == nil {
			fds = append(fds, got...)
		}
	}
	return n, fds, flags, nil
}

// send writes one packet with descriptors beside it. It waits, without a thread,
// while the guest does not read.
func (b *Broker) send(m *abi.Msg, payload []byte, fds ...int) error {
	var head [abi.MsgSize]byte
	m.Put(head[:])
	parts := [][]byte{head[:], payload}
	if len(payload) == 0 {
		parts = parts[:1]
	}
	var oob []byte
	if len(fds) > 0 {
		oob = unix.UnixRights(fds...)
	}
	var err error
	werr := b.raw.Write(func(s uintptr) bool {
		for {
			_, err = unix.SendmsgBuffers(int(s), parts, oob, nil, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
			if err != unix.EINTR {
				break
			}
		}
		return err != unix.EAGAIN
	})
	if werr != nil {
		return werr
	}
	return err
}
