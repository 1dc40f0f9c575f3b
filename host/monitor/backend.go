package monitor

import (
	"fmt"
	"os"
	"sort"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Spec is what a back-end gets to start an image. It must not keep or close
// Image and Handles: the monitor closes them when Start returns.
type Spec struct {
	Name    string
	Image   *os.File
	Args    []string   // with argv[0]
	Env     []string   // "KEY=value"
	Handles []*os.File // by handle number, from 0; all are set
	Memory  uint64     // bytes; 0: no limit
	CPU     float64    // processors that it may keep busy; 0: no limit
	Pids    int        // 0: default
	Tick    time.Duration
	NetOut  bool // datagrams may be sent to any address without asking
	Fork    bool
	Leash   *os.File // with Fork: what it forks is killed when nobody has this any more; the other end is abi.HandleLeash
	Restore bool     // one of Handles is a snapshot
	Touch   []uint64 // with Restore: pages that it will write soon, in runs as abi.WarmTouch has them
	Above   int      // all handles that the snapshot speaks of are below this number
	Options map[string]string
	Timing  *Timing // nil: nobody asks
}

// A Backend is an isolation: it runs images.
type Backend interface {
	// Available returns nil if pVMs can be started on this host, else why not.
	Available() error
	Start(spec *Spec) (Process, error)
}

// A Preparer is a Backend that can make what it lacks, given time. It is asked to
// when a user names it, not for isolation auto.
type Preparer interface{ Prepare() error }

// A Process is a running image. Its methods are safe for concurrent use.
type Process interface {
	Pid() int
	// Wait blocks, without holding a thread, until the image has ended.
	Wait() Status
	Kill() error
	Stats() (Stats, error) // CPU, RSS and PrivateDirty only
	// Sandbox says which protections are in force and which are not.
	Sandbox() (inForce, missing []string)
}

// A Forker is a Backend whose pVMs can fork. Its processes are Parents.
type Forker interface{ CanFork() }

// A Restorer is a Backend that makes pVMs of snapshots.
type Restorer interface{ CanRestore() }

// A Toucher is a Restorer that heeds Spec.Touch.
type Toucher interface{ HeedsTouch() }

// A Warmer is a Restorer that makes pVMs ahead of time: see Template.
type Warmer interface {
	Backend
	Restorer
	// Warm starts a process that restores its snapshot up to the point where it matters what
	// pVM it is, and waits there. Its handles are as they will be but for
	// HandleControl; its boot block has BootWarm. It returns when the process waits.
	Warm(spec *Spec) (Warm, error)
}

// A Warm is a process that waits to become a pVM.
type Warm interface {
	// Alive says whether it still waits.
	Alive() bool
	// Touch has it write to pages without a change, by their addresses in the guest.
	Touch(pages []uint64) error
	// Begin makes it a pVM. Of its handles those with the numbers in fresh are others than before;
	// Image, Memory, CPU, Pids, NetOut, Fork and Tick are those of before. After an error it is of
	// no use.
	Begin(spec *Spec, fresh []int) (Process, error)
	Discard()
}

// A Parent is a Process that may fork.
type Parent interface {
	Process
	// Expect announces a fork: until done is called Wait does not return.
	Expect() (done func())
	// Adopt makes a Process of a fork; pid is the kernel's word, not the guest's.
	Adopt(pid int) (Process, error)
	// KillFamily ends all that was ever forked.
	KillFamily() error
}

// Status is how the host saw a Process end.
type Status struct {
	Code   int         // exit code if Signal is 0
	Signal unix.Signal // signal that ended it
	OOM    bool        // the kernel killed it for want of memory
	Detail string      // more for people, may be empty
}

var backends struct {
	sync.Mutex
	byName map[string]Backend
}

// Register makes an isolation known. Packages of isolations are given to it at
// program start.
func Register(name string, b Backend) {
	backends.Lock()
	defer backends.Unlock()
	if backends.byName == nil {
		backends.byName = make(map[string]Backend)
	}
	backends.byName[name] = b
}

// autoOrder is the preference of isolation "auto".
var autoOrder = []string{"vm", "process"}

// lacks says what b cannot do of what is wanted; "": nothing.
func lacks(b Backend, fork, restore bool) string {
	if _, ok := b.(Restorer); restore && !ok {
		return "cannot restore snapshots yet"
	}
	if _, ok := b.(Forker); fork && !ok {
		return "cannot fork"
	}
	return ""
}

// backend finds the isolation called name, one that can fork and restore if that is wanted.
func backend(name string, fork, restore bool) (string, Backend, error) {
	backends.Lock()
	defer backends.Unlock()
	if name != "" && name != "auto" {
		b := backends.byName[name]
		if b == nil {
			return "", nil, fmt.Errorf("isolation %q is not known (known: auto, %s)", name, strings.Join(known(), ", "))
		}
		if p, ok := b.(Preparer); ok {
			if err := p.Prepare(); err != nil {
				return "", nil, fmt.Errorf("isolation %s cannot be used here: %w", name, err)
			}
		}
		if err := b.Available(); err != nil {
			return "", nil, fmt.Errorf("isolation %s cannot be used here: %w", name, err)
		}
		if no := lacks(b, fork, restore); no != "" {
			return "", nil, fmt.Errorf("isolation %s %s; use isolation process", name, no)
		}
		return name, b, nil
	}
	var why []string
	for _, n := range autoOrder {
		b := backends.byName[n]
		if b == nil {
			continue
		}
		if err := b.Available(); err != nil {
			why = append(why, n+": "+err.Error())
			continue
		}
		if no := lacks(b, fork, restore); no != "" {
			why = append(why, n+": "+no)
			continue
		}
		return n, b, nil
	}
	if why == nil {
		why = []string{"none is built in"}
	}
	return "", nil, fmt.Errorf("no isolation can be used here: %s", strings.Join(why, "; "))
}

// Available returns nil if the isolation of that name can be used here, else why not.
func Available(name string) error {
	_, _, err := backend(name, false, false)
	return err
}

func known() []string {
	var names []string
	for n := range backends.byName {
		names = append(names, n)
	}
	sort.Strings(names)
	return names
}
