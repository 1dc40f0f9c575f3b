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
	family  *family  // nil: it will stay alone
	leash   *os.File // nil: it may not fork; else its forks are killed when the last copy of this is closed

	child     *broker.Exec // it is one: roots and ports are the family's
	again     *again       // it is a member of a family that is being restored, likewise
	pid, ppid uint32       // of one of these
	given     map[uint32]end

	waits      *standby // nil: no process waits for this
	records    []byte   // of the boot block, about the handles that do not depend on who it is
	sameStderr bool     // standard error is another than the process that waits has

	volumes  []Volume       // by number
	snapshot *snapshot.File // nil: it is not restored
	writes   *workingSet    // of pVMs of the snapshot; nil: it does not matter
	opened   bool           // snapshot is to be closed
	restored *broker.Restored
	others   []*broker.Restored  // of the other members
	common   *broker.Common      // files of all of them
	pieces   map[uint64]*os.File // memory that they share, by place

	stdin, stdout, stderr, trace, control *os.File
}

// prepare opens all that the pVM starts with.
func (l *launch) prepare(c *Config) error {
	if err := l.open(c); err != nil {
		return err
	}
	return l.checkHandles()
}

// checkHandles refuses a launch with a number for which there is no open file: the guest would
// wait for something that never comes.
func (l *launch) checkHandles() error {
	for n, f := range l.handles {
		if fdOf(f) == ^uintptr(0) {
			return fmt.Errorf("handle %d: there is no open file for it", n)
		}
	}
	return nil
}

func (l *launch) open(c *Config) error {
	var err error
	if l.waits != nil || c.warm {
		return l.prepareStandby(c)
	}
	if l.image = c.ImageFile; l.image == nil {
		if l.image, err = os.Open(c.Image); err != nil {
			return fmt.Errorf("image: %w", err)
		}
		l.owned = true
	}
	if err := l.openSnapshot(c); err != nil {
		return err
	}
	if !l.joins() {
		if l.ports, err = broker.OpenPorts(c.Publish); err != nil {
			return err
		}
		if err := l.ports.Join(c.Shared); err != nil {
			return err
		}
	}
	boot := newBoot(c)
	if l.joins() {
		boot.head.PID, boot.head.PPID = l.pid, l.ppid
		if l.child != nil && l.child.Path != "" {
			boot.add(abi.RecExecPath, abi.AppendString(nil, l.child.Path))
		}
	}
	l.boot = boot
	if err := l.openVolumes(c, boot); err != nil {
		return err
	}
	if err := l.reopen(c.Reopen); err != nil {
		return err
	}
	if err := l.streams(c); err != nil {
		return err
	}
	if err := l.giveControl(); err != nil {
		return err
	}
	if err := l.extras(c, boot); err != nil {
		return err
	}
	if err := l.sealBoot(); err != nil {
		return err
	}
	return l.poller()
}

// sealBoot makes the boot block of what boot has.
func (l *launch) sealBoot() error {
	block, err := l.boot.seal()
	if err != nil {
		return err
	}
	l.handles[abi.HandleBoot] = block
	if l.leash == nil {
		l.handles[abi.HandleLeash] = block
	}
	return nil
}

func (l *launch) poller() error {
	epfd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return fmt.Errorf("epoll: %w", err)
	}
	l.handles[abi.HandlePoll] = os.NewFile(uintptr(epfd), "epoll")
	return nil
}

// unrevive ends what was launched of a restored family.
func (l *launch) unrevive() {
	if l.family != nil {
		l.family.unrevive()
	}
}

// joins says whether it will be a member of a family that there is already: roots and ports
// are the family's.
func (l *launch) joins() bool { return l.child != nil || l.again != nil }

func (l *launch) keep(f *os.File) *os.File { l.ours = append(l.ours, f); return f }
func (l *launch) give(f *os.File)          { l.handles = append(l.handles, f) }

// streams makes the standard streams, handles 0 to 2.
func (l *launch) streams(c *Config) error {
	if l.child != nil {
		return l.childStreams()
	}
	if l.again != nil {
		return l.streamsAgain()
	}
	for n, dst := range []**os.File{&l.stdin, &l.stdout, &l.stderr} {
		if n == abi.HandleStderr && c.Stderr != nil && same(c.Stdout, c.Stderr) {
			dup, err := l.stdoutAgain()
			l.give(dup)
			return err
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

// stdoutAgain is the guest's end of standard output once more, for standard error.
func (l *launch) stdoutAgain() (*os.File, error) {
	fd, err := unix.FcntlInt(fdOf(l.handles[abi.HandleStdout]), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("standard error: %w", err)
	}
	return os.NewFile(uintptr(fd), "stderr"), nil
}

// giveControl makes the control channel.
func (l *launch) giveControl() error {
	control, guests, err := pair(unix.SOCK_SEQPACKET, "control")
	if err != nil {
		return err
	}
	l.control = l.keep(control)
	l.give(guests)
	return nil
}

// giveLeash gives the handle by which a family ends with this process. A pVM that may
// not fork has something else there, so that whoever goes on from a snapshot finds the
// number taken, as it was.
func (l *launch) giveLeash(forks bool) error {
	if !forks {
		l.give(nil) // the boot block, once more
		return nil
	}
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
		return fmt.Errorf("leash: %w", err)
	}
	l.give(os.NewFile(uintptr(p[0]), "leash"))
	l.leash = os.NewFile(uintptr(p[1]), "leash")
	return nil
}

// same says whether two writers are one, without tripping over writers of types
// that cannot be compared.
func same(a, b any) (eq bool) {
	defer func() { recover() }()
	return a == b
}

// fdOf is f's descriptor, ^0 if it is closed or nil; unlike f.Fd it leaves it nonblocking.
func fdOf(f *os.File) uintptr {
	fd := ^uintptr(0)
	if raw, err := f.SyscallConn(); err == nil {
		raw.Control(func(n uintptr) { fd = n })
	}
	return fd
}

// extras gives the handles behind the fixed ones, which it leaves open for the
// boot block and the epoll instance.
func (l *launch) extras(c *Config, boot *boot) error {
	l.handles = append(l.handles, nil, nil)
	if err := l.giveLeash(c.Forks > 1); err != nil {
		return err
	}
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
	if l.child != nil {
		return l.childFiles(boot)
	}
	if l.snapshot != nil {
		return l.giveSnapshot(boot)
	}
	return nil
}

// openVolumes opens the host directories of volumes. A child has those of the family.
func (l *launch) openVolumes(c *Config, boot *boot) error {
	if !l.joins() {
		if err := l.listVolumes(c); err != nil {
			return err
		}
	}
	for n, v := range l.volumes {
		boot.volume(v.Guest, n, v.ReadOnly)
	}
	if l.joins() {
		return nil
	}
	ids := volume.IDs{
		HostUID: uint32(os.Geteuid()), HostGID: uint32(os.Getegid()),
		GuestUID: c.UID, GuestGID: c.GID,
	}
	for n, v := range l.volumes {
		var r *volume.Root // of a volume that is not there any more: ENODEV
		if v.Host != "" {
			var err error
			if r, err = volume.Open(v, uint32(n), ids); err != nil {
				return err
			}
		}
		l.roots = append(l.roots, r)
	}
	return nil
}

// listVolumes says which volumes there are. Those of a restored pVM are those of its
// snapshot, in its order.
func (l *launch) listVolumes(c *Config) error {
	given := make(map[string]Volume)
	for _, v := range c.Volumes {
		if _, ok := given[v.Guest]; ok {
			return fmt.Errorf("volume %s: %s has a volume already", v, v.Guest)
		}
		given[v.Guest] = v
		l.volumes = append(l.volumes, v)
	}
	_, taken := given[zoneinfo]
	zones := !c.NoZoneinfo && !taken && isDir(zoneinfo)
	if l.snapshot != nil {
		return l.volumesOfSnapshot(given, zones)
	}
	if zones {
		l.volumes = append(l.volumes, Volume{Host: zoneinfo, Guest: zoneinfo, ReadOnly: true})
	}
	return nil
}

func isDir(path string) bool {
	st, err := os.Stat(path)
	return err == nil && st.IsDir()
}

// closeGuests closes the guest's ends, which the image has by now.
func (l *launch) closeGuests() {
	for _, f := range l.handles {
		if f != nil {
			f.Close()
		}
	}
	if l.leash != nil {
		l.leash.Close()
	}
	if l.again == nil {
		l.closePieces()
	}
	if l.owned {
		l.image.Close()
	}
	if l.opened {
		l.snapshot.Close()
	}
}

// fail closes what would have been the monitor's.
func (l *launch) fail() {
	if l.waits != nil {
		l.waits.w.Discard()
	}
	for _, f := range l.ours {
		f.Close()
	}
	if l.common != nil {
		l.common.Close()
	}
	if !l.joins() {
		closeShared(l.roots, l.ports, l.execs())
	}
}

// execs are the images that were opened for the family.
func (l *launch) execs() map[string]*executable {
	if l.family == nil {
		return nil
	}
	return l.family.execs
}
