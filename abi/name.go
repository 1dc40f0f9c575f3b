package abi

// Unix sockets by name between members of a family, and channels between families. A name
// is as in struct sockaddr_un: an absolute path, or NUL and more bytes.
const (
	OpNameListen = 86 // payload string; A=SOCK_STREAM or SOCK_SEQPACKET, B=backlog, C=1: in a restored pVM, which had it. Reply: Handle, a listener. EADDRINUSE; EACCES: a channel that is not granted
	OpNameDial   = 87 // payload string; A=type. Reply: a descriptor, a connection. ECONNREFUSED, EPROTOTYPE, EAGAIN: the queue is full; EACCES
)

// NameMax is the most bytes of a name.
const NameMax = MaxPath

// ChannelPrefix begins the names of channels between families, which the configuration of
// both grants: net.Dial("unix", "@noyau/NAME").
const ChannelPrefix = "\x00noyau/"
