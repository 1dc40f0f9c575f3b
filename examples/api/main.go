// Command api is an HTTP JSON API for notes. A note is a file in a directory; it
// is on disk before the client hears that it was stored.
//
//	POST   /notes      {"title": …, "text": …}   201, the note with its id
//	GET    /notes                                 200, all notes, oldest first
//	GET    /notes/{id}                            200 or 404
//	DELETE /notes/{id}                            204 or 404
//	GET    /healthz                               200
package main

import (
	"context"
	"flag"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"
)

func main() {
	log.SetFlags(0)
	listen := flag.String("listen", ":8080", "`address` to serve on")
	data := flag.String("data", "notes", "`directory` of the notes, made if need be")
	flag.Parse()
	if err := serve(*listen, *data); err != nil {
		log.Fatal("api: ", err)
	}
}

// serve answers requests until SIGTERM or SIGINT, then finishes those under way.
func serve(listen, data string) error {
	store, err := OpenStore(data)
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()

	l, err := net.Listen("tcp", listen)
	if err != nil {
		return err
	}
	srv := &http.Server{Handler: Handler(store), ReadHeaderTimeout: 10 * time.Second}
	failed := make(chan error, 1)
	go func() { failed <- srv.Serve(l) }()
	log.Printf("serving notes of %s on http://%s", data, l.Addr())

	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	stop() // a second signal ends the program at once
	log.Print("stopping")
	bounded, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := srv.Shutdown(bounded); err != nil {
		return err
	}
	log.Print("stopped")
	return nil
}
