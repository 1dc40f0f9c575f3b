package main

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"noyau.dev/host/monitor"
)

// standby says what is made before the clock starts where a clone waits in a template.
const standby = "before the clock starts: a process is launched, under vm with its machine, has mapped the snapshot, has run up to where it matters who it is, and has written the pages that earlier clones wrote"

// alone says what is there before, for one that nobody has prepared for.
const alone = "before the clock starts: the file is in memory, and was found to be whole; others were made of it, 10 ms ago and before; under vm the zygote has made its next child, with a machine and without an image"

// restore measures from monitor.Start to the program's next instruction after the snapshot, by the
// program's own clock, and to the first answer of an HTTP server in it, for programs of two
// sizes, with a new process and with one that waits in a template.
func (b *Bench) restore() ([]Result, error) {
	p, err := b.program("restore")
	if err != nil {
		return nil, err
	}
	subjects := b.beside()
	var results []Result
	for _, mb := range []string{"16", "256"} {
		for _, serves := range []bool{false, true} {
			to := "to the program's next instruction"
			if serves {
				to = "to the first HTTP answer"
			}
			var fresh, waited [][]float64
			for _, s := range subjects {
				c, err := b.frozen(s, p, mb, serves)
				var one, other []float64
				if err == nil {
					one, err = b.restores(c, serves, false)
				}
				if err == nil {
					other, err = b.restores(c, serves, true)
				}
				os.Remove(c.Restore)
				if err != nil {
					return nil, fmt.Errorf("%s, %s MB, %s: %w", s.Name, mb, to, err)
				}
				fresh, waited = append(fresh, one), append(waited, other)
			}
			results = append(results,
				newResult(mb+" MB, new, "+to, "ms", names(subjects), fresh, alone),
				newResult(mb+" MB, on standby, "+to, "ms", names(subjects), waited, standby))
		}
	}
	return results, nil
}

// frozen makes a snapshot and returns how pVMs are made of it.
func (b *Bench) frozen(s Subject, p *Program, mb string, serves bool) (monitor.Config, error) {
	c := s.config(p, mb)
	if serves {
		c.Args, c.Publish = append(c.Args, "serve"), loopback(8080)
	}
	said := newLine()
	c.Stdout, c.Stderr = said, os.Stderr
	inst, err := monitor.Start(b.ctx, c)
	if err != nil {
		return c, err
	}
	path := filepath.Join(b.dir, s.Isolation+mb+".snap")
	if _, err = said.wait(inst.Done()); err == nil {
		err = inst.Snapshot(b.ctx, path, monitor.SnapshotOptions{})
	}
	inst.Kill()
	inst.Wait()
	c.Restore, c.Hostname = path, "restored"
	return c, err
}

// settle is the time that a monitor gets to learn from a pVM, and to make what it makes ahead. The
// processor is kept busy meanwhile: one that has slept adds up to 0.8 ms of its own to what
// comes next.
func settle() {
	for begin := time.Now(); time.Since(begin) < 10*time.Millisecond; {
	}
}

// restores measures pVMs made of a snapshot. The first few fill caches, and are what a
// template learns from.
func (b *Bench) restores(c monitor.Config, serves, waits bool) (list []float64, err error) {
	if waits {
		if c.Template, err = monitor.NewTemplate(c, 1); err != nil {
			return nil, err
		}
		defer c.Template.Close()
	}
	const first = 5
	for n := range first + b.rounds {
		settle()
		for waits && c.Template.Ready() == 0 {
			time.Sleep(time.Millisecond)
		}
		said := newLine()
		c.Stdout = said
		begin := time.Now()
		inst, err := monitor.Start(b.ctx, c)
		if err != nil {
			return nil, err
		}
		end := begin
		if serves {
			err = firstAnswer(inst)
			end = time.Now()
		} else {
			end, err = said.time(inst.Done(), begin)
		}
		if n >= first {
			list = append(list, ms(end.Sub(begin)))
		}
		inst.Kill()
		if end := inst.Wait(); err != nil {
			return nil, fmt.Errorf("%w (%+v)", err, end)
		}
	}
	return list, nil
}

// time is what a program says that the time was, which was not before begin.
func (l *line) time(ended <-chan struct{}, begin time.Time) (time.Time, error) {
	s, err := l.wait(ended)
	if err != nil {
		return begin, err
	}
	heard := time.Now()
	ns, err := strconv.ParseInt(s, 10, 64)
	at := time.Unix(0, ns)
	if err != nil || at.Before(begin) || at.After(heard) {
		return begin, fmt.Errorf("it says that the time is %q between %d and %d", s, begin.UnixNano(), heard.UnixNano())
	}
	return at, nil
}

// firstAnswer connects to a server as soon as it listens, and gets an answer.
func firstAnswer(inst *monitor.Instance) error {
	addr := inst.Info().Ports[0].Host
	for end := time.Now().Add(patience); ; time.Sleep(50 * time.Microsecond) {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			select {
			case <-inst.Done():
				return fmt.Errorf("it has ended: %+v", inst.Wait())
			default:
			}
			if time.Now().After(end) {
				return err
			}
			continue
		}
		defer c.Close()
		c.SetDeadline(end)
		if _, err := fmt.Fprintf(c, "GET / HTTP/1.1\r\nHost: %s\r\n\r\n", addr); err != nil {
			return err
		}
		r, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			return err
		}
		if r.StatusCode != http.StatusOK {
			return fmt.Errorf("GET %s: %s", addr, r.Status)
		}
		return r.Body.Close()
	}
}
