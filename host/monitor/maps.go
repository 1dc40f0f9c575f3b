package monitor

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"noyau.dev/abi"
)

// shiftsOf tells where process pid has the memory of a guest that was made of a snapshot with
// these extents: its address minus the guest's, for the variables and for the region. Under
// isolation process both are 0. The kernel's word is taken: the maps of the process, in which
// the snapshot is the file whose pieces are those of the table.
func shiftsOf(pid int, table []abi.Extent) (shifts [2]uint64, err error) {
	f, err := os.Open("/proc/" + strconv.Itoa(pid) + "/maps")
	if err != nil {
		return shifts, err
	}
	defer f.Close()
	at := make(map[uint64]abi.Extent, len(table))
	for _, e := range table {
		at[e.At] = e
	}
	type found struct {
		n      int // pieces of the table
		shifts [2]uint64
	}
	files := make(map[string]*found)
	var best *found
	for lines := bufio.NewScanner(f); lines.Scan(); {
		// address perms offset dev inode path: proc_pid_maps(5)
		w := strings.Fields(lines.Text())
		if len(w) < 6 || w[1] != "rw-p" {
			continue
		}
		from, _, _ := strings.Cut(w[0], "-")
		lo, err1 := strconv.ParseUint(from, 16, 64)
		off, err2 := strconv.ParseUint(w[2], 16, 64)
		if err := errors.Join(err1, err2); err != nil {
			return shifts, fmt.Errorf("maps of process %d: %w", pid, err)
		}
		e, ok := at[off]
		if !ok {
			continue
		}
		id := w[3] + " " + w[4]
		if files[id] == nil {
			files[id] = new(found)
		}
		k := files[id]
		k.n++
		if best == nil || k.n > best.n {
			best = k
		}
		i := 0
		if e.Addr >= abi.RegionBase {
			i = 1
		}
		k.shifts[i] = lo - e.Addr
	}
	if best == nil {
		return shifts, fmt.Errorf("process %d has no snapshot in its memory", pid)
	}
	return best.shifts, nil
}
