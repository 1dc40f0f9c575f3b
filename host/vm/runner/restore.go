package runner

import (
	"encoding/binary"
	"fmt"
	"math/bits"

	"golang.org/x/sys/unix"

	"noyau.dev/abi"
	"noyau.dev/host/vm/machine"
	"noyau.dev/host/vm/runner/spare"
)

// restore makes the guest what the snapshot says, instead of starting its image: the
// pages of the file take the places of the guest's, and it goes on at the instruction
// where it was. Whatever is in the file, only this guest can come to harm by it.
func (r *Runner) restore(cfg *Config) error {
	file, dead := int(r.boot.Restore), int(r.boot.Restore)+1
	if file < abi.HandleFirst || dead >= cfg.Handles {
		return fmt.Errorf("vm: handles %d and %d are to be a snapshot and a socket, but there are %d handles", file, dead, cfg.Handles)
	}
	h, err := mapSnapshot(r.m, file, r.boot.RestoreAt)
	if err != nil {
		return err
	}
	if err := r.shareAgain(h); err != nil {
		return err
	}
	r.touch(cfg.touch)
	spare.Give()
	if err := r.bury(h, file, dead, max(cfg.Handles, int(h.Handles))); err != nil {
		return err
	}
	r.resume(h)
	return r.m.Attach()
}

// touch gives pages that the guest will write memory of their own: list are runs of
// abi.WarmTouch. Those that are not the guest's to write are passed over.
func (r *Runner) touch(list []byte) {
	for ; len(list) >= 8; list = list[8:] {
		run := binary.LittleEndian.Uint64(list)
		r.m.Populate(machine.Addr(run&^(abi.PageSize-1)), (run%abi.PageSize+1)*abi.PageSize)
	}
}

// resume sets the registers with which a restored guest goes on.
func (r *Runner) resume(h *abi.SnapHeader) {
	r.m.Start(h.PC, h.SP)
	g := r.m.VM.Regs()
	g.RBP, g.RBX = h.BP, abi.VMInfoPage
}

// mapSnapshot maps all pages of a snapshot, or of that member in it whose header is at
// this place in the file.
func mapSnapshot(m *machine.Machine, file int, at uint64) (*abi.SnapHeader, error) {
	var st unix.Stat_t
	if err := unix.Fstat(file, &st); err != nil {
		return nil, fmt.Errorf("vm: the snapshot: %w", err)
	}
	head, err := readHead(file, int64(min(at, 1<<62)))
	if err != nil {
		return nil, err
	}
	h, wrong := abi.TakeSnap(head, uint64(st.Size))
	if wrong != "" {
		return nil, fmt.Errorf("vm: the snapshot is damaged: %s", wrong)
	}
	for i := range int(h.Extents) {
		e := abi.SnapExtentAt(head, i)
		m.Expect(machine.Addr(e.Addr), machine.Addr(e.Addr+e.Len))
	}
	if e := m.Grant(h.Region); e != 0 {
		return nil, fmt.Errorf("vm: the snapshot wants a memory region of %d bytes: %w", h.Region, e)
	}
	for i := range int(h.Extents) {
		e := abi.SnapExtentAt(head, i)
		if err := m.MapPrivate(machine.Addr(e.Addr), e.Len, file, int64(e.At)); err != 0 {
			return nil, fmt.Errorf("vm: the snapshot's %d bytes at %#x: %w; is it of another image?", e.Len, e.Addr, err)
		}
	}
	return &h, nil
}

// theHead has room for one header. As a variable it takes memory for what is used of it, and
// nothing is to be known about it by the heap.
var theHead [abi.SnapData]byte

// readHead reads the header of a snapshot, and of the table the entries that it says there are.
func readHead(file int, at int64) ([]byte, error) {
	head := theHead[:]
	n, err := unix.Pread(file, head[:abi.SnapHead], at)
	if err == nil && n == abi.SnapHead {
		table := head[n:][:abi.SnapEntries(head)*abi.SnapExtent]
		n, err = unix.Pread(file, table, at+abi.SnapHead)
		if err == nil && n == len(table) {
			return head, nil
		}
	}
	return nil, fmt.Errorf("vm: the snapshot has no header (%d bytes, %v)", n, err)
}

// bury puts the dead socket in the place of each handle that the guest had before. low is
// above all of these, and of the handles that it has now. No number is higher than it
// must be: a larger table of descriptors takes the kernel milliseconds.
func (r *Runner) bury(h *abi.SnapHeader, file, dead, low int) error {
	if err := r.m.VM.Raise(low); err != nil {
		return err
	}
	above, err := unix.FcntlInt(uintptr(dead), unix.F_DUPFD_CLOEXEC, low)
	if err != nil {
		return fmt.Errorf("vm: the socket of a restored pVM: %w", err)
	}
	for _, fd := range []int{file, dead} {
		unix.Close(fd)
		r.handles.remove(uint64(fd))
	}
	open := r.m.Bytes(machine.Addr(h.Open), (h.Handles+63)/64*8, false)
	if open == nil {
		return fmt.Errorf("vm: the snapshot is damaged: its handles are not among its variables")
	}
	for w := 0; w < len(open); w += 8 {
		for v := binary.LittleEndian.Uint64(open[w:]); v != 0; v &= v - 1 {
			n := w*8 + bits.TrailingZeros64(v)
			if n < abi.HandleFirst || n >= int(h.Handles) {
				return fmt.Errorf("vm: the snapshot is damaged: %d is no handle of it", n)
			}
			if _, err := unix.FcntlInt(uintptr(n), unix.F_GETFD, 0); err == nil && !r.handles.has(uint64(n)) {
				return fmt.Errorf("vm: handle %d of the snapshot has a number that the runner needs; restore it under isolation=process", n)
			}
			if err := unix.Dup3(above, n, unix.O_CLOEXEC); err != nil {
				return fmt.Errorf("vm: handle %d: %w", n, err)
			}
			r.handles.add(uint64(n))
		}
	}
	return unix.Close(above)
}
