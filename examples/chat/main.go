// Command chat is a chat room in a web page, over WebSockets.
package main

import (
	"context"
	_ "embed"
	"flag"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"golang.org/x/net/websocket"
)

//go:embed page.html
var page []byte

func main() {
	log.SetFlags(0)
	listen := flag.String("listen", ":8080", "`address` to serve on")
	flag.Parse()
	if err := serve(*listen); err != nil {
		log.Fatal("chat: ", err)
	}
}

func serve(listen string) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	l, err := net.Listen("tcp", listen)
	if err != nil {
		return err
	}
	room := NewRoom()
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		w.Write(page)
	})
	mux.Handle("GET /room", websocket.Server{Handshake: sameOrigin, Handler: func(ws *websocket.Conn) {
		ws.MaxPayloadBytes = maxMessage
		room.Serve(ws)
	}})
	srv := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	failed := make(chan error, 1)
	go func() { failed <- srv.Serve(l) }()
	log.Printf("the room is at http://%s", l.Addr())
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	room.Close() // Shutdown does not know of connections that were taken over
	bounded, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	return srv.Shutdown(bounded)
}

// sameOrigin keeps pages of other sites from chatting in the user's name.
// Programs send no origin.
func sameOrigin(c *websocket.Config, r *http.Request) error {
	origin, err := websocket.Origin(c, r)
	if err == nil && origin != nil && origin.Host != r.Host {
		return websocket.ErrBadWebSocketOrigin
	}
	c.Origin = origin
	return err
}
