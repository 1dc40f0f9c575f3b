package snapshot

import (
	"bufio"
	"bytes"
	"debug/elf"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"noyau.dev/abi"
	"noyau.dev/host/monitor"
	"noyau.dev/test/internal/pvms"
)

// placesConfig is that of a family with memory that one member does not have.
func placesConfig(t *testing.T, isolation string, args ...string) monitor.Config {
	c := familyConfig(t, isolation, append([]string{"places"}, args...)...)
	c.Memory = 32 << 20
	return c
}

// TestPlaceOfOthers: a member that says, when its family is saved, that it has memory which
// only others were given, makes the snapshot fail; the error names it, and all go on.
func TestPlaceOfOthers(t *testing.T) {
	pvms.Isolations(t, func(t *testing.T, isolation string) {
		i, out := begin(t, placesConfig(t, isolation, "claim"))
		pvms.Expect(t, out, 1, "ready")
		err := i.Snapshot(t.Context(), filepath.Join(t.TempDir(), "snapshot"), monitor.SnapshotOptions{})
		if err == nil || !strings.Contains(err.Error(), "member 2 says that it has shared memory that it was not given") {
			t.Error("the snapshot:", err)
		}
		i.Signal(unix.SIGUSR1)
		rest(t, out, true)
	})
}

// TestPlaceOfOthersAgain: a restored member has been given what the file says, and no more.
func TestPlaceOfOthersAgain(t *testing.T) {
	pvms.Isolations(t, func(t *testing.T, isolation string) {
		c := placesConfig(t, isolation, "again")
		i, out := restore(t, c, isolation, save(t, c, "ready"))
		pvms.Expect(t, out, 1, "ready")
		err := i.Snapshot(t.Context(), filepath.Join(t.TempDir(), "snapshot"), monitor.SnapshotOptions{})
		if err == nil || !strings.Contains(err.Error(), "member 2 says that it has shared memory that it was not given") {
			t.Error("the snapshot:", err)
		}
	})
}

// rest reads what the first of the family says to its end. early: the member that tried
// something has ended well.
func rest(t *testing.T, out *bufio.Reader, early bool) {
	t.Helper()
	if b, err := io.ReadAll(out); err != nil || string(b) != fmt.Sprintf("early %v\ndone\n", early) {
		t.Errorf("the family says %q, %v", b, err)
	}
}

// TestMappedApart: a member of a restored family whose memory says that it has a piece of
// others, of which the file knows nothing, does not get it.
func TestMappedApart(t *testing.T) {
	pairs(t, func(t *testing.T, from, to string) {
		c := placesConfig(t, from)
		file := save(t, c, "ready")
		_, out := restore(t, c, to, file)
		rest(t, out, true)
		forged := forge(t, file, func(s *forgery) {
			const early = 1
			places := s.table(t, int(s.meta.Family.Members[early].At))
			if len(places) != 2*abi.SnapArea {
				t.Fatalf("%d bytes of places", len(places))
			}
			mine := places[abi.SnapArea+16:]
			binary.LittleEndian.PutUint64(mine, binary.LittleEndian.Uint64(mine)+2*abi.PageSize)
		})
		var said bytes.Buffer
		c.Stderr = &said
		i, out := restore(t, c, to, forged)
		rest(t, out, false)
		i.Kill()
		i.Wait()
		t.Log(said.String())
	})
}

// TestPiecesApart: of what a restored family shares each member has mapped its own pieces and no
// others, which are files of their own, and it has no descriptor of any.
func TestPiecesApart(t *testing.T) {
	pairs(t, func(t *testing.T, from, to string) {
		file := save(t, placesConfig(t, from, "stay"), "ready")
		i, out := restore(t, placesConfig(t, from, "stay"), to, file)
		pvms.Expect(t, out, 1, "restored")
		const first, early, late = 1, 2, 3
		has, open := make(map[int][]string), make(map[int]int)
		for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
			ready := 0
			for _, m := range i.Members() { // others may still begin
				if has[m.PID], open[m.PID] = shares(t, m.Pid); len(has[m.PID]) == 2 && open[m.PID] == 0 {
					ready++
				}
			}
			if ready == 3 {
				break
			}
		}
		for pid := first; pid <= late; pid++ {
			if len(has[pid]) != 2 || open[pid] != 0 {
				t.Errorf("member %d has %v mapped, want 2, and %d descriptors of shared memory", pid, has[pid], open[pid])
			}
		}
		if n := common(has[early], has[first]); n != 1 {
			t.Errorf("the early one has %d pieces of the first's, want 1: %v", n, has)
		}
		if n := common(has[late], has[first]); n != 2 {
			t.Errorf("the late one has %d pieces of the first's, want 2: %v", n, has)
		}
	})
}

// shares are the inodes of the family's memory that a process has mapped, and how many descriptors of
// such memory it has.
func shares(t *testing.T, pid int) (list []string, open int) {
	t.Helper()
	maps, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(maps)) {
		if f := strings.Fields(line); len(f) > 5 && strings.HasPrefix(f[5], "/memfd:noyau-share") && !slices.Contains(list, f[4]) {
			list = append(list, f[4])
		}
	}
	dir := fmt.Sprintf("/proc/%d/fd/", pid)
	fds, err := os.ReadDir(dir)
	if err != nil || len(fds) == 0 {
		t.Fatal(len(fds), err)
	}
	for _, fd := range fds {
		if to, _ := os.Readlink(dir + fd.Name()); strings.Contains(to, "noyau-share") {
			open++
		}
	}
	return list, open
}

func common(a, b []string) (n int) {
	for _, x := range a {
		if slices.Contains(b, x) {
			n++
		}
	}
	return n
}

// TestManyPieces: they come in several messages.
func TestManyPieces(t *testing.T) {
	const n = 5*abi.ShareBatch + 1
	pairs(t, func(t *testing.T, from, to string) {
		c := familyConfig(t, from, "pieces", fmt.Sprint(n))
		file := saveOn(t, c)
		_, out := restore(t, c, to, file)
		pvms.Expect(t, out, 1, "done")
	})
}

// TestShortlivedPairs: what a member has closed does not count any more.
func TestShortlivedPairs(t *testing.T) {
	c := familyConfig(t, "process", "shortlived", fmt.Sprint(abi.ShareMost+100))
	c.Forks = 2
	_, out := begin(t, c)
	pvms.Expect(t, out, 1, "done")
}

// TestFileOutOfHand: from the first instruction of a snapshot on its file, in which is what
// all members of a family had, is not in hand.
func TestFileOutOfHand(t *testing.T) {
	pairs(t, func(t *testing.T, from, to string) {
		c := familyConfig(t, from, "idle", "2")
		spin := spinIn(t, c.Image)
		file := forge(t, save(t, c, "ready"), func(s *forgery) {
			for _, m := range s.meta.Family.Members {
				s.put(uint64(m.At)+atPC, spin)
			}
		})
		i, _ := restore(t, c, to, file)
		for _, m := range i.Members() {
			var used time.Duration
			for end := time.Now().Add(20 * time.Second); used < 50*time.Millisecond; time.Sleep(time.Millisecond) {
				if time.Now().After(end) {
					t.Fatalf("member %d does not run: %v", m.PID, used)
				}
				for _, now := range i.Members() {
					if now.PID == m.PID {
						used = now.Stats.CPU
					}
				}
			}
			dir := fmt.Sprintf("/proc/%d/fd/", m.Pid)
			fds, err := os.ReadDir(dir)
			if err != nil || len(fds) == 0 {
				t.Fatal(len(fds), err)
			}
			for _, fd := range fds {
				if to, _ := os.Readlink(dir + fd.Name()); to == file {
					t.Errorf("member %d has the snapshot as descriptor %s", m.PID, fd.Name())
				}
			}
		}
	})
}

// TestProgramApart: a member of another image than the first is made of a file in which is
// nothing of others.
func TestProgramApart(t *testing.T) {
	pairs(t, func(t *testing.T, from, to string) {
		c := familyConfig(t, from, "programs", "/bin/other")
		c.Exec = []monitor.Exec{{Name: "other", Image: c.Image}}
		file := save(t, c, "ready")
		i, out := restore(t, c, to, file)
		pvms.Expect(t, out, 1, "restored")
		list := i.Members()
		if len(list) != 2 {
			t.Fatalf("%d members", len(list))
		}
		maps, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", list[1].Pid))
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(maps), file) || !strings.Contains(string(maps), "/.noyau-restore-") {
			t.Errorf("the program has not a file of its own mapped:\n%s", maps)
		}
	})
}

// spinIn is an address in the image at which, as an instruction, there is a jump to itself.
func spinIn(t *testing.T, image string) uint64 {
	t.Helper()
	f, err := elf.Open(image)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, p := range f.Progs {
		if p.Type != elf.PT_LOAD || p.Flags&elf.PF_X == 0 {
			continue
		}
		text, err := io.ReadAll(p.Open())
		if err != nil {
			t.Fatal(err)
		}
		if n := bytes.Index(text, []byte{0xeb, 0xfe}); n >= 0 {
			return p.Vaddr + uint64(n)
		}
	}
	t.Fatal("no instruction jumps to itself")
	return 0
}

// table is the table of shared memory of the member whose header is at this place in the file.
func (s *forgery) table(t *testing.T, at int) []byte {
	t.Helper()
	h, wrong := abi.TakeSnap(s.b[at:at+abi.SnapData], uint64(len(s.b)))
	if wrong != "" {
		t.Fatal(wrong)
	}
	for i := range int(h.Extents) {
		if e := abi.SnapExtentAt(s.b[at:], i); h.Areas >= e.Addr && h.Areas-e.Addr < e.Len {
			p := e.At + h.Areas - e.Addr
			return s.b[p : p+uint64(h.AreaN)*abi.SnapArea]
		}
	}
	t.Fatal("its table is not in the file")
	return nil
}
