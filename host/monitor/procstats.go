package monitor

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// clockTick is the unit of CPU times in /proc, the same on every Linux that Go
// runs on.
const clockTick = 10 * time.Millisecond

// procStats reads the figures of a host process from /proc.
func procStats(pid int) (Stats, error) {
	var s Stats
	dir := "/proc/" + strconv.Itoa(pid)
	stat, err := os.ReadFile(dir + "/stat")
	if err != nil {
		return s, fmt.Errorf("figures of process %d: %w", pid, err)
	}
	// The second field is the name in parentheses, which may hold anything.
	f := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	if len(f) < 22 {
		return s, fmt.Errorf("figures of process %d: cannot read %s/stat", pid, dir)
	}
	user, _ := strconv.ParseUint(f[11], 10, 64)
	system, _ := strconv.ParseUint(f[12], 10, 64)
	s.CPU = time.Duration(user+system) * clockTick
	pages, _ := strconv.ParseUint(f[21], 10, 64)
	s.RSS = pages * uint64(os.Getpagesize())

	// Not readable where the host forbids looking into the process: then 0.
	rollup, _ := os.ReadFile(dir + "/smaps_rollup")
	for line := range strings.Lines(string(rollup)) {
		v, ok := strings.CutPrefix(line, "Private_Dirty:")
		if !ok {
			continue
		}
		kb, _ := strconv.ParseUint(strings.TrimSuffix(strings.TrimSpace(v), " kB"), 10, 64)
		s.PrivateDirty = kb << 10
	}
	return s, nil
}
