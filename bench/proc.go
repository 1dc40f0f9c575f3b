package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// privateDirty is the memory that exists for process pid alone, in bytes.
func privateDirty(pid int) (uint64, error) { return smaps(pid, "Private_Dirty:") }

// smaps reads one sum of /proc/PID/smaps_rollup, in bytes.
func smaps(pid int, key string) (uint64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		return 0, fmt.Errorf("memory of process %d: %w", pid, err)
	}
	return kilobytes(b, key)
}

// available is the memory that the machine could still give to programs, in bytes.
func available() (uint64, error) {
	b, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0, err
	}
	return kilobytes(b, "MemAvailable:")
}

func kilobytes(b []byte, key string) (uint64, error) {
	for line := range bytes.Lines(b) {
		f := bytes.Fields(line)
		if len(f) >= 2 && string(f[0]) == key {
			kb, err := strconv.ParseUint(string(f[1]), 10, 64)
			return kb << 10, err
		}
	}
	return 0, fmt.Errorf("there is no %s", key)
}

// cpuTime is the CPU time of all threads of process pid so far.
func cpuTime(pid int) (time.Duration, error) {
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
	if err != nil || len(files) == 0 {
		return 0, fmt.Errorf("process %d is gone", pid)
	}
	var sum time.Duration
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			continue // a thread that has ended
		}
		ns, _ := strconv.ParseInt(string(bytes.Fields(b)[0]), 10, 64)
		sum += time.Duration(ns)
	}
	return sum, nil
}

// openFiles counts the descriptors of this process.
func openFiles() int {
	d, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return 0
	}
	return len(d) - 1
}

// fileLimit is the most descriptors that this process may have.
func fileLimit() uint64 {
	var l unix.Rlimit
	unix.Getrlimit(unix.RLIMIT_NOFILE, &l)
	return l.Max
}
