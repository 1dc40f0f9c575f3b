package snapshot

import (
	"testing"
	"time"

	"noyau.dev/host/monitor"
	"noyau.dev/test/internal/pvms"
)

// TestTemplate: pVMs that a template has ready are like others, each with ports, streams
// and random numbers of its own; who asks for more than are ready gets a new one.
func TestTemplate(t *testing.T) {
	pairs(t, func(t *testing.T, from, to string) {
		c := config(t, from, "count")
		pvms.Publish(&c)
		file := save(t, c, "serving")
		c.Isolation, c.Restore = to, file
		var err error
		if c.Template, err = monitor.NewTemplate(c, 2); err != nil {
			t.Fatal(err)
		}
		defer c.Template.Close()
		if n := c.Template.Ready(); n != 2 {
			t.Fatalf("%d are ready, want 2", n)
		}
		seen := map[string]bool{}
		var all []*monitor.Instance
		for range 6 {
			all = append(all, pvms.Start(t, c))
		}
		for _, i := range all {
			n, random, _ := answer(t, i)
			if n != 1 || seen[random] {
				t.Errorf("a clone counts %d, random %s", n, random)
			}
			seen[random] = true
		}
		for end := time.Now().Add(time.Minute); c.Template.Ready() != 2; time.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("%d are ready, want 2 again", c.Template.Ready())
			}
		}
	})
}

// TestTemplateForks: clones of a template can fork if it was made so.
func TestTemplateForks(t *testing.T) {
	pairs(t, func(t *testing.T, from, to string) {
		c := config(t, from, "share")
		c.Forks = 4
		file := save(t, c, "ready")
		c.Isolation, c.Restore, c.Hostname = to, file, "restored"
		var err error
		if c.Template, err = monitor.NewTemplate(c, 1); err != nil {
			t.Fatal(err)
		}
		defer c.Template.Close()
		w, out := pvms.Pipe(t)
		c.Stdout = w
		pvms.Start(t, c)
		pvms.Expect(t, out, 1, "done")
	})
}
