package process

import (
	"golang.org/x/sys/unix"

	"noyau.dev/abi"
)

// limit is a resource limit of an image's process, soft and hard alike.
type limit struct {
	name     string
	resource int
	value    uint64
}

// maxProcesses is the most processes that all families of a user may have together. A
// runner of isolation vm counts as several.
const maxProcesses = 1 << 14

const (
	mib = 1 << 20
	gib = 1 << 30
)

// limitsOf lists the resource limits of a launch.
func limitsOf(s *Spec) []limit {
	data := uint64(abi.RegionMax + gib)
	if s.Memory != 0 {
		// Inside, metadata lies beside the heap, and all of it is mapped at the
		// start; what is then touched is counted by a control group only.
		data = min(s.Memory+s.Memory/4+256*mib, data)
	}
	list := []limit{
		{"open files", unix.RLIMIT_NOFILE, handlesOf(s)},
		// 1, not 0: a limit of 0 does not keep the kernel from running the
		// program of core_pattern with the memory of the image, a limit of 1 does.
		{"core size", unix.RLIMIT_CORE, 1},
		{"stack", unix.RLIMIT_STACK, 8 * mib},
		{"locked memory", unix.RLIMIT_MEMLOCK, 0},
		{"message queues", unix.RLIMIT_MSGQUEUE, 0},
	}
	if s.Filter.image {
		list = append(list,
			limit{"data", unix.RLIMIT_DATA, data},
			limit{"address space", unix.RLIMIT_AS, abi.RegionMax + 1024*gib}) // volume files may be mapped whole
	}
	// The kernel counts all processes and threads of the user: this is the last wall, for
	// what forks without asking the monitor first. A runner that may not fork has the
	// threads of its Go runtime.
	if s.Allow.Fork {
		list = append(list, limit{"processes", unix.RLIMIT_NPROC, maxProcesses})
	} else if s.Filter.image {
		list = append(list, limit{"processes", unix.RLIMIT_NPROC, 0})
	}
	for i := range list {
		var cur unix.Rlimit
		if err := unix.Getrlimit(list[i].resource, &cur); err == nil {
			list[i].value = min(list[i].value, cur.Max)
		}
	}
	return list
}

func handlesOf(s *Spec) uint64 {
	if s.Handles > 0 {
		return uint64(s.Handles)
	}
	return DefaultHandles
}
