package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"syscall"
	"unsafe"

	"noyau.dev/test/internal/cases"
)

// files has files of a volume open in many ways, and answers what it sees of them.
func files([]string) {
	read := must(os.Open("/data/read"))
	must(io.ReadFull(read, make([]byte, 4)))
	write := must(os.OpenFile("/data/write", os.O_RDWR|os.O_CREATE, 0o644))
	must(write.WriteString("first,"))
	log := must(os.OpenFile("/data/log", os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o644))
	must(log.WriteString("begin\n"))
	dir := must(os.Open("/data/dir"))
	must(dir.Readdirnames(1))
	mem := must(os.Create("/tmp/inside"))
	must(mem.WriteString("in memory"))

	// Half of the map lies behind the file's end.
	const mapped = 64 << 10
	p, _, e := syscall.Syscall6(syscall.SYS_MMAP, 0, mapped, syscall.PROT_READ, syscall.MAP_SHARED, write.Fd(), 0)
	if e != 0 {
		cases.Die("mmap:", e)
	}
	page := unsafe.Slice((*byte)(*(*unsafe.Pointer)(unsafe.Pointer(&p))), mapped)
	lock := must(os.OpenFile("/data/lock", os.O_RDWR|os.O_CREATE, 0o644))
	if len(os.Args) > 2 {
		if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
			cases.Die(err)
		}
		if err := syscall.FcntlFlock(lock.Fd(), syscall.F_SETLK, &syscall.Flock_t{Type: syscall.F_WRLCK, Start: 100, Len: 50}); err != nil {
			cases.Die(err)
		}
	}
	http.HandleFunc("/read", func(w http.ResponseWriter, _ *http.Request) {
		var b [4]byte
		n, err := read.Read(b[:])
		fmt.Fprintf(w, "%s %v", b[:n], err)
	})
	http.HandleFunc("/write", func(w http.ResponseWriter, r *http.Request) {
		_, err := fmt.Fprint(write, r.URL.RawQuery, ",")
		_, lerr := fmt.Fprintln(log, r.URL.RawQuery)
		fmt.Fprint(w, err, lerr)
	})
	http.HandleFunc("/grow", func(w http.ResponseWriter, r *http.Request) {
		_, err := write.WriteAt([]byte("far"), 8192)
		fmt.Fprint(w, err, string(page[8192:8195]))
	})
	http.HandleFunc("/map", func(w http.ResponseWriter, _ *http.Request) {
		s, _, _ := strings.Cut(string(page[:100]), "\x00")
		fmt.Fprint(w, s)
	})
	http.HandleFunc("/dir", func(w http.ResponseWriter, _ *http.Request) {
		list, err := dir.Readdirnames(-1)
		_, serr := dir.Stat()
		fmt.Fprint(w, len(list), err, serr)
	})
	http.HandleFunc("/mem", func(w http.ResponseWriter, _ *http.Request) {
		b := make([]byte, 100)
		n, _ := mem.ReadAt(b, 0)
		fmt.Fprintf(w, "%s", b[:n])
	})
	http.HandleFunc("/open", func(w http.ResponseWriter, _ *http.Request) {
		// New handles have names of their own.
		for i := range 50 {
			f, err := os.Create(fmt.Sprintf("/data/new%d", i))
			if err != nil {
				fmt.Fprint(w, err)
				return
			}
			defer f.Close()
		}
		_, err := read.Stat()
		fmt.Fprint(w, err)
	})
	http.HandleFunc("/close", func(w http.ResponseWriter, _ *http.Request) {
		for _, f := range []*os.File{read, write, log, dir, lock} {
			fmt.Fprint(w, f.Close())
		}
	})
	l := must(net.Listen("tcp", ":80"))
	fmt.Println("serving")
	cases.Die(http.Serve(l, nil))
}

// udp answers datagrams with how many it has had.
func udp([]string) {
	c := must(net.ListenPacket("udp", ":53"))
	other := must(net.ListenPacket("udp", ":54")) // not published
	fmt.Println("serving")
	go func() {
		b := make([]byte, 100)
		_, _, err := other.ReadFrom(b)
		cases.Die("the other:", err)
	}()
	b := make([]byte, 100)
	for i := 1; ; i++ {
		n, from, err := c.ReadFrom(b)
		if err != nil {
			cases.Die(err)
		}
		if _, err := c.WriteTo(fmt.Appendf(nil, "%d %s", i, b[:n]), from); err != nil {
			cases.Die(err)
		}
	}
}
