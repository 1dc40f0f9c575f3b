package main

import (
	"fmt"
	"io"
	"net/http"
	"time"
)

// idle measures what a server costs that nobody talks to.
func (b *Bench) idle() ([]Result, error) {
	p, err := b.program("http")
	if err != nil {
		return nil, err
	}
	watch, repeat := 10*time.Second, 5
	if b.quick {
		watch, repeat = 2*time.Second, 1
	}
	subjects := b.beside(native, native1)
	fresh, used, cpu := make([][]float64, len(subjects)), make([][]float64, len(subjects)), make([][]float64, len(subjects))
	for range repeat {
		servers := make([]*Server, len(subjects))
		stop := func() {
			for _, s := range servers {
				if s != nil {
					s.Stop()
				}
			}
		}
		for i, s := range subjects {
			if servers[i], err = b.serve(s, p, "-listen"); err != nil {
				stop()
				return nil, err
			}
		}
		err := func() error {
			memory := func(to [][]float64) error {
				time.Sleep(500 * time.Millisecond)
				for i, s := range servers {
					n, err := privateDirty(s.PID)
					if err != nil {
						return err
					}
					to[i] = append(to[i], float64(n)/1e6)
				}
				return nil
			}
			if err := memory(fresh); err != nil {
				return err
			}
			for _, s := range servers {
				if err := get(s.Addr, "/"); err != nil {
					return err
				}
			}
			if err := memory(used); err != nil {
				return err
			}
			before := make([]time.Duration, len(servers))
			for i, s := range servers {
				if before[i], err = cpuTime(s.PID); err != nil {
					return err
				}
			}
			begin := time.Now()
			time.Sleep(watch)
			for i, s := range servers {
				after, err := cpuTime(s.PID)
				if err != nil {
					return err
				}
				cpu[i] = append(cpu[i], 100*float64(after-before[i])/float64(time.Since(begin)))
			}
			return nil
		}()
		stop()
		if err != nil {
			return nil, err
		}
	}
	n := names(subjects)
	return []Result{
		newResult("private dirty memory when it listens", "MB", n, fresh),
		newResult("private dirty memory after one request", "MB", n, used),
		newResult("CPU while idle", "% of one CPU", n, cpu, fmt.Sprintf("over %v; the monitor's own is not in it", watch)),
	}, nil
}

// get makes one request on a connection of its own.
func get(addr, path string) error {
	c := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 30 * time.Second}
	resp, err := c.Get("http://" + addr + path)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("GET %s%s: %s", addr, path, resp.Status)
	}
	return nil
}
