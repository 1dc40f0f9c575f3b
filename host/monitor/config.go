// Package monitor is the host side of pVMs, whatever their isolation: it
// prepares what an image starts with (handles, boot block), starts it by a
// back-end, answers its control messages through package broker, pumps its
// standard streams and says how it ended.
//
//	inst, err := monitor.Start(ctx, monitor.Config{Image: "app.img", Stdout: os.Stdout, Stderr: os.Stderr})
//	exit := inst.Wait()
//
// Many pVMs may run in one monitor process. Each costs a few parked goroutines
// and no thread.
package monitor

import (
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"noyau.dev/host/broker"
	"noyau.dev/host/policy"
	"noyau.dev/host/snapshot"
	"noyau.dev/host/volume"
)

// Publish, Ports and Volume are re-exported so that most callers need this package only.
type (
	Publish = policy.Publish
	Ports   = broker.Ports
	Volume  = volume.Spec
)

// Config says how to run one pVM. Only an image is required.
type Config struct {
	// Image is the path of the image file. ImageFile, if not nil, is the image
	// itself, open for reading; the caller keeps it and may close it after
	// Start. It saves work when one image is started many times.
	Image     string
	ImageFile *os.File

	Name     string   // for messages and host-side names; default: the image's base name
	Args     []string // argv without argv[0]
	Arg0     string   // argv[0]; default: Name
	Env      []string // "KEY=value"; nothing is inherited
	Dir      string   // working directory inside; default "/"
	Hostname string   // default: Name cut to a valid host name
	UID, GID uint32   // what the app sees; no relation to the host's

	Memory uint64  // bytes of memory the pVM may use; 0: no limit
	CPU    float64 // processors it may keep busy, 0.5 = half of one; 0: no limit
	Pids   int     // processes a family may have; 0: the back-end's default

	// Forks is how many pVMs the family may have that begins with this one, itself
	// included; up to 1: it may not fork.
	Forks int

	// Exec are images that the family may start. The family is bounded by Forks then too;
	// up to 1 means DefaultForks members, none of which may fork.
	Exec []Exec

	// Channels are what connects the family with others: see Channel. ChannelDir is where
	// monitors of this user meet.
	Channels   []Channel
	ChannelDir string

	// Restore is the path of a snapshot that the pVM goes on from; see
	// Instance.Snapshot. Memory and Forks are then those of the snapshot.
	Restore string
	// Template, if not nil, has pVMs of a snapshot on standby; see NewTemplate. Image,
	// Restore, Snapshot and Isolation are then those of the template. If none is on standby that
	// fits, a process is started as without.
	Template *Template `json:"-"`
	// Snapshot, if not nil, is that file, opened by the caller, who may close it after
	// Start. It saves work when many pVMs are made of one, and pages if it is compressed.
	Snapshot *snapshot.File `json:"-"`
	// Reopen says what becomes of files of volumes that were open when the snapshot was
	// made and are not as they were.
	Reopen Reopen

	Publish []Publish
	// Shared are published ports that several pVMs have: whoever accepts first has the
	// connection. The caller keeps it, and may close it after the last Start.
	Shared  *Ports `json:"-"`
	Volumes []Volume
	Net     policy.Net
	Files   []File  // further files of the in-memory root
	Limits  []Limit // what getrlimit answers inside

	// Stdin nil is an empty input. Stdout and Stderr nil are thrown away; if
	// they are the same (==) writer, what the app writes keeps its order.
	// Wait returns after all output was written.
	Stdin          io.Reader
	Stdout, Stderr io.Writer
	// Terminal tells which standard streams are terminals of the user's.
	Terminal Terminal

	Trace   bool      // print the app's system calls
	TraceTo io.Writer // where to; nil: to Stderr

	Isolation string // "auto" (also ""), "process", "vm"
	// Sandbox options of the back-end, by name, passed as they are.
	Options map[string]string
	Timing  *Timing // collects the stages of the start if set

	StopSignal  unix.Signal   // what Stop sends first; 0: SIGTERM
	Tick        time.Duration // preemption tick while busy; 0: 10 ms
	MaxHandles  int           // bound on handles of this pVM in the monitor; 0: 16,384
	NoZoneinfo  bool          // do not show the host's time zones at /usr/share/zoneinfo
	NoHostCerts bool          // do not show the host's CA certificates

	warm bool // it is a standby: who it will be is not known yet
}

// OpenPorts opens ports for Config.Shared.
func OpenPorts(list []Publish) (*Ports, error) { return broker.OpenPorts(list) }

// Reopen is what a restored pVM gets of files that it had open and that are not as they
// were: a directory, or a file of the same size and time of modification.
type Reopen string

// Values of Reopen.
const (
	ReopenSame  Reopen = ""      // nothing: Start fails and says which they are
	ReopenAny   Reopen = "any"   // what is there now
	ReopenClose Reopen = "close" // they are closed
)

// Limits of Config.Forks: what an image gets that may fork if nobody says more, and the
// most.
const (
	DefaultForks = 64
	MaxForks     = 4096
)

// File is a file of the pVM's in-memory root.
type File struct {
	Path    string // absolute, clean
	Mode    uint32 // permission bits
	Content []byte
}

// Limit is a resource limit as the app sees it (RLIMIT_*).
type Limit struct {
	Resource   uint32
	Soft, Hard uint64
}

// Terminal describes the user's terminal. A nil file means that the stream is
// not a terminal. Start saves the settings of the terminals and the end of the
// pVM restores them.
type Terminal struct {
	In, Out, Err *os.File
	Rows, Cols   uint16 // window size at start; see Instance.Resize
}

// Exit says how a pVM ended.
type Exit struct {
	// Code is the exit code as a shell shows it: the app's own, or 128+Signal.
	Code int
	// Signal is the signal that killed the pVM, 0 if it ended by itself.
	Signal unix.Signal
	OOM    bool // killed for want of memory
	// Reason is a sentence for people, empty when the app just exited.
	Reason string
}

// Stats are figures of a running pVM.
type Stats struct {
	CPU          time.Duration
	RSS          uint64 // resident memory, bytes
	PrivateDirty uint64 // memory that exists for this pVM alone, bytes
	Handles      int    // handles in the monitor's table
	Requests     uint64 // control messages answered so far
	Connections  uint64 // outgoing connections made so far
	Pending      int    // requests under way
}

// Info tells what is in force for a pVM.
type Info struct {
	Name      string
	Isolation string
	Pid       int       // host process
	Started   time.Time // wall clock
	Sandbox   []string  // "seccomp (16 calls)", "user namespace" …: what the back-end could put in place
	Missing   []string  // what it could not, each with its reason
	Ports     []Port
}

// Port is a published port with the host address that it really has.
type Port struct {
	Publish
	Host string // "ip:port"
}

// String is "host address->guest port/protocol", as docker shows ports.
func (p Port) String() string {
	return fmt.Sprintf("%s->%d/%s", p.Host, p.GuestPort, p.Proto())
}
