package main

import (
	"errors"
	"fmt"
	"os"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"noyau.dev/host/monitor"
	"noyau.dev/host/policy"
	"noyau.dev/host/snapshot"
	"noyau.dev/host/state"
)

// maxClones bounds one command.
const maxClones = 10_000

func newClone() *cobra.Command {
	var f restoreFlags
	var n int
	var quiet bool
	cmd := &cobra.Command{
		Use:   "clone [flags] SNAPSHOT",
		Short: "Make many pVMs of a snapshot, in the background",
		Long: `Clone makes N pVMs of one snapshot, as restore does, that share its pages. Each has a
name, an id and random numbers of its own. One background monitor serves them all. If
one of them cannot be started, none is left. Clone prints the id, name and ports of each.

Ports:
  -p 8080:80        all clones share port 8080: whoever accepts first has the connection
  -p 80, -p 0:80    each gets a port that the host chooses
  -p 8080-8089:80   the first gets port 8080, the next 8081 …
Without -p the ports of the original are published, by the same rules.`,
		Example: `  noyau clone -n 4 --name web web.snap         web-1 … web-4 on one port
  noyau clone -n 100 --name w -p 80 web.snap   each on a port of its own
  noyau stop 'w-*'`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return runCode(clone(cmd, &f, args[0], n, quiet))
		},
	}
	cmd.Flags().IntVarP(&n, "number", "n", 1, "`number` of pVMs to make")
	cmd.Flags().BoolVarP(&quiet, "quiet", "q", false, "print ids only")
	f.add(cmd.Flags())
	for _, name := range []string{"detach", "trace", "timing"} {
		cmd.Flags().MarkHidden(name)
	}
	cmd.Flags().Lookup("name").Usage = "`name` of the pVMs: NAME-1, NAME-2 …"
	cmd.Flags().Lookup("publish").Usage = "publish a port, `[ip:]host:guest[/udp]`; see above"
	return cmd
}

// A cloneSpec is what the background monitor of clones gets.
type cloneSpec struct {
	Shared []monitor.Publish
	Clones []oneClone
}

type oneClone struct {
	ID     string
	Config monitor.Config
}

func clone(cmd *cobra.Command, f *restoreFlags, name string, n int, quiet bool) error {
	if n < 1 || n > maxClones {
		return &exitCode{exitError, fmt.Errorf("number %d: want 1 to %d", n, maxClones)}
	}
	if f.trace || f.timing {
		return &exitCode{exitError, errors.New("--trace and --timing are for one pVM: use noyau restore")}
	}
	t, err := f.open(cmd, name)
	if err != nil {
		return err
	}
	defer t.image.Close()
	defer untilInterrupted(cmd)()
	shared, own, err := clonePorts(f.publish, n)
	if err != nil {
		return &exitCode{exitError, err}
	}
	spec := cloneSpec{Shared: shared, Clones: make([]oneClone, n)}
	f.detach = true
	all := f.publish
	base := f.name
	var metas []state.Meta
	for i := range n {
		f.publish = all
		if base != "" {
			f.name = fmt.Sprintf("%s-%d", base, i+1)
		}
		metas = append(metas, f.meta(t.target(), t.meta.Args))
	}
	dir, err := state.Open()
	if err != nil {
		return err
	}
	entries, err := dir.CreateAll(metas, t.meta.Name)
	if err != nil {
		return &exitCode{exitError, err}
	}
	f.publish = nil
	for i, e := range entries {
		f.name = e.Meta.Name
		c, cerr := f.config(cmd, t)
		if err = cerr; err != nil {
			break
		}
		c.Publish, c.ImageFile = own[i], nil
		spec.Clones[i] = oneClone{e.Meta.ID, c}
	}
	if err == nil {
		err = startMonitor(cmd.Context(), entries[0], spec, t.image.File, "monitor", "--clones", entries[0].Meta.ID)
	}
	if err != nil {
		for _, e := range entries {
			dir.Discard(e)
		}
		return err
	}
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	for _, e := range entries {
		if e.Refresh(); quiet {
			fmt.Fprintln(w, e.Meta.ID)
		} else {
			fmt.Fprintf(w, "%s\t%s\t%s\n", e.Meta.ID, e.Meta.Name, strings.Join(e.Status.Ports, ", "))
		}
	}
	return w.Flush()
}

var portRange = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^(.*:)?([0-9]+)-([0-9]+)(:[^:]+)$`)
})

// clonePorts says which ports n clones share, and which each has alone.
func clonePorts(list []string, n int) (shared []monitor.Publish, own [][]monitor.Publish, err error) {
	own = make([][]monitor.Publish, n)
	for _, s := range list {
		m := portRange().FindStringSubmatch(s)
		if m == nil {
			p, err := policy.ParsePublish(s)
			if err != nil {
				return nil, nil, err
			}
			if p.HostPort != 0 && n > 1 {
				shared = append(shared, p)
				continue
			}
			for i := range own {
				own[i] = append(own[i], p)
			}
			continue
		}
		from, err1 := strconv.ParseUint(m[2], 10, 16)
		to, err2 := strconv.ParseUint(m[3], 10, 16)
		if err1 != nil || err2 != nil || from == 0 || from > to {
			return nil, nil, fmt.Errorf("publish %q: %s-%s is not a range of ports", s, m[2], m[3])
		}
		if to-from+1 < uint64(n) {
			return nil, nil, fmt.Errorf("publish %q: %d ports are not enough for %d pVMs; want %d-%d", s, to-from+1, n, from, from+uint64(n)-1)
		}
		for i := range own {
			p, err := policy.ParsePublish(fmt.Sprintf("%s%d%s", m[1], from+uint64(i), m[4]))
			if err != nil {
				return nil, nil, err
			}
			own[i] = append(own[i], p)
		}
	}
	return shared, own, nil
}

// startClones starts, in the background monitor, the pVMs of the spec in the entry id: all
// of them or none.
func startClones(id string) ([]*session, error) {
	d, err := state.Open()
	if err != nil {
		return nil, err
	}
	first, err := d.Get(id)
	if err != nil {
		return nil, err
	}
	var spec cloneSpec
	if err := first.ReadSpec(&spec); err != nil {
		return nil, err
	}
	os.Remove(first.Path("spec.json"))
	img := os.NewFile(imageFD, "image")
	defer img.Close()
	snap, err := snapshot.Open(spec.Clones[0].Config.Restore)
	if err != nil {
		return nil, runCode(err)
	}
	defer snap.Close()
	ports, err := monitor.OpenPorts(spec.Shared)
	if err != nil {
		return nil, err
	}
	defer ports.Close()

	tmpl := cloneTemplate(&spec, img, snap)
	if tmpl != nil {
		defer tmpl.Close()
	}

	list := make([]*session, len(spec.Clones))
	var mu sync.Mutex
	next := 0
	var failed error
	var work sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		work.Go(func() {
			for {
				mu.Lock()
				i := next
				next++
				stop := failed != nil || i >= len(list)
				mu.Unlock()
				if stop {
					return
				}
				c := spec.Clones[i].Config
				c.ImageFile, c.Snapshot, c.Shared, c.Template = img, snap, ports, tmpl
				s, err := startClone(d, spec.Clones[i].ID, c)
				mu.Lock()
				if err != nil && failed == nil {
					failed = err
				}
				list[i] = s
				mu.Unlock()
			}
		})
	}
	work.Wait()
	if failed == nil {
		return list, nil
	}
	for _, s := range list {
		if s != nil {
			s.inst.Kill()
		}
	}
	for _, s := range list {
		if s != nil {
			s.wait()
		}
	}
	return nil, failed
}

// manyClones is from how many on clones are taken from a template: it makes the next ones
// while the last begin, and has them write beforehand what the first ones wrote.
const manyClones = 8

// cloneTemplate is nil for few clones. It is if the template cannot be made, too: then the first
// start says why.
func cloneTemplate(spec *cloneSpec, img *os.File, snap *snapshot.File) *monitor.Template {
	if len(spec.Clones) < manyClones {
		return nil
	}
	c := spec.Clones[0].Config
	c.ImageFile, c.Snapshot = img, snap
	tmpl, err := monitor.NewTemplate(c, min(manyClones, 2*runtime.GOMAXPROCS(0)))
	if err != nil {
		return nil
	}
	return tmpl
}

func startClone(d *state.Dir, id string, c monitor.Config) (*session, error) {
	e, err := takeOver(d, id)
	if err != nil {
		return nil, err
	}
	return startLogged(d, e, c)
}
