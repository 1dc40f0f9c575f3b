// Package process launches images as host processes: isolation=process, and the
// runner of isolation=vm, which is launched the same way with a list of system
// calls of its own.
//
//	p, err := process.Start(process.Spec{Image: f, Args: argv, Files: handles, Tick: 10 * time.Millisecond})
//	status, usage := p.Wait()
//
// # Threat model
//
// The image is hostile: it executes any instruction, makes any system call with
// any argument and sends anything to its monitor. It must reach nothing but the
// descriptors that it was given, use no more than its limits, and end with its
// monitor. The kernel is trusted, and so is whoever starts the monitor. Side
// channels of shared processors, caches and memory are not closed.
//
// # What holds it
//
// The seccomp filter is the wall: 16 system calls with their arguments checked
// (ImageRules; docs/HOST_CALLS.md), none of which takes a path, makes a descriptor
// other than by the monitor's grace, makes memory executable, or names another
// process. Everything else ends the process. Linux itself answers two numbers
// before it asks any filter (335 uretprobe, 336 uprobe): they fail outside of
// kernel probes.
//
// Behind it stand, so that a hole in one is not a hole in all: no new privileges;
// no capabilities; user, network, ipc, uts, cgroup, mount and pid namespaces; an
// empty read-only root; all other descriptors closed; limits of memory,
// descriptors, processes; control groups. Process.Sandbox tells what is in force:
//
//   - As root: all of it. The image runs as user 65534 of the host.
//   - As another user, with user namespaces allowed: all of it, but the image
//     keeps the user and the groups of the monitor as the host sees them, and
//     there is a control group only where one is delegated (systemd does).
//   - As another user without user namespaces: the filter, no new privileges, no
//     capabilities, descriptors and limits.
//
// An image is not protected from being traced by its own user on the host:
// exec makes every process dumpable again.
//
// # The launch
//
// A launch costs little more than fork and exec of any program. The child is made by
// clone with CLONE_VM and CLONE_VFORK and executes a list of system calls that
// was prepared before (step), from registers alone, so it depends on nothing of
// the Go runtime whose memory it shares. The namespaces but that of pids hold
// nothing and are made once for all images of a monitor (jail); each image joins
// them. The child shares the monitor's table of descriptors until it has a copy of a
// few of its numbers (window), so a launch costs the same with ten thousand
// descriptors. The last step is execveat, which the filter allows by a secret argument.
//
// Package process imports abi and nothing else of this module.
package process
