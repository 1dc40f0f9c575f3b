package monitor

import (
	"context"
	"os"

	"noyau.dev/host/snapshot"
)

// SnapshotOptions are for Instance.Snapshot.
type SnapshotOptions struct {
	Compress bool // by zstd: smaller, and slower to restore
	Alone    bool // without the forks that it has, and without what connects it with them
}

// Snapshot writes the pVM as it is now, with all that was forked of it, to a file, and lets it
// go on. Config.Restore makes pVMs that go on from there, any number of one file, which
// must not change while they run.
func (i *Instance) Snapshot(ctx context.Context, path string, o SnapshotOptions) error {
	if i.paused.Load() {
		return ErrPaused
	}
	if i.family != nil && !o.Alone {
		return i.snapshotFamily(ctx, path, o)
	}
	return snapshot.Save(ctx, path, i.describe, snapshot.Options{Compress: o.Compress}, func(ctx context.Context, f *os.File, m *snapshot.Meta) error {
		open, err := i.broker.Snapshot(ctx, f, nil)
		for _, o := range open.Files {
			m.Files = append(m.Files, o.Record)
		}
		m.NextHandle, m.Rights = open.Next, i.broker.Narrowed()
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
