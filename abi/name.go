package abi

// Unix sockets by name between members of a family, and channels between families. A name
// is as in struct sockaddr_un: an absolute path, or NUL and more bytes.
const (
	OpNameListen = 86 // payload string; A=SOCK_STREAM, SOCK_SEQPACKET or SOCK_DGRAM, B=backlog, C=1: in a restored pVM, which had it. Reply: Handle, a listener, or where datagrams arrive. EADDRINUSE; EACCES: a channel that is not granted; EPROTOTYPE: datagrams of a channel
	OpNameDial   = 87 // payload string; A=type. Reply: a descriptor, a connection or a connected datagram socket. ECONNREFUSED, EPROTOTYPE, EAGAIN: the queue is full; EACCES
)

// Datagrams between members begin with the name of their sender: a byte with its length, 0 if it
// has none, and the name.

// NameMax is the most bytes of a name.
const NameMax = MaxPath

// ChannelPrefix begins the names of channels between families, which the configuration of
// both grants: net.Dial("unix", "@noyau/NAME").
const ChannelPrefix = "\x00noyau/"
