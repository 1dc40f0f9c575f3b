package monitor

import (
	"context"
	"errors"
	"fmt"
	"os"

	"noyau.dev/host/snapshot"
)

// ErrForks says that a pVM has forks, which would not be in a snapshot of it.
var ErrForks = errors.New("a snapshot holds one pVM, and this one has forked")

// SnapshotOptions are for Instance.Snapshot.
type SnapshotOptions struct {
	Compress bool // by zstd: smaller, and slower to restore
	Alone    bool // without the forks that it has; else that is ErrForks
}

// Snapshot writes the pVM as it is now to a file, and lets it go on. Config.Restore makes
// pVMs that go on from there, any number of one file, which must not change while they
// run. It is made of this pVM alone, not of its forks.
func (i *Instance) Snapshot(ctx context.Context, path string, o SnapshotOptions) error {
	if i.family != nil && !o.Alone {
		if n := len(i.family.all()); n > 1 {
			return fmt.Errorf("%w: the family has %d members; end the others first, or leave them out with --alone", ErrForks, n)
		}
	}
	return snapshot.Save(ctx, path, i.describe, snapshot.Options{Compress: o.Compress}, func(ctx context.Context, f *os.File, m *snapshot.Meta) error {
		open, err := i.broker.Snapshot(ctx, f)
		m.Files, m.NextHandle = open.Files, open.Next
		return err
	})
}

// describe is what a snapshot says of the pVM.
func (c *Config) describe() snapshot.Meta {
	m := snapshot.Meta{
		Image: c.Image, Name: c.Name, Arg0: c.Arg0, Dir: c.Dir, Hostname: c.Hostname, Args: c.Args, Env: c.Env,
		UID: c.UID, GID: c.GID, Memory: c.Memory, Forks: c.Forks, Processor: snapshot.Processor(),
	}
	if m.Image == "" && c.ImageFile != nil {
		m.Image = c.ImageFile.Name()
	}
	return m
}
