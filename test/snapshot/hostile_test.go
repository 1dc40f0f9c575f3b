package snapshot

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"flag"
	"fmt"
	"math"
	"math/rand"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"noyau.dev/abi"
	"noyau.dev/host/monitor"
	"noyau.dev/host/snapshot"
	"noyau.dev/test/internal/pvms"
)

var (
	hostileRuns = flag.Int("snapshot.fuzz", 6, "`number` of snapshots, each changed at random, that TestHostileSnapshots restores")
	hostileSeed = flag.Int64("snapshot.seed", 1, "seed of the first of them")
)

// A forgery is a snapshot that is changed by somebody who can write the file, and who knows
// how its sums are made.
type forgery struct {
	meta snapshot.Meta
	b    []byte // what the guest wrote
}

// forge changes a snapshot and gives it the sums that a right one has.
func forge(t *testing.T, file string, change func(*forgery)) string {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	s := forgery{}
	if s.meta, err = snapshot.Read(f); err != nil {
		t.Fatal(err)
	}
	s.b = b[:s.meta.Size]
	s.meta.Files = nil
	change(&s)
	s.meta.Size, s.meta.Stored = int64(len(s.b)), int64(len(s.b))
	s.meta.Sum = fmt.Sprintf("%x", sha256.Sum256(s.b))
	m, err := json.Marshal(s.meta)
	if err != nil {
		t.Fatal(err)
	}
	end := sha256.Sum256(m)
	out := append(append(append([]byte(nil), s.b...), m...), end[:]...)
	out = append(binary.LittleEndian.AppendUint64(out, uint64(len(m))), "NOYUSNAP"...)
	path := filepath.Join(t.TempDir(), "forged")
	if err := os.WriteFile(path, out, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// Offsets of fields of abi.SnapHeader.
const (
	atExtents, atSize                                = 12, 16
	atSP, atBP, atPC, atRegion, atLo, atHi           = 24, 32, 40, 48, 56, 64
	atOpen, atHandles, atMono, atWall, atTable, page = 72, 80, 88, 96, abi.SnapHead, abi.PageSize
)

func (s *forgery) get(at uint64) uint64    { return binary.LittleEndian.Uint64(s.b[at:]) }
func (s *forgery) put(at uint64, v uint64) { binary.LittleEndian.PutUint64(s.b[at:], v) }

// header returns a change that sets fields of the header.
func header(pairs ...uint64) func(*forgery) {
	return func(s *forgery) {
		for i := 0; i < len(pairs); i += 2 {
			s.put(pairs[i], pairs[i+1])
		}
	}
}

// extents are those of the table.
func (s *forgery) extents() (list []abi.Extent) {
	for i := range int(binary.LittleEndian.Uint32(s.b[atExtents:])) {
		list = append(list, abi.SnapExtentAt(s.b, i))
	}
	return list
}

// at is where the bytes of an address are in the file.
func (s *forgery) at(addr uint64) (at uint64, ok bool) {
	for _, e := range s.extents() {
		if addr >= e.Addr && addr-e.Addr < e.Len {
			return e.At + addr - e.Addr, true
		}
	}
	return 0, false
}

// open is the bitmap of handles that the pVM had.
func (s *forgery) open() []byte {
	at, ok := s.at(s.get(atOpen))
	if !ok {
		return nil
	}
	n := min(s.get(atHandles), abi.SnapHandles)
	return s.b[at:min(at+(n+63)/64*8, uint64(len(s.b)))]
}

// memory calls f for all that lies beneath, or from, abi.RegionBase: the variables, or the
// heap and what else is in the region.
func (s *forgery) memory(region bool, f func(p []byte)) {
	for _, e := range s.extents() {
		if (e.Addr >= abi.RegionBase) == region {
			f(s.b[e.At : e.At+e.Len])
		}
	}
}

func fill(with func(i int) byte) func(p []byte) {
	return func(p []byte) {
		for i := range p {
			p[i] = with(i)
		}
	}
}

const asItWas = "as it was"

// addresses are such as a guest has, or would like to have.
var addresses = []uint64{0, 1, 0x1000, 0x400000, 0x401003, abi.RegionBase, abi.RegionBase - 8, abi.VMStackBase, abi.VMInfoPage, abi.VMHypercallPage, abi.VMSignals,
	abi.VMRing, 1 << 46, 1<<47 - 8, 1 << 47, 0xffff800000000000, 0xffffffffff600000, math.MaxUint64, math.MaxUint64 - 7}

// hostile are forgeries that each aim at one thing.
func hostile() map[string]func(*forgery) {
	list := map[string]func(*forgery){
		"clock far ahead":       header(atMono, math.MaxInt64, atWall, math.MaxInt64),
		"clock before all time": header(atMono, 1<<63, atWall, 1<<63),
		"no handles":            header(atHandles, 0),
		"one handle":            header(atHandles, 1),
		"region as large as can be": func(s *forgery) {
			s.put(atRegion, abi.RegionMax)
		},
		"handles among other variables": func(s *forgery) { s.put(atOpen, s.get(atLo)); s.put(atHandles, 1<<12) },
		"handles in no extent":          func(s *forgery) { s.put(atOpen, s.get(atHi)-64); s.put(atHandles, 64*8) },
		"as many handles as can be": func(s *forgery) {
			n := min(abi.SnapHandles, (s.get(atHi)-s.get(atOpen))/8*64)
			s.put(atHandles, n)
			if at, ok := s.at(s.get(atOpen)); ok {
				fill(func(int) byte { return 0xff })(s.b[at:min(at+n/8, uint64(len(s.b)))])
			}
		},
		"every handle open":         func(s *forgery) { fill(func(int) byte { return 0xff })(s.open()) },
		"the fixed handles as well": func(s *forgery) { s.open()[0] |= 0x7f },
		"no handle open":            func(s *forgery) { clear(s.open()) },
		"other handles open": func(s *forgery) {
			for p := s.open(); len(p) > 0; p = p[1:] {
				p[0] = ^p[0]
			}
			s.open()[0] &= 0x80
		},
		"variables of zeros": func(s *forgery) { s.memory(false, fill(func(int) byte { return 0 })) },
		"variables of ones":  func(s *forgery) { s.memory(false, fill(func(int) byte { return 0xff })) },
		"heap of zeros":      func(s *forgery) { s.memory(true, fill(func(int) byte { return 0 })) },
		"heap of ones":       func(s *forgery) { s.memory(true, fill(func(int) byte { return 0xff })) },
		"no pages at all": func(s *forgery) {
			s.b = s.b[:abi.SnapData]
			s.put(atSize, abi.SnapData)
			binary.LittleEndian.PutUint32(s.b[atExtents:], 0)
		},
		"the last extent gone":  func(s *forgery) { s.drop() },
		"variables moved":       func(s *forgery) { s.put(atTable, s.get(atTable)-page); s.put(atLo, s.get(atLo)-page) },
		"text among variables":  func(s *forgery) { s.put(atTable, 0x401000); s.put(atLo, 0x400000) },
		"variables without end": func(s *forgery) { s.put(atHi, abi.RegionBase) },

		"a name that leaves":        func(s *forgery) { s.meta.Name, s.meta.Hostname, s.meta.Arg0 = "../../x", "../y", "../z" },
		"a zero in a name":          func(s *forgery) { s.meta.Arg0, s.meta.Args = "a\x00b", []string{"\x00"} },
		"very many forks":           func(s *forgery) { s.meta.Forks = math.MaxInt32 },
		"forks below zero":          func(s *forgery) { s.meta.Forks = math.MinInt32 },
		"memory without end":        func(s *forgery) { s.meta.Memory = math.MaxUint64 },
		"memory for nothing":        func(s *forgery) { s.meta.Memory = 1 },
		"ports of others":           func(s *forgery) { s.meta.Publish = []string{"0.0.0.0:22:22", "rubbish", "1:1/sctp"} },
		"a last name of handles":    func(s *forgery) { s.meta.NextHandle = math.MaxUint32 },
		"a processor that could do": func(s *forgery) { s.meta.Processor = []string{"quantum"} },
		"a volume of the host": func(s *forgery) {
			s.meta.Volumes = append(s.meta.Volumes, monitor.Volume{Host: "/", Guest: "/host"})
		},
	}
	for _, a := range addresses {
		list[fmt.Sprintf("PC %#x", a)] = header(atPC, a)
		list[fmt.Sprintf("SP %#x", a)] = header(atSP, a)
	}
	list["PC in an instruction"] = func(s *forgery) { s.put(atPC, s.get(atPC)+1) }
	list["PC at the entry"] = func(s *forgery) { s.put(atPC, s.get(atPC)&^0xfffff) }
	list["SP not of words"] = func(s *forgery) { s.put(atSP, s.get(atSP)+1) }
	list["BP of rubbish"] = header(atBP, 0xdeadbeef)
	return list
}

// drop leaves the last extent out.
func (s *forgery) drop() {
	e := s.extents()
	last := e[len(e)-1]
	s.b = s.b[:last.At]
	s.put(atSize, last.At)
	binary.LittleEndian.PutUint32(s.b[atExtents:], uint32(len(e)-1))
}

// random changes words of memory to what may mean something to a runtime and a library OS:
// numbers, addresses, other words. Most of it in the variables, where descriptors, lists of
// listeners and handles begin.
func random(r *rand.Rand) func(*forgery) {
	return func(s *forgery) {
		var words []uint64 // where those are that are not zero
		var data []uint64
		for _, e := range s.extents() {
			for at := e.At; at < e.At+e.Len; at += 8 {
				if s.get(at) == 0 {
					continue
				}
				if words = append(words, at); e.Addr < abi.RegionBase {
					data = append(data, at)
				}
			}
		}
		for range 1 << r.Intn(12) {
			from := words
			if r.Intn(4) > 0 && len(data) > 0 {
				from = data
			}
			at := from[r.Intn(len(from))]
			v := s.get(at)
			switch r.Intn(7) {
			case 0:
				v = addresses[r.Intn(len(addresses))]
			case 1:
				v = uint64(r.Intn(300))
			case 2:
				v = r.Uint64() >> r.Intn(64)
			case 3:
				v ^= 1 << r.Intn(64)
			case 4:
				v += uint64(r.Intn(65)) - 32
			case 5:
				v = s.get(words[r.Intn(len(words))])
			case 6:
				v = -v
			}
			s.put(at, v)
		}
		if r.Intn(3) == 0 {
			s.put([]uint64{atSP, atBP, atPC, atOpen, atHandles, atMono, atWall}[r.Intn(7)], r.Uint64()>>r.Intn(64))
		}
		if open := s.open(); r.Intn(3) == 0 && len(open) > 0 {
			open[r.Intn(len(open))] ^= 1 << r.Intn(8)
		}
	}
}

// TestHostileSnapshots restores snapshots whose sums are right and whose content is not:
// what was made of them at most ends, with a reason. The monitor goes on, and a neighbour
// that it serves meanwhile answers. -snapshot.fuzz and -snapshot.seed choose more and others.
func TestHostileSnapshots(t *testing.T) {
	for _, to := range pvms.Names {
		t.Run(to, func(t *testing.T) {
			pvms.Need(t, to)
			c := config(t, to, "count")
			c.Memory = 256 << 20
			pvms.Publish(&c)
			server := save(t, c, "serving")
			family := config(t, to, "share")
			family.Forks, family.Memory = 4, c.Memory
			sharing := save(t, family, "ready")
			next := config(t, to, "count")
			pvms.Publish(&next)
			var out *bufio.Reader
			next.Stdout, out = pvms.Pipe(t)
			neighbour := pvms.Start(t, next)
			pvms.Expect(t, out, 1, "serving")
			answers := 0
			try := func(name, file string, change func(*forgery)) {
				t.Helper()
				what := thrive(t, c, to, forge(t, file, change))
				t.Logf("%s: %s", name, what)
				if name == asItWas && what != "answered" {
					t.Error("it does not go on as it was")
				}
				answers++
				if n, _, _ := answer(t, neighbour); n != answers {
					t.Fatalf("%s: the neighbour counts %d, want %d", name, n, answers)
				}
			}
			try(asItWas, server, func(*forgery) {})
			for name, change := range hostile() {
				try(name, server, change)
			}
			for i := range *hostileRuns {
				seed := *hostileSeed + int64(i)
				file := []string{server, sharing}[seed&1]
				try(fmt.Sprint("seed ", seed), file, random(rand.New(rand.NewSource(seed))))
			}
		})
	}
}

// thrive restores a forgery and says what became of it. It is killed when it has answered,
// or has done neither that nor ended for a moment.
func thrive(t *testing.T, c monitor.Config, to, file string) string {
	t.Helper()
	var said bytes.Buffer
	c.Isolation, c.Restore, c.Hostname, c.Stdout, c.Stderr = to, file, "restored", &said, &said
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	i, err := monitor.Start(ctx, c)
	if err != nil {
		if strings.Contains(err.Error(), "panic") {
			t.Error(err)
		}
		return fmt.Sprint("refused: ", err)
	}
	state := "neither answered nor ended"
	for range 30 {
		client := &http.Client{Timeout: 10 * time.Millisecond, Transport: &http.Transport{DisableKeepAlives: true}}
		if r, err := client.Get("http://" + i.Info().Ports[0].Host); err == nil {
			r.Body.Close()
			state = "answered"
			break
		}
		select {
		case <-i.Done():
			state = "ended"
		case <-time.After(10 * time.Millisecond):
			continue
		}
		break
	}
	i.Kill()
	e := i.Wait()
	if ctx.Err() != nil {
		t.Error("it could not be killed")
	}
	text := said.String()
	// What fails may be the guest alone: not the monitor's code for it, nor the runner.
	if strings.Contains(e.Reason, "bug in Noyau") || strings.Contains(text, "noyau.dev/host/") || to == "vm" && strings.Contains(e.Reason, "forbidden") {
		t.Errorf("%s, code %d: %s\n%.4000s", state, e.Code, e.Reason, text)
	}
	// A guest may end itself with any code, and say nothing.
	if e.Signal != 0 && e.Reason == "" {
		t.Errorf("signal %d ended it, and nothing says why", e.Signal)
	}
	if state != "ended" {
		return state
	}
	return fmt.Sprintf("ended with code %d, %s: %.100q", e.Code, e.Reason, text)
}

// TestManyHandles: the numbers of a server's connections are kept free wherever it is restored.
func TestManyHandles(t *testing.T) {
	pairs(t, func(t *testing.T, from, to string) {
		c := config(t, from, "count")
		pvms.Publish(&c)
		i := ready(t, c, "serving")
		for range 60 {
			conn, err := net.Dial("tcp", i.Info().Ports[0].Host)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			fmt.Fprint(conn, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
			if _, err := bufio.NewReader(conn).ReadString('\n'); err != nil {
				t.Fatal(err)
			}
		}
		file := filepath.Join(t.TempDir(), "snapshot")
		if err := i.Snapshot(t.Context(), file, monitor.SnapshotOptions{}); err != nil {
			t.Fatal(err)
		}
		r, _ := restore(t, c, to, file)
		if n, _, _ := answer(t, r); n != 61 {
			t.Errorf("it counts %d, want 61", n)
		}
	})
}
