package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"time"
)

const connections = 64

// http measures requests per second of servers under load.
func (b *Bench) http() ([]Result, error) {
	p, err := b.program("http")
	if err != nil {
		return nil, err
	}
	subjects := b.beside(native1, native2)
	servers := make([]*Server, len(subjects))
	defer func() {
		for _, s := range servers {
			if s != nil {
				s.Stop()
			}
		}
	}()
	for i, s := range subjects {
		if servers[i], err = b.serve(s, p, "-listen"); err != nil {
			return nil, err
		}
		resp, err := http.Post("http://"+servers[i].Addr+"/big", "", nil)
		if err != nil {
			return nil, err
		}
		resp.Body.Close()
		if err := b.warm(servers[i]); err != nil {
			return nil, err
		}
	}
	var results []Result
	for _, x := range []struct{ what, path string }{{"13-byte bodies", "/"}, {"10 MB bodies", "/big"}} {
		samples, per := make([][]float64, len(subjects)), make([][]float64, len(subjects))
		errors := 0
		for range b.loads {
			for i, s := range servers {
				before, err := cpuTime(s.PID)
				if err != nil {
					return results, err
				}
				got, err := b.drive(s.Addr, x.path, b.load)
				if err != nil {
					return results, err
				}
				after, err := cpuTime(s.PID)
				if err != nil {
					return results, err
				}
				errors += got.Errors
				samples[i] = append(samples[i], got.PerSecond)
				if got.Requests > 0 {
					per[i] = append(per[i], float64((after-before).Microseconds())/float64(got.Requests))
				}
			}
		}
		notes := []string{fmt.Sprintf("%s, %d connections, %v each time", loaderName(), connections, b.load)}
		if errors > 0 {
			notes = append(notes, fmt.Sprintf("%d requests FAILED", errors))
		}
		results = append(results,
			newResult(x.what, "requests/s, more is better", names(subjects), samples, notes...),
			newResult(x.what+", CPU time of the server", "µs a request", names(subjects), per))
	}
	return results, nil
}

// warm loads a server for a moment, so that the first sample is like the others.
func (b *Bench) warm(s *Server) error {
	_, err := b.drive(s.Addr, "/", time.Second)
	return err
}

// driven is what a load came to.
type driven struct {
	PerSecond float64
	Requests  int
	Errors    int
}

// wrkPath finds wrk, "" if it is not installed.
func wrkPath() string {
	p, _ := exec.LookPath("wrk")
	return p
}

func loaderName() string {
	if p := wrkPath(); p != "" {
		return filepath.Base(p) + " (2 threads)"
	}
	return "own keep-alive client in a process of its own (wrk is not installed)"
}

var (
	wrkRate  = regexp.MustCompile(`Requests/sec:\s+([0-9.]+)`)
	wrkCount = regexp.MustCompile(`(\d+) requests in `)
	wrkBad   = regexp.MustCompile(`Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)|Non-2xx or 3xx responses: (\d+)`)
)

// drive loads a server for d.
func (b *Bench) drive(addr, path string, d time.Duration) (driven, error) {
	ctx, cancel := context.WithTimeout(b.ctx, d+patience)
	defer cancel()
	url := "http://" + addr + path
	if wrk := wrkPath(); wrk != "" {
		seconds := max(1, int(d/time.Second))
		out, err := exec.CommandContext(ctx, wrk, "-t2", "-c"+strconv.Itoa(connections), "-d"+strconv.Itoa(seconds)+"s", "--timeout", "30s", url).CombinedOutput()
		rate, count := wrkRate.FindSubmatch(out), wrkCount.FindSubmatch(out)
		if err != nil || rate == nil || count == nil {
			return driven{}, fmt.Errorf("wrk %s: %v\n%s", url, err, out)
		}
		var r driven
		r.PerSecond, _ = strconv.ParseFloat(string(rate[1]), 64)
		r.Requests, _ = strconv.Atoi(string(count[1]))
		for _, m := range wrkBad.FindAllSubmatch(out, -1) {
			for _, n := range m[1:] {
				v, _ := strconv.Atoi(string(n))
				r.Errors += v
			}
		}
		return r, nil
	}
	self, err := os.Executable()
	if err != nil {
		return driven{}, err
	}
	cmd := exec.CommandContext(ctx, self, "load", addr, path, d.String())
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return driven{}, fmt.Errorf("load generator: %w", err)
	}
	var r driven
	return r, json.Unmarshal(out, &r)
}
