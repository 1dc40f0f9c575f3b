package monitor

import (
	"context"
	"os"

	"golang.org/x/sys/unix"

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
	m, err := i.described()
	if err != nil {
		return err
	}
	if i.family != nil && !o.Alone {
		return i.snapshotFamily(ctx, path, m, o)
	}
	return snapshot.Save(ctx, path, m, snapshot.Options{Compress: o.Compress}, func(ctx context.Context, f *os.File, m *snapshot.Meta) error {
		open, err := i.broker.Snapshot(ctx, f, nil)
		for _, o := range open.Files {
			m.Files = append(m.Files, o.Record)
		}
		m.NextHandle, m.Rights = open.Next, i.broker.Narrowed()
		return err
	})
}

// described is i.describe with the sum of the image that runs, which may not be what has its
// name by now.
func (i *Instance) described() (m snapshot.Meta, err error) {
	m = i.describe
	i.mu.Lock()
	image, err := duplicate(i.image)
	i.mu.Unlock()
	if err != nil {
		return m, nil // it has ended: who is asked to write will say so
	}
	defer image.Close()
	m.ImageSum, err = snapshot.SumImage(image)
	return m, err
}

// duplicate is another descriptor of a file.
func duplicate(f *os.File) (*os.File, error) {
	fd, err := unix.FcntlInt(fdOf(f), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), f.Name()), nil
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
