package process

import (
	"bufio"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/containerd/cgroups/v3"
	"github.com/containerd/cgroups/v3/cgroup1"
	"github.com/containerd/cgroups/v3/cgroup2"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// A group is the control group of one image. Images without limits get none, and
// neither do those of a user who may not make any: then limits of the
// process do what they can. A launch never fails for want of a control group.
type group struct {
	v1      cgroup1.Cgroup
	v2      *cgroup2.Manager
	dirs    map[string]string // controller -> directory
	missing string            // why limits were asked for and there is no group

	mu   sync.Mutex
	gone bool
	oom  bool
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
	var err error
	if cgroups.Mode() == cgroups.Unified {
		err = g.makeV2(name, s)
	} else {
		err = g.makeV1(name, s)
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

func (g *group) makeV1(name string, s *Spec) error {
	own, err := cgroup1.ParseCgroupFile("/proc/self/cgroup")
	if err != nil {
		return err
	}
	res := &specs.LinuxResources{}
	var make []func(root string) cgroup1.Subsystem
	var names []cgroup1.Name
	add := func(n cgroup1.Name, f func(root string) cgroup1.Subsystem) {
		names, make = append(names, n), append(make, f)
	}
	if s.Memory != 0 {
		limit := int64(min(s.Memory, math.MaxInt64))
		res.Memory = &specs.LinuxMemory{Limit: &limit}
		add(cgroup1.Memory, func(r string) cgroup1.Subsystem { return cgroup1.NewMemory(r, cgroup1.OptionalSwap()) })
	}
	if s.Pids != 0 {
		limit := int64(s.Pids)
		res.Pids = &specs.LinuxPids{Limit: &limit}
		add(cgroup1.Pids, func(r string) cgroup1.Subsystem { return cgroup1.NewPids(r) })
	}
	if s.CPU != 0 {
		period, quota := uint64(cpuPeriod), int64(s.CPU*cpuPeriod)
		res.CPU = &specs.LinuxCPU{Period: &period, Quota: &quota}
		add(cgroup1.Cpu, func(r string) cgroup1.Subsystem { return cgroup1.NewCpu(r) })
	}
	var subs []cgroup1.Subsystem
	for i, n := range names {
		root, err := controllerRoot(n)
		if err != nil {
			return err
		}
		sub := make[i](root)
		subs = append(subs, sub)
		g.dirs[string(n)] = filepath.Join(root, string(n), own[string(n)], name)
	}
	path := func(n cgroup1.Name) (string, error) { return filepath.Join(own[string(n)], name), nil }
	g.v1, err = cgroup1.New(path, res, cgroup1.WithHierarchy(func() ([]cgroup1.Subsystem, error) { return subs, nil }))
	if err != nil {
		for _, d := range g.dirs {
			unix.Rmdir(d)
		}
	}
	return err
}

// controllerRoot is the directory in which controllers of cgroup v1 are mounted.
func controllerRoot(n cgroup1.Name) (string, error) {
	const root = "/sys/fs/cgroup"
	if _, err := os.Stat(filepath.Join(root, string(n))); err != nil {
		return "", fmt.Errorf("the %s controller is not mounted", n)
	}
	return root, nil
}

func (g *group) makeV2(name string, s *Spec) error {
	const mount = "/sys/fs/cgroup"
	res := &cgroup2.Resources{}
	if s.Memory != 0 {
		limit, together := int64(min(s.Memory, math.MaxInt64)), true
		res.Memory = &cgroup2.Memory{Max: &limit, OOMGroup: &together}
	}
	if s.Pids != 0 {
		res.Pids = &cgroup2.Pids{Max: int64(s.Pids)}
	}
	if s.CPU != 0 {
		period, quota := uint64(cpuPeriod), int64(s.CPU*cpuPeriod)
		res.CPU = &cgroup2.CPU{Max: cgroup2.NewCPUMax(&quota, &period)}
	}
	in, err := delegated(mount, res.EnabledControllers())
	if err != nil {
		return err
	}
	g.v2, err = cgroup2.NewManager(mount, filepath.Join("/", in, name), res)
	if err != nil {
		return err
	}
	g.dirs["unified"] = filepath.Join(mount, in, name)
	return nil
}

// delegated finds the nearest control group above this process in which groups
// with the wanted controllers can be made. It is not this process's own, which
// holds processes and so can have no groups with controllers beneath it, unless
// it is the root.
func delegated(mount string, want []string) (string, error) {
	_, own, err := cgroup1.ParseCgroupFileUnified("/proc/self/cgroup")
	if err != nil {
		return "", err
	}
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
	set := map[string]bool{}
	for _, h := range have {
		set[h] = true
	}
	for _, w := range want {
		if !set[w] {
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
