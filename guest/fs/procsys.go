package fs

import (
	"strconv"

	"noyau.dev/guest/rt"
)

// The files of /proc that are about the machine: it has one processor, and as
// much memory as the pVM may use.

func procCPUInfo() []byte {
	return []byte("processor\t: 0\nvendor_id\t: noyau\nmodel name\t: pVM\nphysical id\t: 0\nsiblings\t: 1\ncore id\t\t: 0\ncpu cores\t: 1\n\n")
}

func (t *Tree) procMeminfo() []byte {
	total := memoryLimit()
	_, used := memory()
	free := uint64(0)
	if used < total {
		free = total - used
	}
	t.mu.Lock()
	cached := uint64(t.quota.used)
	t.mu.Unlock()
	var b []byte
	for _, l := range [...]struct {
		name string
		v    uint64
	}{
		{"MemTotal:       ", total}, {"MemFree:        ", free}, {"MemAvailable:   ", free}, {"Buffers:        ", 0},
		{"Cached:         ", cached}, {"Shmem:          ", cached}, {"SwapTotal:      ", 0}, {"SwapFree:       ", 0},
	} {
		b = append(append(append(b, l.name...), kib(l.v)...), '\n')
	}
	return b
}

// seconds writes ns as seconds with two digits.
func seconds(b []byte, ns int64) []byte {
	b = strconv.AppendInt(b, ns/1e9, 10)
	c := ns / 1e7 % 100
	return append(b, '.', byte('0'+c/10), byte('0'+c%10))
}

func procUptime() []byte {
	up := rt.Nanotime()
	b := append(seconds(nil, up), ' ')
	return append(seconds(b, max(up-rt.CPUTime(), 0)), '\n')
}

func procSystemStat() []byte {
	up := rt.Nanotime()
	cpu := rt.CPUTime()
	line := " " + ticks(cpu) + " 0 0 " + ticks(max(up-cpu, 0)) + " 0 0 0 0 0 0\n"
	sec, _ := rt.Walltime()
	b := append([]byte("cpu "+line), "cpu0"+line...)
	b = append(b, "intr 0\nctxt 0\nbtime "...)
	b = strconv.AppendInt(b, sec-rt.Nanotime()/1e9, 10)
	return append(b, "\nprocesses 1\nprocs_running 1\nprocs_blocked 0\n"...)
}
