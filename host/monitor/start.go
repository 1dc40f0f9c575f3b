package monitor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"noyau.dev/abi"
	"noyau.dev/host/broker"
	"noyau.dev/host/names"
	"noyau.dev/host/policy"
)

const (
	zoneinfo    = "/usr/share/zoneinfo"
	defaultTick = 10 * time.Millisecond
)

// complete checks c and fills in what was left out.
func (c *Config) complete() error {
	if c.Image == "" && c.ImageFile == nil {
		return errors.New("no image given")
	}
	if c.Name == "" {
		c.Name = filepath.Base(c.Image)
		if c.Image == "" {
			c.Name = filepath.Base(c.ImageFile.Name())
		}
	}
	if c.Arg0 == "" {
		c.Arg0 = c.Name
	}
	if c.Dir == "" {
		c.Dir = "/"
	}
	if !path.IsAbs(c.Dir) {
		return fmt.Errorf("working directory %q is not an absolute path of the pVM", c.Dir)
	}
	if c.Hostname == "" {
		c.Hostname = hostname(c.Name)
	}
	if c.Tick <= 0 {
		c.Tick = defaultTick
	}
	if c.StopSignal == 0 {
		c.StopSignal = unix.SIGTERM
	}
	if c.Net.None && len(c.Publish) > 0 {
		return fmt.Errorf("port %s cannot be published: the pVM has no network (--net none)", c.Publish[0])
	}
	if c.Memory != 0 && c.Memory < 4<<20 {
		return fmt.Errorf("memory limit of %d bytes is too small; a pVM needs 4 MiB at least", c.Memory)
	}
	if c.Memory > abi.RegionMax/2 { // the heap has no more without a limit; see abi.RegionSize
		c.Memory = abi.RegionMax / 2
	}
	for _, list := range [][]string{{c.Arg0, c.Dir, c.Hostname}, c.Args, c.Env} {
		for _, s := range list {
			if strings.IndexByte(s, 0) >= 0 {
				return fmt.Errorf("%q has a zero byte in it", s)
			}
		}
	}
	for _, f := range c.Files {
		if !path.IsAbs(f.Path) || path.Clean(f.Path) != f.Path || len(f.Path) > abi.MaxPath {
			return fmt.Errorf("file %q: want an absolute path without . and ..", f.Path)
		}
	}
	return nil
}

// hostname makes a host name of name: letters, digits and hyphens, 63 at most.
func hostname(name string) string {
	name = strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9', r == '-':
			return r
		case r >= 'A' && r <= 'Z':
			return r - 'A' + 'a'
		}
		return '-'
	}, strings.TrimSuffix(name, filepath.Ext(name)))
	if name = strings.Trim(name[:min(len(name), 63)], "-"); name == "" {
		return "noyau"
	}
	return name
}

// Start starts a pVM. Cancelling ctx kills it. An error means that the image
// never ran; a published port in use is such an error.
func Start(ctx context.Context, c Config) (*Instance, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if c.Template != nil {
		if err := c.Template.use(&c); err != nil {
			return nil, err
		}
	}
	if err := c.complete(); err != nil {
		return nil, err
	}
	isolation, be, err := c.backend()
	if err != nil {
		return nil, err
	}
	sockets, err := c.sockets()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", c.Name, err)
	}
	var l launch
	if c.Template != nil {
		if s := c.Template.take(&c); s != nil {
			l = s.l
			l.waits = s
		}
	}
	defer l.closeGuests()
	if err := l.prepare(&c); err != nil {
		l.fail()
		return nil, fmt.Errorf("%s: %w", c.Name, err)
	}
	if err := c.checkFamily(l.snapshot); err != nil {
		l.fail()
		return nil, fmt.Errorf("%s: %w", c.Name, err)
	}
	c.Timing.Mark("handles and volumes opened")
	i := newInstance(&c, isolation, l.ports)
	i.describe.Volumes = l.volumes
	guard := policy.NewGuard(c.Net)
	bc := broker.Config{
		Control: l.control, Guard: guard, Roots: l.roots, Ports: l.ports,
		Terminal:   [3]*os.File{c.Terminal.In, c.Terminal.Out, c.Terminal.Err},
		MaxHandles: c.MaxHandles, Failed: i.failed, Sockets: sockets,
	}
	if !c.Net.None {
		bc.Names = names.New(guard, c.Hostname, nil)
	}
	if c.hasFamily() {
		execs, err := openExecs(&c, l.image)
		if err != nil {
			l.fail()
			return nil, fmt.Errorf("%s: %w", c.Name, err)
		}
		l.family = newFamily(&c, be, bc, &l, execs)
		if l.snapshot != nil && l.snapshot.Family != nil {
			sockets.Restoring(true)
			if err := l.family.revive(&l); err != nil {
				l.fail()
				return nil, fmt.Errorf("%s: %w", c.Name, err)
			}
		}
		bc = l.family.first.config(l.control)
		i.family = l.family
	}
	bc.Restored = l.restored // not of those that it forks
	if i.broker, err = broker.New(bc); err != nil {
		l.unrevive()
		l.fail()
		return nil, fmt.Errorf("%s: %w", c.Name, err)
	}
	if l.common != nil {
		l.common.Close()
	}
	if l.waits != nil {
		l.writes = c.Template.writes
	} else if _, ok := be.(Toucher); ok && l.snapshot != nil && !c.hasFamily() {
		l.writes, _ = workingSetOf(l.snapshot, isolation) // without it the first touches take longer
	}
	proc, err := c.launch(be, &l)
	if err != nil {
		i.broker.Discard()
		l.unrevive()
		l.fail()
		return nil, fmt.Errorf("%s: isolation %s: %w", c.Name, isolation, err)
	}
	c.Timing.Mark("launched")
	if l.writes != nil {
		i.teach(l.writes, proc.Pid())
	}
	i.run(ctx, &c, proc, &l)
	if l.family != nil && l.snapshot != nil && l.snapshot.Family != nil {
		l.family.beginAgain(l.snapshot.Family)
	}
	return i, nil
}

// backend is the isolation that c asks for.
func (c *Config) backend() (string, Backend, error) {
	if c.Template != nil {
		return c.Template.isolation, c.Template.be, nil
	}
	return backend(c.Isolation, c.Forks > 1, c.Restore != "" || c.Snapshot != nil)
}

// netOut says whether datagrams may be sent anywhere without asking.
func (c *Config) netOut() bool { return c.Net.Unrestricted && !c.Net.None }

// hasFamily says whether the pVM may get company.
func (c *Config) hasFamily() bool { return c.Forks > 1 || len(c.Exec) > 0 }

// spec is what a back-end gets to start what l has opened.
func (c *Config) spec(l *launch) *Spec {
	above := 0
	if l.snapshot != nil {
		above = int(l.snapshot.Header.Handles)
	}
	var touch []uint64
	if l.writes != nil {
		touch = runsOf(l.writes.known())
	}
	return &Spec{
		Above: above, Touch: touch,
		Name: c.Name, Image: l.image, Args: append([]string{c.Arg0}, c.Args...), Env: c.Env,
		Handles: l.handles, Memory: c.Memory, CPU: c.CPU, Pids: c.Pids, Tick: c.Tick,
		NetOut: c.netOut(), Fork: c.Forks > 1, Leash: l.leash, Restore: l.snapshot != nil, Options: c.Options, Timing: c.Timing,
	}
}
