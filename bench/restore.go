package main

import (
	"fmt"
	"os"
	"path/filepath"
	"time"

	"noyau.dev/host/monitor"
)

// restore measures from monitor.Start to a line that the program prints where the snapshot
// was made, for programs of two sizes, with a new process and with one of a template.
func (b *Bench) restore() ([]Result, error) {
	p, err := b.program("restore")
	if err != nil {
		return nil, err
	}
	subjects := b.beside()
	var results []Result
	for _, mb := range []string{"16", "256"} {
		for _, warm := range []bool{false, true} {
			title := mb + " MB, to the program's next line"
			if warm {
				title += ", from a template"
			}
			var took [][]float64
			for _, s := range subjects {
				list, err := b.restores(s, p, mb, warm)
				if err != nil {
					return nil, fmt.Errorf("%s, %s: %w", s.Name, title, err)
				}
				took = append(took, list)
			}
			results = append(results, newResult(title, "ms", names(subjects), took))
		}
	}
	return results, nil
}

// restores makes a snapshot and measures pVMs made of it.
func (b *Bench) restores(s Subject, p *Program, mb string, warm bool) ([]float64, error) {
	c := s.config(p, mb)
	said := newLine()
	c.Stdout, c.Stderr = said, os.Stderr
	inst, err := monitor.Start(b.ctx, c)
	if err != nil {
		return nil, err
	}
	path := filepath.Join(b.dir, s.Isolation+mb+".snap")
	if _, err = said.wait(inst.Done()); err == nil {
		err = inst.Snapshot(b.ctx, path, monitor.SnapshotOptions{})
	}
	inst.Kill()
	inst.Wait()
	if err != nil {
		return nil, err
	}
	defer os.Remove(path)
	c.Restore, c.Hostname = path, "restored"
	if warm {
		c.Stdout = nil
		if c.Template, err = monitor.NewTemplate(c, 1); err != nil {
			return nil, err
		}
		defer c.Template.Close()
	}
	var list []float64
	for range b.rounds {
		for warm && c.Template.Ready() == 0 {
			time.Sleep(time.Millisecond)
		}
		said := newLine()
		c.Stdout = said
		begin := time.Now()
		inst, err := monitor.Start(b.ctx, c)
		if err != nil {
			return nil, err
		}
		_, err = said.wait(inst.Done())
		list = append(list, ms(time.Since(begin)))
		inst.Kill()
		if end := inst.Wait(); err != nil {
			return nil, fmt.Errorf("%w (%+v)", err, end)
		}
	}
	return list, nil
}
