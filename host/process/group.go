package process

import (
	"bufio"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// A group is the control group of one image. Images without limits get none, and
// neither do those of a user who may not make any: then limits of the
// process do what they can. A launch never fails for want of a control group.
//
// It is a few directories and files. Libraries for them bring 5 MB of other things
// (D-Bus, eBPF, protocol buffers) and 1.3 ms to the start of every command, more
// than a launch takes.
type group struct {
	dirs    map[string]string // controller -> directory
	missing string            // why limits were asked for and there is no group

	mu   sync.Mutex
	gone bool
}

var groupSerial atomic.Uint64

// newGroup makes the group for the limits of s.
func newGroup(s *Spec) (*group, error) {
	g := &group{dirs: map[string]string{}}
	if s.Memory == 0 && s.CPU == 0 && s.Pids == 0 {
		return g, nil
	}
	name := s.Cgroup
	if name == "" {
		name = fmt.Sprintf("noyau-%d-%d", os.Getpid(), groupSerial.Add(1))
	}
	if strings.ContainsAny(name, "/\x00") || strings.HasPrefix(name, ".") {
		return nil, fmt.Errorf("process: %q is no name for a control group", name)
	}
	own, err := ownGroups()
	switch {
	case err != nil:
	case unix.Access(cgroupMount+"/cgroup.controllers", unix.F_OK) == nil:
		err = g.makeV2(name, own, s)
	default:
		err = g.makeV1(name, own, s)
	}
	if err != nil {
		g.remove()
		g.refuse(err.Error())
	}
	return g, nil
}

// refuse gives the group up: the image runs without.
func (g *group) refuse(why string) {
	g.remove()
	g.missing, g.dirs = why, map[string]string{}
}

// cpuPeriod is the kernel's default, in microseconds.
const cpuPeriod = 100_000

const cgroupMount = "/sys/fs/cgroup"

// setting is a file of a control group and what to write into it.
type setting struct{ file, value string }

// makeV1 makes a directory for each controller that is needed, beneath those of
// this process.
func (g *group) makeV1(name string, own map[string]string, s *Spec) error {
	limits := map[string][]setting{}
	if s.Memory != 0 {
		limits["memory"] = []setting{{"memory.limit_in_bytes", strconv.FormatUint(min(s.Memory, math.MaxInt64), 10)}}
	}
	if s.Pids != 0 {
		limits["pids"] = []setting{{"pids.max", strconv.Itoa(s.Pids)}}
	}
	if s.CPU != 0 {
		limits["cpu"] = []setting{{"cpu.cfs_quota_us", strconv.Itoa(int(s.CPU * cpuPeriod))}}
	}
	for controller, list := range limits {
		path, ok := own[controller]
		if !ok {
			return fmt.Errorf("there is no %s controller", controller)
		}
		if err := g.make(controller, filepath.Join(cgroupMount, controller, path, name), list); err != nil {
			return err
		}
	}
	return nil
}

// makeV2 makes one directory where groups with the needed controllers can be made.
func (g *group) makeV2(name string, own map[string]string, s *Spec) error {
	var want []string
	var list []setting
	if s.Memory != 0 {
		want = append(want, "memory")
		list = append(list, setting{"memory.max", strconv.FormatUint(min(s.Memory, math.MaxInt64), 10)}, setting{"memory.oom.group", "1"})
	}
	if s.Pids != 0 {
		want, list = append(want, "pids"), append(list, setting{"pids.max", strconv.Itoa(s.Pids)})
	}
	if s.CPU != 0 {
		want, list = append(want, "cpu"), append(list, setting{"cpu.max", fmt.Sprintf("%d %d", int(s.CPU*cpuPeriod), cpuPeriod)})
	}
	in, err := delegated(cgroupMount, own[""], want)
	if err != nil {
		return err
	}
	return g.make("unified", filepath.Join(cgroupMount, in, name), list)
}

// make makes a directory and applies its settings.
func (g *group) make(kind, dir string, list []setting) error {
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	g.dirs[kind] = dir
	for _, s := range list {
		if err := os.WriteFile(filepath.Join(dir, s.file), []byte(s.value), 0); err != nil {
			return err
		}
	}
	return nil
}

// ownGroups reads the control groups of this process: by controller for v1, with
// the key "" for v2.
func ownGroups() (map[string]string, error) {
	b, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return nil, err
	}
	own := map[string]string{}
	for line := range strings.Lines(string(b)) {
		f := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(f) != 3 {
			return nil, fmt.Errorf("/proc/self/cgroup has the line %q", line)
		}
		for _, controller := range strings.Split(f[1], ",") {
			own[controller] = f[2]
		}
	}
	return own, nil
}

// delegated finds the nearest control group above this process in which groups
// with the wanted controllers can be made. It is not this process's own, which
// holds processes and so can have no groups with controllers beneath it, unless
// it is the root.
func delegated(mount, own string, want []string) (string, error) {
	for dir := filepath.Clean("/" + own); ; dir = filepath.Dir(dir) {
		have, err := os.ReadFile(filepath.Join(mount, dir, "cgroup.subtree_control"))
		if err == nil && containsAll(strings.Fields(string(have)), want) &&
			unix.Access(filepath.Join(mount, dir), unix.W_OK) == nil {
			return dir, nil
		}
		if dir == "/" {
			return "", fmt.Errorf("no control group with %s is delegated to this user", strings.Join(want, ", "))
		}
	}
}

func containsAll(have, want []string) bool {
	for _, w := range want {
		if !slices.Contains(have, w) {
			return false
		}
	}
	return true
}

// open returns what a launch needs to enter the group: the directory of a group
// of v2, or the cgroup.procs files of v1.
func (g *group) open() (dir int, procs []int, err error) {
	dir = -1
	for kind, path := range g.dirs {
		var fd int
		if kind == "unified" {
			fd, err = unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
			dir = fd
		} else {
			fd, err = unix.Open(filepath.Join(path, "cgroup.procs"), unix.O_WRONLY|unix.O_CLOEXEC, 0)
			procs = append(procs, fd)
		}
		if err != nil {
			return -1, nil, fmt.Errorf("process: control group %s: %w", path, err)
		}
	}
	return dir, procs, nil
}

// outOfMemory reports whether the kernel killed something in the group for want
// of memory.
func (g *group) outOfMemory() bool {
	for kind, file := range map[string]string{"unified": "memory.events", "memory": "memory.oom_control"} {
		if dir := g.dirs[kind]; dir != "" && countIn(filepath.Join(dir, file), "oom_kill") > 0 {
			return true
		}
	}
	return false
}

// countIn reads the number behind key in a file of "key number" lines.
func countIn(path, key string) int {
	f, err := os.Open(path)
	if err != nil {
		return 0
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		if k, v, ok := strings.Cut(s.Text(), " "); ok && k == key {
			n, _ := strconv.Atoi(v)
			return n
		}
	}
	return 0
}

// remove deletes the group. What has just ended may be counted for a moment.
func (g *group) remove() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.gone {
		return
	}
	g.gone = true
	for _, dir := range g.dirs {
		for i := 0; i < 50; i++ {
			if err := unix.Rmdir(dir); !errors.Is(err, unix.EBUSY) {
				break
			}
			time.Sleep(time.Millisecond)
		}
	}
}

// names lists the controllers in force.
func (g *group) names() string {
	var list []string
	for kind := range g.dirs {
		if kind == "unified" {
			kind = "cgroup v2"
		}
		list = append(list, kind)
	}
	return strings.Join(list, ", ")
}
