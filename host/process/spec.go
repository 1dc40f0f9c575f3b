package process

import (
	"os"
	"time"
)

// Spec says how to launch one image. Image is required; the rest has defaults.
type Spec struct {
	// Image is the program, a static ELF open for reading. The caller keeps it
	// and may close it when Start has returned.
	Image *os.File
	Args  []string // argv, argv[0] included
	Env   []string // "KEY=value"; nothing is inherited

	// Files become the descriptors 0, 1, 2 …; none may be nil. Everything else is
	// closed. The caller keeps its own and may close them when Start has returned.
	Files []*os.File

	Memory  uint64        // bytes that the image may use; 0: no limit
	CPU     float64       // processors that it may keep busy, 1.5 = one and a half; 0: no limit
	Pids    int           // processes of the family; 0: no limit of its own
	Handles int           // open descriptors; 0: DefaultHandles; cut to the hard limit of this process
	Tick    time.Duration // CPU time between two SIGPROF; 0: none

	Allow Allow
	// Leash, with Allow.Fork, is the writing end of a pipe whose other end is the file at
	// abi.HandleLeash, which such an image cannot let go of: all that it has forked is
	// killed when nobody has the writing end any more. The caller closes its own when
	// Start has returned; Process has another until the family has ended.
	Leash *os.File
	// Zygote makes it a process that others of its kind are made of: see Process.Born. It
	// has no limits of a control group.
	Zygote bool
	// Filter replaces the list of system calls; nil: ImageRules(Allow).
	Filter *Filter
	// Cgroup is the name of the control group made for Memory, CPU and Pids;
	// "": a name of its own.
	Cgroup string
}

// DefaultHandles is the limit of open descriptors if a Spec has none: room for
// 65,536 connections and what else an image has.
const DefaultHandles = 65536 + 64

// Allow widens the list of system calls by what a policy may grant.
type Allow struct {
	SendAnywhere bool // datagrams to addresses that the image chooses
	Clock        bool // clock_gettime, where the vDSO cannot (see ClockNeedsCall)
	Fork         bool // clone, and what a forked image does first; no pid namespace
	Restore      bool // mmap of a snapshot's pages, privately
}

// Status is how a process ended.
type Status struct {
	Code   int // exit code, if Signal is 0
	Signal int // number of the signal that ended it
	OOM    bool
}

// Usage is what a process used up, and is complete when it has ended.
type Usage struct {
	User, System time.Duration
	MaxRSS       uint64 // bytes
	MinorFaults  int64
	MajorFaults  int64
}

// Report says which protections are in force for a process.
type Report struct {
	InForce []string // "seccomp (16 system calls)", "user namespace" …
	Missing []string // what is not, each with the reason
}
