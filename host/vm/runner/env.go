package runner

import (
	"encoding/hex"
	"fmt"
	"os"
	"strconv"
	"strings"

	"noyau.dev/host/vm/kvm"
	"noyau.dev/host/vm/runner/spare"
)

// How the monitor tells the runner what to do: one environment entry names the
// descriptors and options, another what guests see of the processor, and the
// guest's own environment follows with a mark before each entry, so that it means
// nothing to the runner's Go runtime. Arguments are the guest's.
const (
	envRun   = "NOYAU_VM="
	envCPUID = "NOYAU_VM_CPUID="
	envMark  = "+"
	shellRun = "shell"
	earlyRun = "early"
	// templateRun, and the limit of the guest's memory in bytes.
	templateRun = "template "
	zygoteRun   = "zygote"
)

// Order is what a runner is told to do. The descriptors are numbers there.
type Order struct {
	Image, KVM int // above all handles
	Timing     int // a memory file of TimingSize bytes; 0: none
	Stats      bool
	CPUID      []kvm.CPUIDEntry // machine.HostCPUID; nil: the runner asks
	Spare      int              // a snapshot has handles below this number
}

// The Go runtime would keep a descriptor of its own, to follow the limits of its
// cgroup, and would interrupt the guest to preempt the goroutine that runs it.
const goDebug = "GODEBUG=containermaxprocs=0,updatemaxprocs=0,asyncpreemptoff=1"

// Env returns the environment of a runner process; env is the guest's.
func Env(o Order, env []string) []string {
	out := append(base(o.CPUID), fmt.Sprintf("%s%d,%d,%d,%t", envRun, o.Image, o.KVM, o.Timing, o.Stats))
	if o.Spare > o.Image {
		out = append(out, fmt.Sprintf("%s=%d", spare.Env, o.Spare))
	}
	for _, e := range env {
		out = append(out, envMark+e)
	}
	return out
}

func base(cpuid []kvm.CPUIDEntry) []string {
	out := []string{goDebug}
	if len(cpuid) > 0 {
		out = append(out, envCPUID+hex.EncodeToString(cpuidBytes(cpuid)))
	}
	return out
}

// Wanted reports whether this process was started as a runner.
func Wanted() bool { return os.Getenv("NOYAU_VM") != "" }

type orders struct {
	image, kvm, timing int
	stats, shell       bool
	zygote             bool
	isBorn, direct     bool   // a zygote has made it; its order comes unasked
	spare              bool   // but later
	began              int64  // when
	ahead              *ahead // what the zygote had for it
	template           bool   // a shell of one image and one snapshot, which come first
	memory             uint64 // its limit of memory
	order              int64  // when a shell got its image
	cpuid              []kvm.CPUIDEntry
}

// parseEnv takes apart what Env and ShellEnv made.
func parseEnv(env []string) (o orders, guest []string, err error) {
	o.timing = -1
	for _, e := range env {
		if s, ok := strings.CutPrefix(e, envMark); ok {
			guest = append(guest, s)
		} else if s, ok := strings.CutPrefix(e, envCPUID); ok {
			b, err := hex.DecodeString(s)
			const size = cpuidSize
			if err != nil || len(b)%size != 0 || len(b) > 256*size {
				return o, nil, fmt.Errorf("vm: %s has %d bytes, no list of CPUID entries (%v)", envCPUID, len(b), err)
			}
			o.cpuid = make([]kvm.CPUIDEntry, len(b)/size)
			copy(cpuidBytes(o.cpuid), b)
		} else if s, ok := strings.CutPrefix(e, envRun); ok {
			if s == shellRun || s == earlyRun {
				o.shell, o.direct, o.kvm = true, s == earlyRun, shellKVM
				continue
			}
			if s == zygoteRun {
				o.zygote, o.kvm = true, shellKVM
				continue
			}
			if m, ok := strings.CutPrefix(s, templateRun); ok {
				o.shell, o.template, o.kvm = true, true, shellKVM
				if o.memory, err = strconv.ParseUint(m, 10, 64); err != nil {
					return o, nil, fmt.Errorf("vm: %q is no order of a template: %w", e, err)
				}
				continue
			}
			f := strings.Split(s, ",")
			if len(f) != 4 {
				return o, nil, fmt.Errorf("vm: %q is no order of a runner", e)
			}
			var n [3]int
			for i := range n {
				if n[i], err = strconv.Atoi(f[i]); err != nil {
					return o, nil, fmt.Errorf("vm: %q is no order of a runner: %w", e, err)
				}
			}
			o.image, o.kvm, o.stats = n[0], n[1], f[3] == "true"
			if n[2] > 0 {
				o.timing = n[2]
			}
		}
	}
	return o, guest, nil
}
