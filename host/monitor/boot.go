package monitor

import (
	"crypto/rand"
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"noyau.dev/abi"
)

var lastID atomic.Uint64

// boot collects the boot block.
type boot struct {
	head    abi.BootHeader
	records []byte
}

func newBoot(c *Config) *boot {
	b := &boot{head: abi.BootHeader{
		Magic: abi.Magic, Version: abi.Version, Memory: c.Memory,
		ID: lastID.Add(1), PID: 1, UID: c.UID, GID: c.GID,
		TickUS: uint32(c.Tick / time.Microsecond),
	}}
	rand.Read(b.head.Seed[:])
	for _, f := range []struct {
		set bool
		bit uint32
	}{
		{c.Trace, abi.BootTrace},
		{c.Terminal.In != nil, abi.BootTTY0},
		{c.Terminal.Out != nil, abi.BootTTY1},
		{c.Terminal.Err != nil, abi.BootTTY2},
		{c.netOut(), abi.BootNetOut},
		{c.Forks > 1, abi.BootFork},
		{c.hasFamily(), abi.BootFamily},
		{c.hasFamily() || len(c.Channels) > 0, abi.BootNames},
		{c.warm, abi.BootWarm},
	} {
		if f.set {
			b.head.Flags |= f.bit
		}
	}
	b.add(abi.RecHostname, abi.AppendString(nil, c.Hostname))
	b.add(abi.RecDir, abi.AppendString(nil, c.Dir))
	if c.Terminal.Rows != 0 || c.Terminal.Cols != 0 {
		b.add(abi.RecWinsize, abi.Append16(abi.Append16(nil, c.Terminal.Rows), c.Terminal.Cols))
	}
	for _, l := range c.Limits {
		b.add(abi.RecLimit, abi.Append64(abi.Append64(abi.Append32(nil, l.Resource), l.Soft), l.Hard))
	}
	b.file("/etc/hostname", 0o644, []byte(c.Hostname+"\n"))
	b.file("/etc/hosts", 0o644, hosts(c.Hostname))
	if !c.Net.None {
		b.file("/etc/resolv.conf", 0o644, resolvConf())
	}
	b.images(c.Exec)
	for _, f := range c.Files {
		b.file(f.Path, f.Mode, f.Content)
	}
	return b
}

func (b *boot) add(kind uint16, content []byte) {
	b.records = abi.AppendRecord(b.records, kind, content)
}

func (b *boot) file(path string, mode uint32, content []byte) {
	b.add(abi.RecFile, append(abi.Append32(abi.AppendString(nil, path), mode), content...))
}

func (b *boot) hostFile(path string, mode uint32, handle int, size int64) {
	rec := abi.Append32(abi.Append32(abi.AppendString(nil, path), mode), uint32(handle))
	b.add(abi.RecHostFile, abi.Append64(rec, uint64(size)))
}

func (b *boot) volume(guest string, number int, readOnly bool) {
	flags := uint32(0)
	if readOnly {
		flags = abi.VolumeReadOnly
	}
	b.add(abi.RecVolume, abi.Append32(abi.Append32(abi.AppendString(nil, guest), uint32(number)), flags))
}

// seal returns the boot block as a file that nobody can change any more.
func (b *boot) seal() (*os.File, error) {
	block := make([]byte, abi.BootSize, abi.BootSize+len(b.records))
	b.head.Size = uint64(abi.BootSize + len(b.records))
	b.head.Put(block)
	block = append(block, b.records...)

	fd, err := unix.MemfdCreate("noyau-boot", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return nil, fmt.Errorf("boot block: %w", err)
	}
	f := os.NewFile(uintptr(fd), "noyau-boot")
	if _, err := f.Write(block); err != nil {
		f.Close()
		return nil, fmt.Errorf("boot block: %w", err)
	}
	const seals = unix.F_SEAL_SEAL | unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_WRITE
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, seals); err != nil {
		f.Close()
		return nil, fmt.Errorf("boot block: sealing: %w", err)
	}
	return f, nil
}

func hosts(hostname string) []byte {
	return fmt.Appendf(nil, "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n%s\t%s\n%s\t%s\n",
		abi.GuestIP4, hostname, abi.GuestIP6, hostname)
}

// resolvConf points to the name service; the search list is the host's, since
// the guest's resolver applies it before it asks.
func resolvConf() []byte {
	conf := "nameserver " + abi.DNSIP4 + "\n"
	host, err := os.ReadFile("/etc/resolv.conf")
	if err != nil || len(host) > 64<<10 {
		return []byte(conf)
	}
	for line := range strings.Lines(string(host)) {
		f := strings.Fields(line)
		if len(f) < 2 {
			continue
		}
		switch f[0] {
		case "search", "domain":
			conf += strings.Join(f, " ") + "\n"
		case "options":
			for _, o := range f[1:] {
				if strings.HasPrefix(o, "ndots:") {
					conf += "options " + o + "\n"
				}
			}
		}
	}
	return []byte(conf)
}

// certificates opens the host's bundle of CA certificates, nil if it has none.
func certificates() (*os.File, int64) {
	for _, path := range []string{
		"/etc/ssl/certs/ca-certificates.crt",                // Debian, Ubuntu, Arch, Gentoo
		"/etc/pki/tls/certs/ca-bundle.crt",                  // Fedora, RHEL
		"/etc/ssl/ca-bundle.pem",                            // openSUSE
		"/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem", // CentOS, RHEL
		"/etc/ssl/cert.pem",                                 // Alpine
	} {
		f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
		if err != nil {
			continue
		}
		if st, err := f.Stat(); err == nil && st.Mode().IsRegular() && st.Size() > 0 {
			return f, st.Size()
		}
		f.Close()
	}
	return nil, 0
}

const certPath = "/etc/ssl/certs/ca-certificates.crt"
