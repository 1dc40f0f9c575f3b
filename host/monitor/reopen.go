package monitor

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"noyau.dev/host/broker"
	"noyau.dev/host/snapshot"
	"noyau.dev/host/volume"
)

// openSnapshot opens and checks what a pVM is restored of.
func (l *launch) openSnapshot(c *Config) (err error) {
	if l.snapshot = c.Snapshot; l.snapshot == nil {
		if c.Restore == "" {
			return nil
		}
		if l.snapshot, err = snapshot.Open(c.Restore); err != nil {
			return fmt.Errorf("snapshot: %w", err)
		}
		l.opened = true
	}
	if l.again != nil && l.again.exec != "" {
		return l.snapshot.CheckExec(l.again.exec, l.image)
	}
	if err := l.snapshot.CheckImage(l.image); err != nil || l.again != nil {
		return err
	}
	return l.openPieces()
}

// giveSnapshot gives what a restored pVM begins with.
func (l *launch) giveSnapshot(boot *boot) error {
	k := 0
	if l.again != nil {
		k = l.again.k
	}
	f, err := l.snapshot.DataFor(k)
	if err != nil {
		return fmt.Errorf("snapshot: %w", err)
	}
	boot.head.Restore = uint32(len(l.handles))
	boot.head.Memory = l.snapshot.Memory
	if k > 0 {
		boot.head.RestoreAt = uint64(l.snapshot.Family.Members[k].At)
	}
	l.give(f)
	dead, err := unix.Socket(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("snapshot: %w", err)
	}
	l.give(os.NewFile(uintptr(dead), "dead"))
	if l.snapshot.Family == nil {
		return nil
	}
	return l.givePieces(l.snapshot.Family.Members[k].Areas)
}

// volumesOfSnapshot are those that a restored pVM believes in. Which directories they are
// is the caller's to say and not the file's: who gives somebody a snapshot must not get at
// directories by that.
func (l *launch) volumesOfSnapshot(given map[string]Volume, zones bool) error {
	l.volumes = nil
	var missing []string
	for _, v := range l.snapshot.Volumes {
		now, ok := given[v.Guest]
		delete(given, v.Guest)
		switch {
		case ok:
			now.ReadOnly = now.ReadOnly || v.ReadOnly
		case v.Guest == zoneinfo:
			if now = (Volume{Guest: zoneinfo, ReadOnly: true}); zones {
				now.Host = zoneinfo
			}
		default:
			missing = append(missing, "-v "+v.String())
		}
		l.volumes = append(l.volumes, now)
	}
	if missing != nil {
		return fmt.Errorf("the snapshot was made of a pVM with volumes; say which directories they are, as in %s", strings.Join(missing, " "))
	}
	for _, v := range given {
		return fmt.Errorf("volume %s: the pVM had no volume there when the snapshot was made, and cannot get one by being restored", v)
	}
	return nil
}

// maxNamed is how many files an error names.
const maxNamed = 8

// reopen opens the files that a restored pVM had open.
func (l *launch) reopen(how Reopen) error {
	if l.snapshot == nil || l.again != nil {
		return nil
	}
	switch how {
	case ReopenSame, ReopenAny, ReopenClose:
	default:
		return fmt.Errorf("reopening %q is not known", how)
	}
	var wrong []string
	opened := make(map[int]*volume.File) // nil: it cannot be
	l.common = new(broker.Common)
	for i, m := range l.snapshot.All() {
		r := &broker.Restored{Files: make(map[uint32]*volume.File), Next: m.NextHandle, Rights: m.Rights, Common: l.common}
		if i == 0 {
			l.restored = r
		} else {
			l.others = append(l.others, r)
		}
		for _, rec := range m.Files {
			f, seen := opened[rec.Open]
			if !seen {
				err := fmt.Errorf("%w: its volume is not there", volume.ErrNotSame)
				if root := l.roots[rec.Volume]; root != nil {
					f, err = root.Reopen(rec.Record, how != ReopenAny)
				}
				switch {
				case err == nil:
					l.common.Add(rec.Handle, f)
				case how == ReopenClose:
				case !errors.Is(err, volume.ErrNotSame):
					return err
				default:
					wrong = append(wrong, fmt.Sprintf("%s: %v", strings.TrimSuffix(l.volumes[rec.Volume].Guest+"/"+rec.Path, "/."), err))
				}
				opened[rec.Open] = f
			}
			if f != nil {
				r.Files[rec.Handle] = f
			}
		}
	}
	if len(wrong) == 0 {
		return nil
	}
	more := ""
	if n := len(wrong) - maxNamed; n > 0 {
		wrong, more = wrong[:maxNamed], fmt.Sprintf("\nand %d more", n)
	}
	return fmt.Errorf("files that were open when the snapshot was made cannot be opened again:\n%s%s\nbring them back, or go on with what is there (--files reopen) or without them (--files close)", strings.Join(wrong, "\n"), more)
}
