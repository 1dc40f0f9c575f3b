// Command probe does one small thing per run, for the tests of the command line.
package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

func main() {
	if len(os.Args) < 2 {
		fmt.Println("probe")
		return
	}
	args := os.Args[2:]
	switch os.Args[1] {
	case "args":
		for _, a := range os.Args {
			fmt.Printf("%q\n", a)
		}
	case "env":
		env := os.Environ()
		slices.Sort(env)
		for _, e := range env {
			fmt.Println(e)
		}
	case "pwd":
		dir, err := os.Getwd()
		check(err)
		fmt.Println(dir)
	case "hostname":
		h, err := os.Hostname()
		check(err)
		fmt.Println(h)
	case "cat":
		_, err := io.Copy(os.Stdout, os.Stdin)
		check(err)
	case "both":
		fmt.Println("to stdout")
		fmt.Fprintln(os.Stderr, "to stderr")
	case "exit":
		n, _ := strconv.Atoi(args[0])
		os.Exit(n)
	case "panic":
		panic("on purpose")
	case "killself":
		n, _ := strconv.Atoi(args[0])
		check(syscall.Kill(syscall.Getpid(), syscall.Signal(n)))
		time.Sleep(time.Minute)
	case "write":
		check(os.WriteFile(args[0], []byte(args[1]), 0o644))
	case "read":
		b, err := os.ReadFile(args[0])
		check(err)
		os.Stdout.Write(b)
	case "lines":
		n, _ := strconv.Atoi(args[0])
		w := bufio.NewWriter(os.Stdout)
		for i := range n {
			fmt.Fprintf(w, "line %d\n", i)
		}
		check(w.Flush())
	case "sleep":
		fmt.Println("ready")
		time.Sleep(time.Hour)
	case "stubborn": // takes every signal and goes on
		c := make(chan os.Signal, 16)
		signal.Notify(c, os.Interrupt, syscall.SIGTERM)
		fmt.Println("ready")
		for s := range c {
			fmt.Println("got", s)
		}
	case "polite": // ends at the first signal, with a code that tells which
		c := make(chan os.Signal, 16)
		signal.Notify(c, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGUSR1)
		fmt.Println("ready")
		s := <-c
		fmt.Println("got", s)
		os.Exit(40 + int(s.(syscall.Signal)))
	case "tty":
		tty(args)
	case "lines-of": // a server that answers with the next line of an open file
		f, err := os.Open(args[0])
		check(err)
		http.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
			var line []byte
			for {
				var b [1]byte
				if _, err := f.Read(b[:]); err != nil {
					fmt.Fprint(w, err)
					return
				}
				if b[0] == '\n' {
					break
				}
				line = append(line, b[0])
			}
			w.Write(line)
		})
		check(http.ListenAndServe(":8080", nil))
	case "http":
		serve()
	default:
		fmt.Fprintln(os.Stderr, "probe: unknown command", os.Args[1])
		os.Exit(64)
	}
}

// tty looks at the terminal, makes it raw, reads a byte and ends in the way
// that it is told, without undoing anything.
func tty(args []string) {
	ws, err := unix.IoctlGetWinsize(0, unix.TIOCGWINSZ)
	check(err)
	fmt.Printf("size %dx%d\n", ws.Col, ws.Row)
	t, err := unix.IoctlGetTermios(0, unix.TCGETS)
	check(err)
	t.Lflag &^= unix.ICANON | unix.ECHO | unix.ISIG
	t.Cc[unix.VMIN], t.Cc[unix.VTIME] = 1, 0
	check(unix.IoctlSetTermios(0, unix.TCSETS, t))
	winch := make(chan os.Signal, 1)
	signal.Notify(winch, unix.SIGWINCH)
	fmt.Println("raw")
	b := make([]byte, 1)
	_, err = os.Stdin.Read(b)
	check(err)
	fmt.Printf("read %d\n", b[0])
	<-winch
	ws, err = unix.IoctlGetWinsize(0, unix.TIOCGWINSZ)
	check(err)
	fmt.Printf("size %dx%d\n", ws.Col, ws.Row)
	if args[0] == "panic" {
		panic("in raw mode")
	}
}

func serve() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		fmt.Println("request", r.URL.Path)
		fmt.Fprintf(w, "hello %s", r.URL.Path)
	})
	s := &http.Server{Addr: ":8080", Handler: mux}
	go func() {
		<-ctx.Done()
		s.Shutdown(context.Background())
	}()
	if err := s.ListenAndServe(); err != http.ErrServerClosed {
		check(err)
	}
	fmt.Println("closed")
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "probe:", err)
		os.Exit(1)
	}
}
