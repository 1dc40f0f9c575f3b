package main

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"noyau.dev/host/monitor"
)

// clones measures many pVMs made of one snapshot of a server that has loaded 10 MB, beside
// native processes that have nothing loaded.
func (b *Bench) clones() ([]Result, error) {
	p, err := b.program("http")
	if err != nil {
		return nil, err
	}
	subjects := b.beside(native1)
	var started, first, each, own [][]float64
	for i, s := range subjects {
		if s.Isolation != "" {
			path := filepath.Join(b.dir, s.Isolation+".snap")
			if err := b.template(s, p, path); err != nil {
				return nil, fmt.Errorf("%s: %w", s.Name, err)
			}
			s.Snapshot = path
			subjects[i].Name = "clones " + s.Isolation
		}
		var one []float64
		for range min(b.rounds, 20) {
			begin := time.Now()
			srv, err := b.serve(s, p, "-listen")
			if err != nil {
				return nil, fmt.Errorf("%s: %w", s.Name, err)
			}
			err = get(srv.Addr, "/")
			one = append(one, ms(time.Since(begin)))
			srv.Stop()
			if err != nil {
				return nil, fmt.Errorf("%s: %w", s.Name, err)
			}
		}
		h, err := b.hostOf(s, p, b.pvms)
		if err != nil {
			return nil, fmt.Errorf("%d × %s: %w", b.pvms, s.Name, err)
		}
		n := float64(b.pvms)
		first = append(first, one)
		started = append(started, []float64{h.Started})
		each = append(each, []float64{float64(h.Guests) / n / 1e6})
		own = append(own, []float64{float64(h.Own) / n / 1e6})
	}
	n := names(subjects)
	return []Result{
		newResult("one made, and it has answered a request", "ms", n, first, "a clone has 10 MB loaded, a native process nothing"),
		newResult(fmt.Sprintf("%d made, each answered a request", b.pvms), "ms", n, started,
			fmt.Sprintf("clones are taken from a template with %d on standby where one is ready, as noyau clone does; those are made before the clock starts", 2*runtime.NumCPU())),
		newResult("private dirty memory of each", "MB", n, each),
		newResult("of the process that made them, for each", "MB", n, own),
	}, nil
}

// template writes a snapshot of a server that has loaded something.
func (b *Bench) template(s Subject, p *Program, path string) error {
	c := s.config(p, "-listen", ":8080")
	said := newLine()
	c.Publish, c.Stdout, c.Stderr = loopback(8080), said, os.Stderr
	inst, err := monitor.Start(b.ctx, c)
	if err != nil {
		return err
	}
	defer func() { inst.Kill(); inst.Wait() }()
	if _, err := said.wait(inst.Done()); err != nil {
		return err
	}
	r, err := http.Post("http://"+inst.Info().Ports[0].Host+"/big", "", nil)
	if err != nil {
		return err
	}
	r.Body.Close()
	return inst.Snapshot(b.ctx, path, monitor.SnapshotOptions{})
}

// reachable waits until a restored server listens again.
func reachable(srv *Server, inst *monitor.Instance) error {
	for end := time.Now().Add(patience); ; time.Sleep(100 * time.Microsecond) {
		c, err := net.Dial("tcp", srv.Addr)
		if err == nil {
			return c.Close()
		}
		select {
		case <-inst.Done():
			return fmt.Errorf("it has ended: %+v", inst.Wait())
		default:
		}
		if time.Now().After(end) {
			srv.Stop()
			return err
		}
	}
}
