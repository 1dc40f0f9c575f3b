package process

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// UnprivilegedID is the user and group that images run as inside their user
// namespace, and on the host when this process is root.
const UnprivilegedID = 65534

// A jail is what all images of this process share: namespaces that hold
// nothing. A network namespace costs more to make than an image takes to run, so
// they are made once, by a child that ends at once, and joined by descriptor. A
// jail does not change; see weaken.
type jail struct {
	spaces    []space // in the order in which they are joined
	empty     int     // descriptor of an empty directory that has no name; -1: none
	chroot    bool    // whether empty can be made the root
	alive     [2]int  // pipe: the write end closes when this process ends
	window    *window // where the descriptors above are, but alive[1], and those of a launch
	missing   []string
	root      bool // whether this process is the real root, or that of a container
	keepsUser bool // the image is root to the host, for want of another user
	pidNS     bool // whether images get a pid namespace each
	clone3    bool
}

// space is a namespace.
type space struct {
	name string
	flag uintptr
	file string // in /proc/PID/ns
	fd   int
}

var spaceKinds = []space{
	{"user", unix.CLONE_NEWUSER, "user", -1},
	{"network", unix.CLONE_NEWNET, "net", -1},
	{"ipc", unix.CLONE_NEWIPC, "ipc", -1},
	{"uts", unix.CLONE_NEWUTS, "uts", -1},
	{"cgroup", unix.CLONE_NEWCGROUP, "cgroup", -1},
	{"mount", unix.CLONE_NEWNS, "mnt", -1}, // last: nothing has a name afterwards
}

// current is the jail of this process.
var current struct {
	make sync.Once
	err  error
	jail atomic.Pointer[jail]
}

// theJail returns the jail of this process, and makes it at its first call.
func theJail() (*jail, error) {
	current.make.Do(func() {
		j, err := makeJail()
		current.err = err
		current.jail.Store(j)
	})
	return current.jail.Load(), current.err
}

// weaken returns a copy of j in which change has given up something that this
// machine refuses. If j is in use, further launches use the copy.
func (j *jail) weaken(why string, change func(j *jail)) *jail {
	c := *j
	c.missing = append(slices.Clone(j.missing), why)
	change(&c)
	current.jail.CompareAndSwap(j, &c)
	return &c
}

// Prepare returns why no image can be launched on this machine, nil if it can, and
// begins to make what all images of this process share: a millisecond of work that
// the first Start waits for. Called early, it is done by then.
func Prepare() error {
	if err := kernelCan(); err != nil {
		return err
	}
	go theJail()
	return nil
}

func makeJail() (*jail, error) {
	if err := kernelCan(); err != nil {
		return nil, err
	}
	j := &jail{empty: -1, root: os.Geteuid() == 0, pidNS: true, clone3: true}
	if _, _, e := unix.RawSyscall(unix.SYS_CLONE3, 0, 0, 0); e == unix.ENOSYS || e == unix.EPERM {
		j.clone3 = false // a filter around this process refuses it
	}
	if err := unix.Pipe2(j.alive[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
		return nil, fmt.Errorf("process: pipe: %w", err)
	}
	j.alive[0], j.alive[1] = aboveHandles(j.alive[0]), aboveHandles(j.alive[1])
	var err error
	if j.window, err = newWindow(j.alive[0]); err != nil {
		return nil, err
	}
	j.empty = emptyDirectory()
	err = j.unshare(true)
	if err != nil && j.root {
		j.missing = append(j.missing, "user namespace: "+err.Error())
		err = j.unshare(false)
	}
	if err != nil {
		j.missing = append(j.missing, "namespaces: "+err.Error())
	}
	return j, j.settle()
}

// settle moves what every launch uses into the window.
func (j *jail) settle() error {
	list := []*int{&j.alive[0]}
	if j.empty >= 0 {
		list = append(list, &j.empty)
	}
	for i := range j.spaces {
		list = append(list, &j.spaces[i].fd)
	}
	for _, fd := range list {
		n, err := j.window.keep(*fd)
		if err != nil {
			return err
		}
		*fd = n
	}
	j.window.filler = j.alive[0]
	return nil
}

// kernelCan returns why no image can be launched on this kernel, nil if it can.
func kernelCan() error {
	// close_range came with Linux 5.9, as the last of what a launch needs.
	if err := unix.CloseRange(1<<30, 1<<30, 0); err == unix.ENOSYS {
		return errors.New("process: the kernel has no close_range(2); Linux 5.9 or newer is needed")
	}
	if _, err := unix.PrctlRetInt(unix.PR_GET_SECCOMP, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("process: the kernel has no seccomp: %w", err)
	}
	return nil
}

// unshare makes the namespaces. An error means that there are none.
func (j *jail) unshare(user bool) error {
	ready, err := pipe()
	if err != nil {
		return err
	}
	defer ready.close()
	release, err := pipe()
	if err != nil {
		return err
	}
	defer release.close()

	p, made := j.program(user, ready.w, release)
	defer runtime.KeepAlive(p) // the child goes on reading it
	fail := new(failure)
	pid, err := p.run(fail)
	if pid == 0 {
		return err
	}
	defer reap(pid)
	defer release.closeWrite() // lets the child end
	ready.closeWrite()
	if err != nil {
		return err // it has already failed
	}
	if !ready.wait() {
		return p.failed(fail)
	}
	if user {
		err := mapIDs(pid, j.root)
		if j.root && errors.Is(err, unix.EPERM) {
			// A container that has no such user: then as anybody who is not root.
			j.keepsUser = true
			err = mapIDs(pid, false)
		}
		if err != nil {
			return err
		}
	}
	release.signal()
	if !ready.wait() {
		return p.failed(fail)
	}
	return j.open(pid, p, made, user)
}

// made tells which step of a program made which namespace.
type made struct {
	space      map[string]int
	root       []int // steps that empty the mount namespace
	chdir, try int   // steps that try chroot; 0: not tried
}

// program makes the namespaces one by one, then waits for its end.
func (j *jail) program(user bool, ready int, release *gate) (*program, made) {
	p, m := new(program), made{space: map[string]int{}}
	one := new([1]byte)
	buf := hold(p, one)
	p.add("clone", 0, unix.SYS_CLONE, unix.CLONE_VM)
	p.add("die with the parent", 0, unix.SYS_PRCTL, unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL))
	p.add("close", 0, unix.SYS_CLOSE, uintptr(release.w)) // else it would wait for itself
	if user {
		p.add("unshare user", 0, unix.SYS_UNSHARE, unix.CLONE_NEWUSER)
		m.space["user"] = p.last()
	}
	p.add("tell", 0, unix.SYS_WRITE, uintptr(ready), buf, 1)
	p.add("wait for the map of users", stepExact, unix.SYS_READ, uintptr(release.r), buf, 1)
	p.steps[p.last()].want = 1
	for _, s := range spaceKinds[1:] {
		p.add("unshare "+s.name, stepOptional, unix.SYS_UNSHARE, s.flag)
		m.space[s.name] = p.last()
	}
	m.root = j.emptyRoot(p)
	if j.empty >= 0 {
		p.add("fchdir", stepOptional, unix.SYS_FCHDIR, uintptr(j.empty))
		m.chdir = p.last()
		p.add("chroot", stepOptional, unix.SYS_CHROOT, p.cstring("."))
		m.try = p.last()
	}
	p.add("tell", 0, unix.SYS_WRITE, uintptr(ready), buf, 1)
	p.add("wait", stepOptional, unix.SYS_READ, uintptr(release.r), buf, 1)
	return p, m
}

// emptyRoot makes an empty read-only file system the root of the new mount
// namespace and takes everything else out of it. /proc is only the mount point:
// the one directory that must exist for namespaces to be made at all.
func (j *jail) emptyRoot(p *program) []int {
	const flags = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC
	none, dot, slash, at := p.cstring("none"), p.cstring("."), p.cstring("/"), p.cstring("/proc")
	first := len(p.steps)
	p.add("make mounts private", stepOptional, unix.SYS_MOUNT, none, slash, 0, unix.MS_REC|unix.MS_PRIVATE)
	p.add("mount an empty root", stepOptional, unix.SYS_MOUNT, none, at, p.cstring("tmpfs"), flags, p.cstring("mode=555,size=4k,nr_inodes=2"))
	p.add("enter the empty root", stepOptional, unix.SYS_CHDIR, at)
	p.add("pivot_root", stepOptional, unix.SYS_PIVOT_ROOT, dot, dot)
	p.add("unmount the host's root", stepOptional, unix.SYS_UMOUNT2, dot, unix.MNT_DETACH)
	p.add("make the root read-only", stepOptional, unix.SYS_MOUNT, none, slash, 0, unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY|flags)
	var list []int
	for i := first; i < len(p.steps); i++ {
		list = append(list, i)
	}
	return list
}

// open takes hold of the namespaces of the child pid.
func (j *jail) open(pid int, p *program, m made, user bool) error {
	j.chroot = m.try != 0 && p.err(m.chdir) == nil && p.err(m.try) == nil
	for _, s := range spaceKinds {
		if s.name == "user" && !user {
			continue
		}
		err := p.err(m.space[s.name])
		if s.name == "mount" {
			for _, i := range m.root {
				if err == nil {
					err = p.err(i)
				}
			}
		}
		if err == nil {
			s.fd, err = unix.Open("/proc/"+strconv.Itoa(pid)+"/ns/"+s.file, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		}
		if err != nil {
			j.missing = append(j.missing, s.name+" namespace: "+err.Error())
			continue
		}
		s.fd = aboveHandles(s.fd)
		j.spaces = append(j.spaces, s)
	}
	return nil
}

// has reports whether the jail has the namespace called name.
func (j *jail) has(name string) bool {
	for _, s := range j.spaces {
		if s.name == name {
			return true
		}
	}
	return false
}

// mapIDs maps the unprivileged id of the new user namespace of pid to one of
// the host: for root to the same one, else to this process's own, the only one
// that it may map.
func mapIDs(pid int, root bool) error {
	dir := "/proc/" + strconv.Itoa(pid) + "/"
	uid, gid := UnprivilegedID, UnprivilegedID
	if !root {
		uid, gid = os.Geteuid(), os.Getegid()
		if err := os.WriteFile(dir+"setgroups", []byte("deny"), 0); err != nil {
			return err
		}
	}
	if err := os.WriteFile(dir+"uid_map", fmt.Appendf(nil, "%d %d 1", UnprivilegedID, uid), 0); err != nil {
		return err
	}
	return os.WriteFile(dir+"gid_map", fmt.Appendf(nil, "%d %d 1", UnprivilegedID, gid), 0)
}

// emptyDirectory returns a descriptor of a directory that was removed: it is
// empty, nothing can be made in it, and nobody can reach it. -1: there is none.
func emptyDirectory() int {
	for _, in := range []string{"/dev/shm", os.TempDir(), "/run", "."} {
		dir, err := os.MkdirTemp(in, "noyau-root-")
		if err != nil {
			continue
		}
		fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC|unix.O_PATH, 0)
		os.Remove(dir)
		if err == nil {
			return aboveHandles(fd)
		}
	}
	return -1
}

// close lets go of everything.
func (j *jail) close() {
	j.window.close()
	unix.Close(j.alive[1])
}
