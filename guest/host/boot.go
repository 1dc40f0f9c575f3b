// Package host is the pVM's side of the host ABI: host calls, the client of
// the control channel, and the boot block. It knows nothing of system calls.
package host

import "noyau.dev/abi"

// Boot is what the monitor told about this pVM at start.
type Boot struct {
	Header    *abi.BootHeader
	Hostname  string
	Dir       string // working directory
	Files     []File
	Volumes   []Volume
	Limits    []Limit
	Execs     []Exec
	Opened    []Opened
	Listeners []Listener
	Path      string // of the executable; "": not known
	Rows      uint16 // of the terminal; 0 if unknown
	Cols      uint16
	TraceTo   int32 // handle for the trace
}

// A File is a file of the in-memory root: its content, or a read-only handle
// and a size.
type File struct {
	Path    string
	Mode    uint32
	Content []byte // aliases the boot block: do not change
	Handle  int32  // -1: Content has it
	Size    int64
}

// A Volume is a directory of the host, to be asked for by number.
type Volume struct {
	Path     string // where in the pVM
	Number   uint32
	ReadOnly bool
}

// An Exec is a file that stands for an image that this pVM may start. Without a path it
// is the program itself.
type Exec struct{ Path, Name string }

// An Opened is a descriptor that is open from the start, a stream socket.
type Opened struct {
	FD     uint32
	Handle int32
}

// A Listener is a listening socket that is open from the start.
type Listener struct {
	FD     uint32
	Handle int32
	Name   uint32 // the monitor's
	About  []byte // what the parent said of it
}

// A Limit is what getrlimit answers.
type Limit struct {
	Resource   uint32
	Soft, Hard uint64
}

// ParseBoot reads a boot block's records, the part after the header. Unknown
// kinds are skipped; a malformed record ends the list and makes ok false.
func ParseBoot(h *abi.BootHeader, payload []byte) (b *Boot, ok bool) {
	b = &Boot{Header: h, Hostname: "noyau", Dir: "/", TraceTo: abi.HandleStderr}
	for len(payload) > 0 {
		kind, content, rest, ok := abi.TakeRecord(payload)
		if !ok || !b.record(kind, content) {
			return b, false
		}
		payload = rest
	}
	return b, true
}

func (b *Boot) record(kind uint16, c []byte) bool {
	var ok bool
	var u1, u2 uint32
	switch kind {
	case abi.RecHostname:
		b.Hostname, _, ok = abi.TakeString(c)
	case abi.RecDir:
		b.Dir, _, ok = abi.TakeString(c)
	case abi.RecFile, abi.RecHostFile:
		f := File{Handle: -1}
		if f.Path, c, ok = abi.TakeString(c); !ok {
			return false
		}
		if f.Mode, c, ok = abi.Take32(c); !ok {
			return false
		}
		f.Content, f.Size = c, int64(len(c))
		if kind == abi.RecHostFile {
			f.Content = nil
			if u1, c, ok = abi.Take32(c); !ok {
				return false
			}
			var size uint64
			size, _, ok = abi.Take64(c)
			f.Handle, f.Size = int32(u1), int64(size)
			ok = ok && f.Handle >= 0 && f.Size >= 0
		}
		b.Files = append(b.Files, f)
	case abi.RecVolume:
		v := Volume{}
		if v.Path, c, ok = abi.TakeString(c); !ok {
			return false
		}
		if v.Number, c, ok = abi.Take32(c); !ok {
			return false
		}
		u2, _, ok = abi.Take32(c)
		v.ReadOnly = u2&abi.VolumeReadOnly != 0
		b.Volumes = append(b.Volumes, v)
	case abi.RecWinsize:
		if b.Rows, c, ok = abi.Take16(c); ok {
			b.Cols, _, ok = abi.Take16(c)
		}
	case abi.RecLimit:
		l := Limit{}
		if l.Resource, c, ok = abi.Take32(c); !ok {
			return false
		}
		if l.Soft, c, ok = abi.Take64(c); ok {
			l.Hard, _, ok = abi.Take64(c)
		}
		b.Limits = append(b.Limits, l)
	case abi.RecExec:
		x := Exec{}
		if x.Path, c, ok = abi.TakeString(c); ok {
			x.Name, _, ok = abi.TakeString(c)
		}
		b.Execs = append(b.Execs, x)
	case abi.RecExecPath:
		b.Path, _, ok = abi.TakeString(c)
	case abi.RecExecFile:
		if u1, c, ok = abi.Take32(c); !ok {
			return false
		}
		u2, _, ok = abi.Take32(c)
		b.Opened = append(b.Opened, Opened{u1, int32(u2)})
		ok = ok && int32(u2) >= 0
	case abi.RecExecListener:
		l := Listener{}
		if l.FD, c, ok = abi.Take32(c); !ok {
			return false
		}
		if u1, c, ok = abi.Take32(c); !ok || int32(u1) < 0 {
			return false
		}
		l.Handle = int32(u1)
		if l.Name, c, ok = abi.Take32(c); ok {
			l.About = append([]byte(nil), c...)
		}
		b.Listeners = append(b.Listeners, l)
	case abi.RecTraceTo:
		u1, _, ok = abi.Take32(c)
		b.TraceTo = int32(u1)
	default:
		ok = true
	}
	return ok
}
