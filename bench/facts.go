package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"time"
)

// Facts are what one must know of the machine to read the figures.
type Facts struct {
	CPU       string   `json:"cpu"`
	CPUs      int      `json:"cpus"`
	Memory    string   `json:"memory"`
	Virtual   bool     `json:"virtual"` // the machine is itself a virtual one
	Kernel    string   `json:"kernel"`
	KVM       string   `json:"kvm"`
	Go        string   `json:"go"`
	Isolation string   `json:"isolation"`
	Loader    string   `json:"load_generator"`
	Files     uint64   `json:"open_files"`
	LoadStart string   `json:"load_average_at_start"`
	LoadEnd   string   `json:"load_average_at_end"`
	Others    []string `json:"others"` // other ways to run programs that are here or not
}

func facts(b *Bench) *Facts {
	f := &Facts{
		CPU: procValue("/proc/cpuinfo", "model name"), CPUs: runtime.NumCPU(),
		Memory: procValue("/proc/meminfo", "MemTotal"), Go: runtime.Version(),
		Isolation: strings.Join(b.isolation, ", "), Loader: loaderName(), LoadStart: loadAverage(), Files: fileLimit(),
		Virtual: strings.Contains(procValue("/proc/cpuinfo", "flags"), " hypervisor"),
		KVM:     "absent",
	}
	k, _ := os.ReadFile("/proc/sys/kernel/osrelease")
	f.Kernel = strings.TrimSpace(string(k))
	if kvm, err := os.OpenFile("/dev/kvm", os.O_RDWR, 0); err == nil {
		kvm.Close()
		f.KVM = "usable"
	} else if !os.IsNotExist(err) {
		f.KVM = err.Error()
	}
	for _, o := range []struct {
		name string
		args []string // a command that works only where the thing could be used
	}{
		{"docker", []string{"info", "--format", "{{.ServerVersion}}"}},
		{"podman", []string{"info", "--format", "{{.Version.Version}}"}},
		{"firecracker", []string{"--version"}},
		{"runsc", []string{"--version"}},
	} {
		f.Others = append(f.Others, o.name+": "+usable(o.name, o.args...))
	}
	return f
}

// usable says whether a program is installed and works.
func usable(name string, args ...string) string {
	path, err := exec.LookPath(name)
	if err != nil {
		return "absent, not compared"
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, path, args...).Output()
	version, _, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
	if err != nil || version == "" {
		return "installed but not usable, not compared"
	}
	return version + ", usable, not compared by this program"
}

func (f *Facts) print(w io.Writer) {
	virtual := ""
	if f.Virtual {
		virtual = ", itself a virtual machine"
	}
	fmt.Fprintf(w, "%s, %d CPUs%s; memory %s; Linux %s; /dev/kvm %s; %s\n", f.CPU, f.CPUs, virtual, f.Memory, f.Kernel, f.KVM, f.Go)
	fmt.Fprintf(w, "isolation %s; load generator %s; open files at most %d; load average %s\n", f.Isolation, f.Loader, f.Files, f.LoadStart)
	fmt.Fprintln(w, strings.Join(f.Others, "; "))
}

func (f *Facts) end() { f.LoadEnd = loadAverage() }

func loadAverage() string {
	b, _ := os.ReadFile("/proc/loadavg")
	return strings.Join(strings.Fields(string(b))[:min(3, len(strings.Fields(string(b))))], " ")
}

// procValue finds "key : value" in a file of such lines.
func procValue(file, key string) string {
	f, err := os.Open(file)
	if err != nil {
		return ""
	}
	defer f.Close()
	s := bufio.NewScanner(f)
	s.Buffer(nil, 1<<20)
	for s.Scan() {
		if k, v, ok := strings.Cut(s.Text(), ":"); ok && strings.TrimSpace(k) == key {
			return strings.TrimSpace(v)
		}
	}
	return ""
}

func printLimits(w io.Writer) {
	io.WriteString(w, `Limits of these measurements:
  - Load generator, server and monitor share the CPUs of one machine: under load
    a server that uses less CPU leaves more to the generator, and the other way.
  - All traffic is loopback; no network card, no latency.
  - Whatever else ran on the machine is in the figures; the load averages tell.
  - Samples of the subjects alternate, so slow drifts hit all alike; a median
    says nothing about the tail, the spread is shown for that.
  - Memory is Private_Dirty of /proc/PID/smaps_rollup. It leaves out the kernel's
    own (page tables, socket buffers, task structures) except where it says so.
`)
}
