package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/docker/go-units"
	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"

	"noyau.dev/host/monitor"
	"noyau.dev/host/policy"
	"noyau.dev/host/state"
	"noyau.dev/host/volume"
)

// runFlags are the flags of noyau run as they were given.
type runFlags struct {
	publish, volumes, env, envFiles, allowOut, ulimits, options []string
	execs, channels                                             []string
	memory, name, dir, hostname, isolation, net, user           string
	stopSignal                                                  string
	stopTimeout                                                 int
	pids, forks                                                 int
	detach, remove, trace, timing                               bool
	goFlags                                                     func() []string
}

func (f *runFlags) add(fs *pflag.FlagSet) {
	fs.SortFlags = false
	fs.VarP(list(&f.publish), "publish", "p", "publish a port, `[ip:]host:guest[/udp]`, or guest for one that the host chooses")
	fs.VarP(list(&f.volumes), "volume", "v", "show a host directory to the app, `host:guest[:ro]`")
	fs.VarP(list(&f.env), "env", "e", "set an environment variable: `NAME=value`, or NAME to take it from here")
	fs.Var(list(&f.envFiles), "env-file", "read environment variables from a `file`")
	fs.StringVarP(&f.memory, "memory", "m", "", "memory limit in `bytes`, or with k, m, g")
	fs.StringVar(&f.name, "name", "", "`name` of the pVM")
	fs.BoolVarP(&f.detach, "detach", "d", false, "run in the background and print the id")
	fs.BoolVar(&f.remove, "rm", false, "remove the pVM when it ends (with -d; others are always removed)")
	fs.StringVarP(&f.dir, "workdir", "w", "", "working `directory` of the app")
	isolation := os.Getenv("NOYAU_ISOLATION")
	if isolation == "" {
		isolation = "auto"
	}
	fs.StringVar(&f.isolation, "isolation", isolation, "`kind` of isolation: process, vm or auto; $NOYAU_ISOLATION is the default")
	fs.BoolVar(&f.trace, "trace", false, "print the app's system calls")
	fs.StringVar(&f.net, "net", "default", "network `policy`: default, none, host-loopback, unrestricted")
	fs.Var(list(&f.allowOut), "allow-out", "connect only to `place`s: host|ip|cidr[:port][/tcp|/udp]")
	fs.StringVar(&f.hostname, "hostname", "", "host `name` that the app sees")
	fs.StringVarP(&f.user, "user", "u", "", "user that the app believes to be: `uid[:gid]`")
	fs.Var(list(&f.ulimits), "ulimit", "resource limit that the app sees: `name=soft[:hard]`")
	fs.IntVar(&f.pids, "pids-limit", 0, "largest `number` of processes of the pVM and its forks")
	fs.IntVar(&f.forks, "fork", -1, "largest `number` of pVMs of a family, the first included; 0 forbids fork (default 64 for programs that use package pvm, else 0)")
	fs.StringSliceVar(&f.execs, "exec", nil, "let the app start `name=PACKAGE|IMAGE` by os/exec, as a sibling pVM; self is the app itself")
	fs.Var(list(&f.channels), "channel", "let the app listen at or dial a channel to another pVM: `NAME=listen|dial`")
	fs.StringVar(&f.stopSignal, "stop-signal", "SIGTERM", "`signal` that noyau stop sends")
	fs.IntVar(&f.stopTimeout, "stop-timeout", 10, "`seconds` that noyau stop waits before it kills")
	fs.Var(list(&f.options), "isolation-opt", "`name=value` for the isolation")
	fs.MarkHidden("isolation-opt")
	fs.BoolVar(&f.timing, "timing", false, "print at the end how long each stage of the start took")
	// Docker users type -it without thinking. A foreground pVM has the streams
	// of its noyau anyway, terminal or not.
	fs.BoolP("interactive", "i", false, "")
	fs.BoolP("tty", "t", false, "")
	fs.MarkHidden("interactive")
	fs.MarkHidden("tty")
	f.goFlags = addGoFlags(fs)
}

// images finds, and if need be builds, the images that the app may start.
func (f *runFlags) images(ctx context.Context) ([]monitor.Exec, error) {
	var list []monitor.Exec
	for _, s := range f.execs {
		if s == monitor.ExecSelf {
			list = append(list, monitor.Exec{Name: s})
			continue
		}
		name, arg, named := strings.Cut(s, "=")
		if !named {
			arg = s
		}
		if arg == "" || named && name == "" {
			return nil, &exitCode{exitError, fmt.Errorf("exec %q: want name=PACKAGE or name=IMAGE, or self", s)}
		}
		t, err := openTarget(ctx, arg, nil)
		if err != nil {
			return nil, err
		}
		t.image.Close()
		if !named {
			name = t.base
		}
		path, err := filepath.Abs(t.image.Path)
		if err != nil {
			return nil, err
		}
		list = append(list, monitor.Exec{Name: name, Image: path})
	}
	return list, nil
}

// config makes the monitor's configuration of the flags. base is the name to
// use where none is given.
func (f *runFlags) config(base string, args []string) (monitor.Config, error) {
	c := monitor.Config{Name: f.name, Args: args, Arg0: base, Isolation: f.isolation, Trace: f.trace, Pids: f.pids, Forks: f.forks}
	if f.timing {
		c.Timing = &timing
	}
	if c.Name == "" {
		c.Name = base
	}
	errs := []error{f.mounts(&c), f.network(&c), f.limits(&c), f.identity(&c)}
	if err := errors.Join(errs...); err != nil {
		return c, err
	}
	env, err := environment(f.envFiles, f.env, os.LookupEnv)
	if err != nil {
		return c, err
	}
	c.Env = defaultEnv(env, c.Hostname)
	return c, nil
}

func (f *runFlags) mounts(c *monitor.Config) error {
	seen := map[string]bool{}
	for _, s := range f.volumes {
		v, err := volume.ParseSpec(s)
		if err != nil {
			return err
		}
		if seen[v.Guest] {
			return fmt.Errorf("volume %q: another volume is at %s already", s, v.Guest)
		}
		seen[v.Guest] = true
		st, err := os.Stat(v.Host)
		if errors.Is(err, os.ErrNotExist) {
			// Its own kind of "not found": the image was not even looked for.
			return fmt.Errorf("volume %q: there is no directory %s; create it first", s, v.Host)
		}
		if err != nil {
			return fmt.Errorf("volume %q: %v", s, err)
		}
		if !st.IsDir() {
			return fmt.Errorf("volume %q: %s is not a directory; give the directory that holds it", s, v.Host)
		}
		c.Volumes = append(c.Volumes, v)
	}
	if f.dir != "" && !path.IsAbs(f.dir) {
		return fmt.Errorf("workdir %q is not an absolute path", f.dir)
	}
	c.Dir = f.dir
	return nil
}

func (f *runFlags) network(c *monitor.Config) error {
	for _, s := range f.publish {
		p, err := policy.ParsePublish(s)
		if err != nil {
			return err
		}
		c.Publish = append(c.Publish, p)
	}
	for _, s := range f.channels {
		ch, err := monitor.ParseChannel(s)
		if err != nil {
			return err
		}
		c.Channels = append(c.Channels, ch)
	}
	if len(c.Channels) > 0 {
		d, err := state.Open()
		if err != nil {
			return fmt.Errorf("channels: %w", err)
		}
		c.ChannelDir = filepath.Join(d.Run, "channels")
	}
	for _, s := range f.allowOut {
		r, err := policy.ParseRule(s)
		if err != nil {
			return err
		}
		c.Net.Rules = append(c.Net.Rules, r)
	}
	switch f.net {
	case "default":
	case "none":
		c.Net.None = true
		if len(c.Publish) > 0 {
			return errors.New("--net none takes all of the network away: -p cannot be used with it")
		}
	case "host-loopback":
		c.Net.HostLoopback = true
	case "unrestricted":
		c.Net.Unrestricted = true
	default:
		return fmt.Errorf("--net %q is not known (known: default, none, host-loopback, unrestricted)", f.net)
	}
	if len(c.Net.Rules) > 0 && (c.Net.None || c.Net.Unrestricted) {
		return fmt.Errorf("--allow-out cannot be used with --net %s", f.net)
	}
	return nil
}

func (f *runFlags) limits(c *monitor.Config) error {
	var err error
	if c.Memory, err = memorySize(f.memory); err != nil {
		return err
	}
	if f.forks > monitor.MaxForks {
		return fmt.Errorf("fork %d: at most %d pVMs can be a family", f.forks, monitor.MaxForks)
	}
	if f.forks < -1 { // -1: by default
		return fmt.Errorf("fork %d is negative", f.forks)
	}
	if f.pids < 0 {
		return fmt.Errorf("pids-limit %d is negative", f.pids)
	}
	for _, s := range f.ulimits {
		u, err := units.ParseUlimit(s)
		if err != nil {
			return fmt.Errorf("ulimit %q: %w", s, err)
		}
		r, err := u.GetRlimit()
		if err != nil {
			return fmt.Errorf("ulimit %q: %w", s, err)
		}
		c.Limits = append(c.Limits, monitor.Limit{Resource: uint32(r.Type), Soft: r.Soft, Hard: r.Hard})
	}
	sig, err := parseSignal(f.stopSignal)
	if err != nil {
		return err
	}
	c.StopSignal = sig
	if f.stopTimeout < 0 {
		return fmt.Errorf("stop-timeout %d is negative", f.stopTimeout)
	}
	for _, s := range f.options {
		k, v, ok := strings.Cut(s, "=")
		if !ok || k == "" {
			return fmt.Errorf("isolation-opt %q: want name=value", s)
		}
		if c.Options == nil {
			c.Options = map[string]string{}
		}
		c.Options[k] = v
	}
	return nil
}

func (f *runFlags) identity(c *monitor.Config) error {
	c.Hostname = f.hostname
	if c.Hostname == "" {
		c.Hostname = hostname(c.Name)
	} else if hostname(f.hostname) != strings.ToLower(f.hostname) {
		return fmt.Errorf("hostname %q is not a host name", f.hostname)
	}
	if f.user != "" {
		u, g, both := strings.Cut(f.user, ":")
		uid, err1 := strconv.ParseUint(u, 10, 32)
		gid, err2 := uid, error(nil)
		if both {
			gid, err2 = strconv.ParseUint(g, 10, 32)
		}
		if err1 != nil || err2 != nil {
			return fmt.Errorf("user %q: want numbers, uid or uid:gid; there is no user database", f.user)
		}
		c.UID, c.GID = uint32(uid), uint32(gid)
	}
	return nil
}

func (f *runFlags) stopAfter() time.Duration { return time.Duration(f.stopTimeout) * time.Second }

// memorySize reads a size as docker does; empty is 0, no limit.
func memorySize(s string) (uint64, error) {
	if s == "" {
		return 0, nil
	}
	n, err := units.RAMInBytes(s)
	if err != nil || n <= 0 {
		return 0, fmt.Errorf("memory %q is not a size; want bytes or a number with k, m or g, as in 64m", s)
	}
	return uint64(n), nil
}

// hostname makes a valid host name of a pVM's name.
func hostname(name string) string {
	b := []byte(strings.ToLower(name))
	for i, c := range b {
		if !(c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '-' || c == '.') {
			b[i] = '-'
		}
	}
	h := strings.Trim(string(b[:min(len(b), 63)]), "-.")
	if h == "" {
		return "pvm"
	}
	return h
}

// parseSignal reads a signal as kill(1) does: TERM, SIGTERM, term or 15.
func parseSignal(s string) (unix.Signal, error) {
	if n, err := strconv.Atoi(s); err == nil {
		if n >= 1 && n <= 64 {
			return unix.Signal(n), nil
		}
	} else {
		name := strings.ToUpper(s)
		if !strings.HasPrefix(name, "SIG") {
			name = "SIG" + name
		}
		if sig := unix.SignalNum(name); sig != 0 {
			return sig, nil
		}
	}
	return 0, fmt.Errorf("%q is not a signal; want a name such as TERM or a number from 1 to 64", s)
}
