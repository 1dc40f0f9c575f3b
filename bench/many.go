package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"strconv"
	"sync"
	"time"

	"noyau.dev/host/monitor"
)

// hosted is what one process found that started many servers.
type hosted struct {
	N        int
	Started  float64 // ms from the first start until each has answered a request
	Stopped  float64 // ms to stop them all
	Guests   uint64  // bytes of private dirty memory of all servers
	Own      int64   // bytes by which the memory of the starting process grew
	Machine  int64   // bytes by which the machine's available memory shrank
	Files    int     // descriptors that the starting process got
	Failures []string
}

// many measures N servers of one image, hosted by one monitor process, against N
// native processes.
func (b *Bench) many() ([]Result, error) {
	p, err := b.program("http")
	if err != nil {
		return nil, err
	}
	subjects := b.beside(native1)
	counts := []int{max(1, b.pvms/2), b.pvms}
	got := make([][2]hosted, len(subjects))
	for k, n := range counts {
		for i, s := range subjects {
			if got[i][k], err = b.hostOf(s, p, n); err != nil {
				return nil, fmt.Errorf("%d × %s: %w", n, s.Name, err)
			}
		}
	}
	column := func(f func(h [2]hosted) float64) [][]float64 {
		var samples [][]float64
		for i := range subjects {
			samples = append(samples, []float64{f(got[i])})
		}
		return samples
	}
	n := names(subjects)
	all := counts[1]
	more := func(v func(h *hosted) int64) func(h [2]hosted) float64 {
		return func(h [2]hosted) float64 {
			return float64(v(&h[1])-v(&h[0])) / float64(max(1, counts[1]-counts[0])) / 1e6
		}
	}
	var notes []string
	for i, s := range subjects {
		notes = append(notes, fmt.Sprintf("%s: %d descriptors in the starting process", s.Name, got[i][1].Files))
	}
	results := []Result{
		newResult(fmt.Sprintf("%d started, each answered a request", all), "ms", n, column(func(h [2]hosted) float64 { return h[1].Started }), notes...),
		newResult("all stopped", "ms", n, column(func(h [2]hosted) float64 { return h[1].Stopped })),
		newResult("one more: its private dirty memory and its share of the starting process's", "MB", n,
			column(more(func(h *hosted) int64 { return int64(h.Guests) + h.Own })), fmt.Sprintf("from %d to %d", counts[0], counts[1])),
		newResult("one more: of that, the starting process's share", "MB", n, column(more(func(h *hosted) int64 { return h.Own }))),
		newResult("one more: what the machine has less, kernel included", "MB", n, column(more(func(h *hosted) int64 { return h.Machine })),
			"MemAvailable; everything else that runs on the machine is in it"),
	}
	return results, nil
}

// hostOf starts n servers from a fresh process, so that its memory can be told.
func (b *Bench) hostOf(s Subject, p *Program, n int) (h hosted, err error) {
	self, err := os.Executable()
	if err != nil {
		return h, err
	}
	spec, err := json.Marshal(hostSpec{s, *p, n})
	if err != nil {
		return h, err
	}
	cmd := exec.CommandContext(b.ctx, self, "host", string(spec))
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		return h, fmt.Errorf("%w\n%s", err, tail(errs.Bytes(), 2000))
	}
	if err := json.Unmarshal(out, &h); err != nil {
		return h, err
	}
	if len(h.Failures) > 0 {
		return h, fmt.Errorf("%d of %d failed; the first: %s", len(h.Failures), n, h.Failures[0])
	}
	return h, nil
}

func tail(b []byte, n int) []byte { return b[max(0, len(b)-n):] }

type hostSpec struct {
	Subject Subject
	Program Program
	N       int
}

// host starts many servers, asks each once, and prints a hosted as JSON.
func host(args []string) error {
	var spec hostSpec
	if len(args) != 1 {
		return fmt.Errorf("want host SPEC")
	}
	if err := json.Unmarshal([]byte(args[0]), &spec); err != nil {
		return err
	}
	b := &Bench{ctx: context.Background()}
	// One before all others loads code and makes what they share.
	first, err := b.serve(spec.Subject, &spec.Program, "-listen")
	if err != nil {
		return err
	}
	defer first.Stop()
	if err := get(first.Addr, "/"); err != nil {
		return err
	}
	if spec.Subject.Snapshot != "" { // as noyau clone does
		c := spec.Subject.config(&spec.Program)
		if c.Template, err = monitor.NewTemplate(c, 2*runtime.NumCPU()); err != nil {
			return err
		}
		defer c.Template.Close()
		spec.Subject.template = c.Template
	}
	r := hosted{N: spec.N}
	own, free, files, err := standing()
	if err != nil {
		return err
	}
	servers := make([]*Server, spec.N)
	begin := time.Now()
	r.Failures = each(spec.N, func(i int) (err error) {
		if servers[i], err = b.serve(spec.Subject, &spec.Program, "-listen"); err != nil {
			return err
		}
		return get(servers[i].Addr, "/")
	})
	r.Started = ms(time.Since(begin))
	time.Sleep(time.Second)
	own2, free2, files2, err := standing()
	if err != nil {
		return err
	}
	r.Own, r.Machine, r.Files = int64(own2)-int64(own), int64(free)-int64(free2), files2-files
	for _, s := range servers {
		if s == nil {
			continue
		}
		n, err := privateDirty(s.PID)
		if err != nil {
			r.Failures = append(r.Failures, err.Error())
		}
		r.Guests += n
	}
	begin = time.Now()
	each(spec.N, func(i int) error {
		if servers[i] != nil {
			servers[i].Stop()
		}
		return nil
	})
	r.Stopped = ms(time.Since(begin))
	return json.NewEncoder(os.Stdout).Encode(r)
}

// standing is this process's memory and descriptors, and the machine's memory.
func standing() (own, free uint64, files int, err error) {
	runtime.GC()
	debug.FreeOSMemory()
	if own, err = privateDirty(os.Getpid()); err != nil {
		return
	}
	free, err = available()
	return own, free, openFiles(), err
}

// each calls f for 0 … n-1, some at a time, and returns what went wrong.
func each(n int, f func(i int) error) []string {
	var mu sync.Mutex
	var failures []string
	var wg sync.WaitGroup
	next := make(chan int)
	for range 2 * runtime.NumCPU() {
		wg.Go(func() {
			for i := range next {
				if err := f(i); err != nil {
					mu.Lock()
					failures = append(failures, strconv.Itoa(i)+": "+err.Error())
					mu.Unlock()
				}
			}
		})
	}
	for i := range n {
		next <- i
	}
	close(next)
	wg.Wait()
	return failures
}
