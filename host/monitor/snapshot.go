package monitor

import (
	"context"
	"errors"

	"noyau.dev/host/snapshot"
)

// ErrNoSnapshot says that a pVM was started in a way that does not allow snapshots.
var ErrNoSnapshot = errors.New("no snapshot can be made of this pVM: run it with --fork N, N at least 2")

// Snapshot writes the pVM as it is now to a file, and lets it go on. Config.Restore makes
// pVMs that go on from there, any number of one file, which must not change while they
// run. It is made of this pVM alone, not of its forks.
func (i *Instance) Snapshot(ctx context.Context, path string) error {
	if i.family == nil {
		return ErrNoSnapshot
	}
	return snapshot.Save(ctx, path, i.describe, i.broker.Snapshot)
}

// describe is what a snapshot says of the pVM.
func (c *Config) describe() snapshot.Meta {
	m := snapshot.Meta{
		Image: c.Image, Name: c.Name, Arg0: c.Arg0, Dir: c.Dir, Hostname: c.Hostname, Args: c.Args, Env: c.Env,
		UID: c.UID, GID: c.GID, Memory: c.Memory, Forks: c.Forks,
	}
	if m.Image == "" && c.ImageFile != nil {
		m.Image = c.ImageFile.Name()
	}
	for _, p := range c.Publish {
		m.Publish = append(m.Publish, p.String())
	}
	return m
}
