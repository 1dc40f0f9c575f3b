package runner

import (
	"encoding/binary"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"noyau.dev/abi"
	"noyau.dev/host/vm/machine"
)

// shareAgain maps the memory that a member of a restored family shares: one file for each
// piece that the guest had. They come on the control channel before all else (see
// abi.ShareBatch), and of the family's memory this process has no other.
func (r *Runner) shareAgain(h *abi.SnapHeader) error {
	if r.boot.Shared != h.AreaN {
		return fmt.Errorf("vm: a member of a family is to share %d pieces of memory, its snapshot has %d", r.boot.Shared, h.AreaN)
	}
	list := r.m.Bytes(machine.Addr(h.Areas), uint64(h.AreaN)*abi.SnapArea, false)
	if list == nil && h.AreaN != 0 {
		return errors.New("vm: the snapshot is damaged: its shared memory is not in its region")
	}
	list = append([]byte(nil), list...)
	for len(list) > 0 {
		places, fds, err := takeShared()
		if err != nil {
			return err
		}
		if len(fds) == 0 || len(places) != 8*len(fds) || len(fds) > len(list)/abi.SnapArea {
			return fmt.Errorf("vm: the memory of a family came with %d bytes and %d descriptors", len(places), len(fds))
		}
		for i, fd := range fds {
			if err := r.mapPiece(list[:abi.SnapArea], binary.LittleEndian.Uint64(places[8*i:]), fd); err != nil {
				return err
			}
			unix.Close(fd)
			list = list[abi.SnapArea:]
		}
	}
	return nil
}

// takeShared takes the next message with shared memory.
func takeShared() (places []byte, fds []int, err error) {
	places, oob := make([]byte, 8*abi.ShareBatch), make([]byte, unix.CmsgSpace(4*abi.ShareBatch))
	n, on, _, _, err := unix.Recvmsg(abi.HandleControl, places, oob, unix.MSG_CMSG_CLOEXEC|unix.MSG_DONTWAIT)
	if err != nil {
		return nil, nil, fmt.Errorf("vm: the memory of a family: %w", err)
	}
	msgs, err := unix.ParseSocketControlMessage(oob[:on])
	if err == nil && len(msgs) == 1 {
		fds, err = unix.ParseUnixRights(&msgs[0])
	}
	return places[:n], fds, err
}

// mapPiece maps a piece, of which the guest's table has this entry. The monitor has made
// the file, so it does not shrink.
func (r *Runner) mapPiece(entry []byte, place uint64, fd int) error {
	le := binary.LittleEndian
	p, n, at := le.Uint64(entry), le.Uint64(entry[8:]), le.Uint64(entry[16:])
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return fmt.Errorf("vm: the memory of a family: %w", err)
	}
	if at != place || (p|n)%abi.PageSize != 0 || n > uint64(st.Size) {
		return fmt.Errorf("vm: the snapshot is damaged: %d bytes of shared memory at %#x are not what this member of the family has", n, p)
	}
	if e := r.m.MapFile(machine.Addr(p), n, fd, 0, true); e != 0 {
		return fmt.Errorf("vm: shared memory at %#x: %w", p, e)
	}
	return nil
}
