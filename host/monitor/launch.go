package monitor

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"noyau.dev/abi"
	"noyau.dev/host/broker"
	"noyau.dev/host/snapshot"
	"noyau.dev/host/volume"
)

// A launch is what Start has opened so far. What stays ours goes to the broker
// and the pumps; the rest is closed when the image runs.
type launch struct {
	handles []*os.File // the guest's, by number
	ours    []*os.File // to close if the start fails
	roots   []*volume.Root
	ports   *broker.Ports
	image   *os.File
	owned   bool // image is to be closed
	boot    *boot
	family  *family // nil: it may not fork

	stdin, stdout, stderr, trace, control *os.File
}

// prepare opens all that the pVM starts with.
func (l *launch) prepare(c *Config) error {
	var err error
	if l.image = c.ImageFile; l.image == nil {
		if l.image, err = os.Open(c.Image); err != nil {
			return fmt.Errorf("image: %w", err)
		}
		l.owned = true
	}
	if l.ports, err = broker.OpenPorts(c.Publish); err != nil {
		return err
	}
	boot := newBoot(c)
	l.boot = boot
	if err := l.volumes(c, boot); err != nil {
		return err
	}
	if err := l.streams(c); err != nil {
		return err
	}
	control, guests, err := pair(unix.SOCK_SEQPACKET, "control")
	if err != nil {
		return err
	}
	l.control = l.keep(control)
	l.give(guests)
	if err := l.extras(c, boot); err != nil {
		return err
	}
	block, err := boot.seal()
	if err != nil {
		return err
	}
	l.handles[abi.HandleBoot] = block
	epfd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return fmt.Errorf("epoll: %w", err)
	}
	l.handles[abi.HandlePoll] = os.NewFile(uintptr(epfd), "epoll")
	return nil
}

func (l *launch) keep(f *os.File) *os.File { l.ours = append(l.ours, f); return f }
func (l *launch) give(f *os.File)          { l.handles = append(l.handles, f) }

// streams makes the standard streams, handles 0 to 2.
func (l *launch) streams(c *Config) error {
	for n, dst := range []**os.File{&l.stdin, &l.stdout, &l.stderr} {
		if n == abi.HandleStderr && c.Stderr != nil && same(c.Stdout, c.Stderr) {
			dup, err := unix.FcntlInt(fdOf(l.handles[abi.HandleStdout]), unix.F_DUPFD_CLOEXEC, 0)
			if err != nil {
				return fmt.Errorf("standard error: %w", err)
			}
			l.give(os.NewFile(uintptr(dup), "stderr"))
			return nil
		}
		ours, guests, err := pair(unix.SOCK_STREAM, []string{"stdin", "stdout", "stderr"}[n])
		if err != nil {
			return err
		}
		*dst = l.keep(ours)
		l.give(guests)
	}
	return nil
}

// same says whether two writers are one, without tripping over writers of types
// that cannot be compared.
func same(a, b any) (eq bool) {
	defer func() { recover() }()
	return a == b
}

// fdOf is f's descriptor; unlike f.Fd it leaves it nonblocking.
func fdOf(f *os.File) (fd uintptr) {
	if raw, err := f.SyscallConn(); err == nil {
		raw.Control(func(n uintptr) { fd = n })
	}
	return fd
}

// extras gives the handles behind the fixed ones, which it leaves open for the
// boot block and the epoll instance.
func (l *launch) extras(c *Config, boot *boot) error {
	l.handles = append(l.handles, nil, nil)
	if !c.NoHostCerts {
		if f, size := certificates(); f != nil {
			boot.hostFile(certPath, 0o644, len(l.handles), size)
			l.give(f)
		}
	}
	if c.Trace && c.TraceTo != nil {
		ours, guests, err := pair(unix.SOCK_STREAM, "trace")
		if err != nil {
			return err
		}
		l.trace = l.keep(ours)
		boot.add(abi.RecTraceTo, abi.Append32(nil, uint32(len(l.handles))))
		l.give(guests)
	}
	if c.Restore != "" {
		return l.snapshot(c.Restore, boot)
	}
	return nil
}

// snapshot gives what a restored pVM begins with.
func (l *launch) snapshot(path string, boot *boot) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("snapshot: %w", err)
	}
	boot.head.Restore = uint32(len(l.handles))
	l.give(f)
	m, err := snapshot.Check(f, l.image)
	if err != nil {
		return err
	}
	boot.head.Memory = m.Memory
	dead, err := unix.Socket(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("snapshot: %w", err)
	}
	l.give(os.NewFile(uintptr(dead), "dead"))
	return nil
}

func (l *launch) volumes(c *Config, boot *boot) error {
	list := c.Volumes
	if !c.NoZoneinfo {
		if st, err := os.Stat(zoneinfo); err == nil && st.IsDir() {
			list = append(list[:len(list):len(list)], Volume{Host: zoneinfo, Guest: zoneinfo, ReadOnly: true})
		}
	}
	ids := volume.IDs{
		HostUID: uint32(os.Geteuid()), HostGID: uint32(os.Getegid()),
		GuestUID: c.UID, GuestGID: c.GID,
	}
	seen := make(map[string]bool)
	for _, v := range list {
		if seen[v.Guest] {
			if v.Host == zoneinfo {
				continue
			}
			return fmt.Errorf("volume %s: %s has a volume already", v, v.Guest)
		}
		seen[v.Guest] = true
		r, err := volume.Open(v, uint32(len(l.roots)), ids)
		if err != nil {
			return err
		}
		boot.volume(v.Guest, len(l.roots), v.ReadOnly)
		l.roots = append(l.roots, r)
	}
	return nil
}

// closeGuests closes the guest's ends, which the image has by now.
func (l *launch) closeGuests() {
	for _, f := range l.handles {
		if f != nil {
			f.Close()
		}
	}
	if l.owned {
		l.image.Close()
	}
}

// fail closes what would have been the monitor's.
func (l *launch) fail() {
	for _, f := range l.ours {
		f.Close()
	}
	for _, r := range l.roots {
		r.Close()
	}
	l.ports.Close()
}
