// Package tty reads and changes the settings of the user's terminals.
package tty

import (
	"encoding/binary"
	"os"

	"golang.org/x/sys/unix"
)

// Size is the size of an encoded State, in bytes: the kernel's struct termios.
const Size = 36

// State is the settings of a terminal.
type State struct{ t unix.Termios }

// Get reads the settings of the terminal f.
func Get(f *os.File) (State, error) {
	var s State
	err := control(f, func(fd int) error {
		t, err := unix.IoctlGetTermios(fd, unix.TCGETS)
		if err == nil {
			s.t = *t
		}
		return err
	})
	return s, err
}

// Set changes the settings of the terminal f; how is TCSETS, TCSETSW or TCSETSF.
func (s State) Set(f *os.File, how uint) error {
	return control(f, func(fd int) error { return unix.IoctlSetTermios(fd, how, &s.t) })
}

// WindowSize returns the size of the terminal's window in characters.
func WindowSize(f *os.File) (rows, cols uint16, err error) {
	err = control(f, func(fd int) error {
		w, err := unix.IoctlGetWinsize(fd, unix.TIOCGWINSZ)
		if err == nil {
			rows, cols = w.Row, w.Col
		}
		return err
	})
	return rows, cols, err
}

// Append appends s in the kernel's layout.
func (s State) Append(b []byte) []byte {
	for _, v := range [...]uint32{s.t.Iflag, s.t.Oflag, s.t.Cflag, s.t.Lflag} {
		b = binary.LittleEndian.AppendUint32(b, v)
	}
	b = append(b, s.t.Line)
	return append(b, s.t.Cc[:]...)
}

// Take reads a State that is exactly b.
func Take(b []byte) (s State, ok bool) {
	if len(b) != Size {
		return State{}, false
	}
	for i, v := range [...]*uint32{&s.t.Iflag, &s.t.Oflag, &s.t.Cflag, &s.t.Lflag} {
		*v = binary.LittleEndian.Uint32(b[4*i:])
	}
	s.t.Line = b[16]
	copy(s.t.Cc[:], b[17:])
	return s, true
}

// control runs use with f's descriptor, without making it blocking as Fd does.
func control(f *os.File, use func(fd int) error) error {
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	cerr := raw.Control(func(fd uintptr) { err = use(int(fd)) })
	if cerr != nil {
		return cerr
	}
	return err
}
