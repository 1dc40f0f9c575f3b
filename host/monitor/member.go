package monitor

import (
	"os"

	"golang.org/x/sys/unix"

	"noyau.dev/abi"
	"noyau.dev/host/broker"
)

// A member is one pVM of a family. The family's mutex guards it.
type member struct {
	f         *family
	pid, ppid uint32
	broker    *broker.Broker
	proc      Process // nil until it is known to run
	parent    *member // whose child it is; nil: the first
	asked     bool    // for by somebody outside
	started   bool    // by os/exec, not forked

	group, session uint32        // as setpgid(2) and setsid(2) have them
	ahead          bool          // prepared, and its parent may be long to fork it
	known          chan struct{} // closed when it is known, or will never be

	image    *executable      // that it was started of by others; nil: the first's
	terminal [3]*os.File      // behind its standard streams
	boot     abi.BootHeader   // what its forks begin with
	deathSig unix.Signal      // what it gets when its parent ends
	given    map[uint32]end   // handles that it had from the start, and are ends of pairs
	pieces   map[uint64]piece // of shared memory that it was given, by place
	pairs    map[uint64]bool  // without memory, of which it was given an end, by id

	children map[uint32]*child
	changed  chan struct{} // closed, and made anew, when one of children is over
}

// A child is what its parent may wait for.
type child struct {
	over   bool
	status uint32 // as wait4(2) has it
	group  uint32 // that it had, once it is not among the living
}

// Fork implements broker.Family: it makes all that a child starts with.
func (m *member) Fork(asked, ahead bool) (*broker.Birth, error) {
	f := m.f
	f.mu.Lock()
	parent, ok := m.proc.(Parent)
	f.mu.Unlock()
	if f.conf.Forks < 2 {
		return nil, unix.EPERM
	}
	if !ok {
		return nil, unix.EAGAIN
	}
	c := &member{f: f, parent: m, asked: asked, ahead: ahead, ppid: m.pid, image: m.image, terminal: m.terminal, boot: m.boot, given: m.given, known: make(chan struct{}), changed: make(chan struct{})}
	if err := f.newPID(c); err != nil {
		return nil, err
	}
	control, guests, err := pair(unix.SOCK_SEQPACKET, "control")
	if err != nil {
		c.gone()
		f.release()
		return nil, unix.EAGAIN
	}
	give := [abi.ForkHandles]*os.File{abi.ForkControl: guests}
	closeGive := func() {
		for _, x := range give {
			if x != nil {
				x.Close()
			}
		}
	}
	fail := func() (*broker.Birth, error) {
		closeGive()
		control.Close()
		c.gone()
		f.release()
		return nil, unix.EAGAIN
	}
	if give[abi.ForkBoot], err = c.block(); err != nil {
		return fail()
	}
	epfd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return fail()
	}
	give[abi.ForkPoll] = os.NewFile(uintptr(epfd), "epoll")
	dead, err := unix.Socket(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fail()
	}
	give[abi.ForkDead] = os.NewFile(uintptr(dead), "dead") // not nonblocking to it: it stays out of the poller
	if err := unix.SetsockoptInt(int(fdOf(control)), unix.SOL_SOCKET, unix.SO_PASSCRED, 1); err != nil {
		return fail()
	}
	b, err := broker.New(c.config(control))
	if err != nil {
		return fail()
	}
	f.mu.Lock()
	c.broker = b // from here on Narrow finds it
	f.mu.Unlock()
	birth := &broker.Birth{PID: c.pid, Child: c.broker, Sent: closeGive}
	for i, x := range give {
		birth.Give[i] = int(fdOf(x))
	}
	born := make(chan struct{})
	birth.Born = func(forked bool) {
		if forked {
			c.settle()
		}
		close(born)
	}
	go c.live(m, parent, control, born, parent.Expect())
	return birth, nil
}

// live sees a child through its life, from before it is forked. done lets go of the
// parent's process.
func (m *member) live(parent *member, p Parent, control *os.File, born chan struct{}, done func()) {
	defer done()
	pid, err := hello(control)
	var proc Process
	if err == nil {
		proc, err = p.Adopt(pid)
	}
	if err != nil {
		// It was never forked, or has ended before it could say a word, or what
		// said it is no fork.
		defer close(m.known)
		m.broker.Close()
		m.broker.Serve()
		m.gone()
		parent.childEnded(m.pid, 9)
		return
	}
	m.f.mu.Lock()
	m.proc = proc
	m.f.mu.Unlock()
	close(m.known)
	if m.asked {
		select {
		case m.f.asked <- int(m.pid):
		default:
		}
	}
	done()
	go func() {
		<-born
		m.broker.Serve()
	}()
	m.see(parent)
}

// see waits for the end of a member that runs.
func (m *member) see(parent *member) {
	status := m.proc.Wait()
	if !within(brokerPatience, m.broker.Done()) {
		m.broker.Close()
	}
	code := uint32(status.Code&0xff) << 8
	if status.Signal != 0 {
		code = uint32(status.Signal)
	} else if sig := m.broker.KilledBy(); sig != 0 && status.Code == 128+int(sig) {
		code = uint32(sig)
	}
	m.gone()
	if parent != nil {
		parent.childEnded(m.pid, code)
	}
}

// gone takes a member that is not the first out of the family.
func (m *member) gone() {
	m.leave()
	m.f.members.Done()
}

// leave takes a member off the list of the living, and makes orphans of its children:
// nobody waits for them.
func (m *member) leave() {
	f := m.f
	f.mu.Lock()
	delete(f.living, m.pid)
	if m.parent != nil {
		if c := m.parent.children[m.pid]; c != nil {
			c.group = m.group // for who waits for the group, from now on
		}
	}
	f.unlink(false, func(l signalLink) bool { return l.has(m) })
	m.children = nil
	f.rejoined(m)
	var orphans []*member
	for _, c := range f.living {
		if c.parent == m {
			c.ppid = 0
			if c.proc != nil {
				orphans = append(orphans, c)
			}
		}
	}
	f.changed()
	f.mu.Unlock()
	for _, c := range orphans {
		c.orphaned()
	}
}

// childEnded puts down how a child ended and tells m.
func (m *member) childEnded(pid, status uint32) {
	m.f.mu.Lock()
	c := m.children[pid]
	if c != nil {
		c.over, c.status = true, status
		close(m.changed)
		m.changed = make(chan struct{})
	}
	alive := m.f.living[m.pid] == m
	m.f.mu.Unlock()
	if c != nil && alive {
		m.broker.Signal(unix.SIGCHLD)
	}
}

// Unborn implements broker.Family: the fork of a child has failed.
func (m *member) Unborn(pid uint32) {
	m.f.mu.Lock()
	defer m.f.mu.Unlock()
	delete(m.children, pid)
}

// hello waits for the first message on a child's channel, and returns who sent it. That
// is the kernel's word.
func hello(control *os.File) (pid int, err error) {
	raw, err := control.SyscallConn()
	if err != nil {
		return 0, err
	}
	var b [abi.MsgSize]byte
	oob := make([]byte, unix.CmsgSpace(unix.SizeofUcred)+unix.CmsgSpace(4))
	var n, on int
	var rerr error
	if err := raw.Read(func(fd uintptr) bool {
		for {
			n, on, _, _, rerr = unix.Recvmsg(int(fd), b[:], oob, unix.MSG_DONTWAIT|unix.MSG_CMSG_CLOEXEC)
			if rerr != unix.EINTR && rerr != unix.ECONNRESET { // see recvPacket of package broker
				return rerr != unix.EAGAIN
			}
		}
	}); err != nil {
		return 0, err
	}
	if rerr != nil {
		return 0, rerr
	}
	msgs, err := unix.ParseSocketControlMessage(oob[:on])
	if err != nil {
		return 0, err
	}
	for i := range msgs {
		if cred, err := unix.ParseUnixCredentials(&msgs[i]); err == nil {
			pid = int(cred.Pid)
		} else if fds, err := unix.ParseUnixRights(&msgs[i]); err == nil {
			for _, fd := range fds {
				unix.Close(fd)
			}
		}
	}
	if m, _, ok := abi.TakeMsg(b[:n]); !ok || m.Op != abi.OpHello || pid <= 0 {
		return 0, os.ErrInvalid
	}
	return pid, unix.SetsockoptInt(int(fdOf(control)), unix.SOL_SOCKET, unix.SO_PASSCRED, 0)
}
