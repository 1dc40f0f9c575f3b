package abi

// Unix sockets by name between members of a family, and channels between families. A name
// is as in struct sockaddr_un: an absolute path, or NUL and more bytes.
const (
	OpNameListen = 86 // payload string; A=SOCK_STREAM or SOCK_SEQPACKET, B=backlog. Reply: Handle, a listener. EADDRINUSE; EACCES: a channel that is not granted
	OpNameDial   = 87 // payload string; A=type. Reply: Handle, a connection. ECONNREFUSED, EPROTOTYPE, EACCES
	OpNameRemove = 88 // payload string: nobody can dial it any more, if it is of this pVM. No reply

	OpLast = OpNameRemove
)

// ChannelPrefix begins the names of channels between families, which the configuration of
// both grants: net.Dial("unix", "@noyau/NAME").
const ChannelPrefix = "\x00noyau/"
