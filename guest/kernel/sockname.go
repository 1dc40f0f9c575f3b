package kernel

import "noyau.dev/guest/linux"

// SocketNames is how the sockets brick gives unix sockets a name in the file
// system. The files brick sets it; while it is nil such names are in a table of
// the sockets brick alone, by cleaned path.
var SocketNames interface {
	// BindSocket makes a socket inode at path (relative to the working
	// directory, mode 0777 less the umask) that stands for sock. EADDRINUSE if
	// the name exists, else the errors of mknod.
	BindSocket(path string, sock any) linux.Errno
	// UnbindSocket removes the inode that BindSocket has made, if it is there.
	UnbindSocket(path string, sock any)
	// FindSocket returns what BindSocket was given, following symbolic links;
	// ECONNREFUSED if the file is no socket, else the errors of open.
	FindSocket(path string) (sock any, e linux.Errno)
}

// AbsPath makes one name of the paths of a file: absolute, without links before the last
// component. The files brick sets it.
var AbsPath func(path string) (string, linux.Errno)

// A HostStream is a file behind which there is a stream socket of the host's and nothing
// else: another pVM may have it as it is.
type HostStream interface {
	// HostStream returns the handle, and which standard stream of this pVM it is, -1 if none.
	HostStream() (handle int32, std int)
}

// A HostListener is a file that may be a listening socket of the host's, of which the
// monitor has a name: 0 if it is not. about is what a program that is given it must know.
type HostListener interface {
	HostListener() (handle int32, name uint32, about []byte)
}
