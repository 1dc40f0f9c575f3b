package main

import (
	"log"
	"sync"

	"golang.org/x/net/websocket"
)

const (
	maxMessage = 4 << 10 // bytes of one message
	backlog    = 64      // messages that may wait for a slow guest
)

// A Message is what goes over the wire, both ways, as JSON.
type Message struct {
	From string `json:"from"`
	Text string `json:"text"`
}

// A Room hands what one guest says to all of them.
type Room struct {
	mu     sync.Mutex
	guests map[*guest]bool
	closed bool
}

// guest is one connection. Whoever takes it out of the room closes out.
type guest struct {
	ws  *websocket.Conn
	out chan Message
}

// NewRoom returns an empty room.
func NewRoom() *Room { return &Room{guests: make(map[*guest]bool)} }

// Serve lets the guest behind ws chat until it leaves or the room closes.
func (r *Room) Serve(ws *websocket.Conn) {
	g := &guest{ws, make(chan Message, backlog)}
	if !r.enter(g) {
		return
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for m := range g.out {
			if websocket.JSON.Send(ws, m) != nil {
				break
			}
		}
		ws.Close() // ends the Receive below
	}()
	for {
		var m Message
		if websocket.JSON.Receive(ws, &m) != nil {
			break
		}
		if m.Text != "" && m.From != "" {
			r.Say(m)
		}
	}
	r.leave(g)
	<-done
}

func (r *Room) enter(g *guest) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return false
	}
	r.guests[g] = true
	return true
}

func (r *Room) leave(g *guest) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.remove(g)
}

func (r *Room) remove(g *guest) {
	if r.guests[g] {
		delete(r.guests, g)
		close(g.out)
	}
}

// Say hands m to all guests. One that is too slow to keep up is shown the door:
// nobody waits for it.
func (r *Room) Say(m Message) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for g := range r.guests {
		select {
		case g.out <- m:
		default:
			log.Printf("%s is too slow", g.ws.Request().RemoteAddr)
			r.remove(g)
			g.ws.Close()
		}
	}
}

// Close sends everybody home.
func (r *Room) Close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed = true
	for g := range r.guests {
		r.remove(g)
	}
}
