package process

import (
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// openSources collects the descriptors for a launch. done closes those made for it.
func openSources(s *Spec, g *group) (src *sources, done func(), err error) {
	src = &sources{image: -1, cgroup: -1}
	var made []int
	closeMade := func() {
		for _, fd := range made {
			unix.Close(fd)
		}
	}
	defer func() {
		if err != nil {
			closeMade()
		}
	}()
	for i, f := range s.Files {
		fd, err := number(f)
		if err != nil {
			return nil, nil, fmt.Errorf("process: file for descriptor %d: %w", i, err)
		}
		src.files = append(src.files, fd)
	}
	if src.image, err = number(s.Image); err != nil {
		return nil, nil, fmt.Errorf("process: image: %w", err)
	}
	if src.image, err = executable(src.image, &made); err != nil {
		return nil, nil, err
	}
	dir, procs, err := g.open()
	if err != nil {
		g.refuse(err.Error())
		dir, procs, err = -1, nil, nil
	}
	src.cgroup, src.procs = dir, procs
	if dir >= 0 {
		made = append(made, dir)
	}
	made = append(made, procs...)
	return src, closeMade, nil
}

// number returns the descriptor of f without making it blocking, as f.Fd would.
func number(f *os.File) (fd int, err error) {
	rc, err := f.SyscallConn()
	if err != nil {
		return -1, err
	}
	if e := rc.Control(func(n uintptr) { fd = int(n) }); e != nil {
		return -1, e
	}
	return fd, nil
}

// executable returns fd, or a sealed copy in memory if the image's process, which
// is neither root nor in this user's groups if this process is root, may not
// execute the file itself.
func executable(fd int, made *[]int) (int, error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return -1, fmt.Errorf("process: image: %w", err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return -1, fmt.Errorf("process: the image is no regular file")
	}
	may := uint32(0o111)
	if os.Geteuid() == 0 {
		may = 0o001
	}
	if st.Mode&may != 0 {
		return fd, nil
	}
	const flags = unix.MFD_CLOEXEC | unix.MFD_ALLOW_SEALING
	m, err := unix.MemfdCreate("image", flags|unix.MFD_EXEC)
	if err == unix.EINVAL {
		m, err = unix.MemfdCreate("image", flags) // before Linux 6.3
	}
	if err != nil {
		return -1, fmt.Errorf("process: copy of an image that others may not execute: %w", err)
	}
	*made = append(*made, m)
	if err := copyFile(m, fd, st.Size); err != nil {
		return -1, fmt.Errorf("process: copy of an image that others may not execute: %w", err)
	}
	const seals = unix.F_SEAL_WRITE | unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_SEAL
	if _, err := unix.FcntlInt(uintptr(m), unix.F_ADD_SEALS, seals); err != nil {
		return -1, fmt.Errorf("process: seal of the copy of an image: %w", err)
	}
	return m, nil
}

// copyFile copies the size first bytes of src to the empty file dst.
func copyFile(dst, src int, size int64) error {
	for off := int64(0); off < size; {
		n, err := unix.Sendfile(dst, src, &off, int(min(size-off, 1<<30)))
		if err != nil && err != unix.EINTR {
			return err
		}
		if err == nil && n == 0 {
			return io.ErrUnexpectedEOF
		}
	}
	return nil
}
