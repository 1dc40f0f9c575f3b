package kernel

// ProcNet are the files of /proc/net: name and what makes the content. The
// sockets brick fills it in its init; without that brick there is no such
// directory.
var ProcNet map[string]func() []byte
