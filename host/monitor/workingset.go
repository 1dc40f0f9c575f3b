package monitor

import (
	"slices"
	"sync"
	"time"

	"noyau.dev/abi"
	"noyau.dev/host/snapshot"
)

// A workingSet is the pages that pVMs of one snapshot write soon after they have begun.
// Half the time of a restore goes by in first touches of these, so they are given memory of
// their own before, all at once. The idea is that of record and prefetch in REAP (Ustiugov
// and others, "Benchmarking, Analysis, and Optimization of Serverless Function Snapshots",
// ASPLOS 2021); what is fetched here is copies, not the file.
type workingSet struct {
	table []abi.Extent  // of the snapshot
	parts [2]abi.Extent // what a guest may write: variables, region

	mu          sync.Mutex
	pages, last []uint64 // ascending. last are those that the last pVM has written besides
	learned     int      // from how many
}

const (
	// maxPages bounds the pages that are remembered: 4 MiB of each pVM.
	maxPages = 1024
	// enough is from how many pVMs a workingSet learns.
	enough = 8
)

// known returns the pages. The caller must not change them.
func (w *workingSet) known() []uint64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.pages
}

// wanted says whether there is more to be learned.
func (w *workingSet) wanted() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.learned < enough
}

// learn adds what process pid has written, a pVM of the snapshot. It does nothing if the
// process has ended, or the host does not let us look.
func (w *workingSet) learn(pid int) {
	if !w.wanted() {
		return
	}
	if list, err := w.written(pid); err == nil {
		w.add(list)
	}
}

// add adds what a pVM has written: all, if it is the first, else what the last two have
// written besides.
func (w *workingSet) add(list []uint64) {
	if len(list) == 0 {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.learned++
	if w.pages == nil {
		w.pages = list[:min(len(list), maxPages)]
		return
	}
	besides := without(list, w.pages)
	again := without(besides, without(besides, w.last))
	w.last = besides
	if len(w.pages)+len(again) <= maxPages {
		w.pages = slices.Concat(w.pages, again)
		slices.Sort(w.pages)
	}
}

// learnAfter is how long a pVM has to write what it writes soon after it has begun.
const learnAfter = 4 * time.Millisecond

// teach has w learn from i, which is process pid, in a moment or before it is killed.
func (i *Instance) teach(w *workingSet, pid int) {
	if w.wanted() {
		i.ending = sync.OnceFunc(func() { w.learn(pid) })
		time.AfterFunc(learnAfter, i.ending)
	}
}

// without is what is in list and not in the sorted other.
func without(list, other []uint64) (rest []uint64) {
	for _, p := range list {
		if _, found := slices.BinarySearch(other, p); !found {
			rest = append(rest, p)
		}
	}
	return rest
}

// written lists the pages of the guest's memory that process pid has written since it was made
// of the snapshot, ascending.
func (w *workingSet) written(pid int) (list []uint64, err error) {
	shifts, err := shiftsOf(pid, w.table)
	if err != nil {
		return nil, err
	}
	for i, e := range w.parts {
		e.Addr += shifts[i]
		pages, err := WrittenPages(pid, []abi.Extent{e})
		if err != nil {
			return nil, err
		}
		for _, p := range pages {
			list = append(list, p-shifts[i])
		}
	}
	return list, nil
}

// workingSets are those of snapshots that this process restores, by isolation.
var workingSets struct {
	sync.Mutex
	of map[workingSetKey]*workingSet
}

type workingSetKey struct {
	snapshot.Identity
	isolation string
}

// maxWorkingSets bounds what is remembered.
const maxWorkingSets = 64

// workingSetOf is that of s under an isolation.
func workingSetOf(s *snapshot.File, isolation string) (*workingSet, error) {
	id, err := s.Identity()
	if err != nil {
		return nil, err
	}
	key := workingSetKey{id, isolation}
	workingSets.Lock()
	defer workingSets.Unlock()
	if w := workingSets.of[key]; w != nil {
		return w, nil
	}
	h := &s.Header
	w := &workingSet{parts: [2]abi.Extent{{Addr: h.DataLo, Len: h.DataHi - h.DataLo}, {Addr: abi.RegionBase, Len: h.Region}}}
	if w.table, err = s.Extents(); err != nil {
		return nil, err
	}
	if workingSets.of == nil || len(workingSets.of) >= maxWorkingSets {
		workingSets.of = make(map[workingSetKey]*workingSet)
	}
	workingSets.of[key] = w
	return w, nil
}
