package vm_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"flag"
	"math/rand"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"noyau.dev/abi"
	"noyau.dev/host/monitor"
	"noyau.dev/host/vm/vmtest"
)

var (
	fuzzGuests = flag.Int("vm.fuzz", 6, "`number` of hostile guests that TestHostileGuests runs")
	fuzzSeed   = flag.Int64("vm.seed", 1, "seed of the first hostile guest")
)

var fuzzCalls = []uint64{abi.CallRecv, abi.CallSend, abi.CallPread, abi.CallPwrite, abi.CallAccept, abi.CallClose, abi.CallWatch,
	abi.CallPoll, abi.CallMap, abi.CallFork, abi.CallItimer}

// fuzzValue is an argument: often a plausible one, else an edge, else anything.
func fuzzValue(r *rand.Rand) uint64 {
	places := []uint64{vmtest.Data, vmtest.Data + vmtest.DataSize, vmtest.Text, abi.RegionBase, abi.RegionBase + 64<<20, abi.VMStackBase,
		abi.VMStackBase + abi.VMStackSize, abi.VMInfoPage, abi.VMHypercallPage, abi.VMSignals, abi.VMRing, abi.VMRing + abi.VMRingSize, 0xffff800000000000, 1 << 47}
	switch r.Intn(8) {
	case 0, 1, 2:
		return uint64(r.Intn(9))
	case 3, 4:
		return vmtest.Data + uint64(r.Intn(vmtest.DataSize))
	case 5:
		return places[r.Intn(len(places))] + uint64(r.Intn(33)) - 16
	case 6:
		return 1<<r.Intn(64) - uint64(r.Intn(3))
	}
	return r.Uint64()
}

// fuzzGuest is a program of n random host calls, with rubbish in the ring in between.
func fuzzGuest(r *rand.Rand, n int) []byte {
	a := vmtest.NewAsm()
	a.CallN(abi.CallMap, abi.RegionBase, 64<<20, 3, 0x4032, ^uint64(0), 0)
	for range n {
		nr := fuzzCalls[r.Intn(len(fuzzCalls))]
		var args [6]uint64
		for i := range args {
			args[i] = fuzzValue(r)
		}
		if r.Intn(2) == 0 { // nearly as it should be
			args = [6]uint64{uint64(r.Intn(9)), vmtest.Data + uint64(r.Intn(vmtest.DataSize)), uint64(r.Intn(5000))}
			if r.Intn(8) == 0 { // a message with a handle
				args = [6]uint64{abi.HandleControl, vmtest.Data + 0x300, abi.MsgSize + uint64(r.Intn(200)), 0, vmtest.Data + 0x210, 4}
				if nr == abi.CallRecv {
					args[5] = vmtest.Data + 0x200
				}
			}
		}
		switch k := r.Intn(1000); {
		case k < 30:
			nr = r.Uint64() >> r.Intn(64)
		case k == 30 && r.Intn(10) == 0:
			nr = abi.CallSigreturn
		case k < 200:
			at := abi.VMRing + uint64(r.Intn(abi.VMRingSize-8))
			if r.Intn(2) == 0 {
				at = abi.VMRing + uint64(r.Intn(4096/8))*8
			}
			a.Mov(vmtest.RBX, at).Mov(vmtest.RAX, fuzzValue(r)).Store(vmtest.RBX, 0, vmtest.RAX)
		}
		switch nr { // which would end or sleep for good
		case abi.CallExit:
			continue
		case abi.CallClose: // what is closed is out of reach for the rest
			if args[0] < abi.HandleFirst && r.Intn(100) != 0 {
				continue
			}
		case abi.CallPoll:
			args[3] = uint64(r.Intn(2))
		}
		a.CallN(nr, args[:]...)
	}
	data := make([]byte, 32<<10)
	r.Read(data)
	// Room for handles, and a handle to send.
	binary.LittleEndian.PutUint32(data[0x200:], 16)
	binary.LittleEndian.PutUint32(data[0x210:], 1)
	return vmtest.ELF(a.Exit(0), data)
}

// TestHostileGuests runs guests that make random host calls, beside a guest that
// serves: no runner panics or makes a system call that is not on its list, the
// monitor lives, and the neighbour's answers are right all the time. -vm.seed and
// -vm.fuzz choose others and more.
func TestHostileGuests(t *testing.T) {
	_, addrs := start(t, "web", 8080)
	dial(t, addrs[0]).Close()
	stop := make(chan bool)
	answers := make(chan int)
	go func() {
		n := 0
		defer func() { answers <- n }()
		client := &http.Client{Timeout: 20 * time.Second}
		defer client.CloseIdleConnections()
		for {
			select {
			case <-stop:
				return
			default:
			}
			if b := fetch(t, func() (*http.Response, error) { return client.Get("http://" + addrs[0]) }); string(b) != "hello\n" {
				t.Errorf("the neighbour answered %q", b)
				return
			}
			n++
			time.Sleep(time.Millisecond)
		}
	}()
	for i := range *fuzzGuests {
		seed := *fuzzSeed + int64(i)
		img := filepath.Join(t.TempDir(), "hostile")
		if err := os.WriteFile(img, fuzzGuest(rand.New(rand.NewSource(seed)), 3000), 0o755); err != nil {
			t.Fatal(err)
		}
		var out, errs bytes.Buffer
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		inst, err := monitor.Start(ctx, monitor.Config{Image: img, Isolation: "vm", Stdout: &out, Stderr: &errs})
		if err != nil {
			t.Fatal(err)
		}
		e := inst.Wait()
		late := ctx.Err()
		cancel()
		said := errs.String()
		i := strings.Index(said, "noyau: vm: ")
		t.Logf("seed %d: code %d, %s; %d bytes out; said %.80q", seed, e.Code, e.Reason, out.Len(), said[max(i, 0):])
		if late != nil {
			t.Errorf("seed %d: the guest did not end", seed)
		}
		if e.Code == 2 || e.Code == 125 || strings.Contains(said, "goroutine ") || strings.Contains(e.Reason, "SIGSYS") && i < 0 {
			t.Errorf("seed %d: the runner failed: code %d, %s\n%.4000s", seed, e.Code, e.Reason, said)
		}
	}
	close(stop)
	if n := <-answers; n == 0 {
		t.Error("the neighbour answered nothing")
	} else {
		t.Logf("the neighbour gave %d answers", n)
	}
}
