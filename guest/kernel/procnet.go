package kernel

// ProcNet are the files of /proc/net: name and what makes the content. The
// sockets brick sets it; without that brick there is no such directory.
var ProcNet func() map[string]func() []byte
