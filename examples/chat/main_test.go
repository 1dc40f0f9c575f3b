package main

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/websocket"

	"noyau.dev/examples/internal/try"
)

func TestMain(m *testing.M) { try.Main(m) }

func start(t *testing.T) *try.Program {
	t.Helper()
	p := try.Start(t, try.Options{Listen: "-listen"})
	p.Until(t, func() error {
		resp, err := http.Get("http://" + p.Addr + "/")
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if b, err := io.ReadAll(resp.Body); err != nil || !strings.Contains(string(b), "new WebSocket") {
			t.Fatalf("the page is %.100q (%v)", b, err)
		}
		return nil
	})
	return p
}

func enter(t *testing.T, p *try.Program) *websocket.Conn {
	t.Helper()
	ws, err := websocket.Dial("ws://"+p.Addr+"/room", "", "http://"+p.Addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ws.Close() })
	ws.SetDeadline(time.Now().Add(try.Patience))
	return ws
}

// TestEverybodyHears lets guests talk at once; each must hear everything that
// was said, from each speaker in order.
func TestEverybodyHears(t *testing.T) {
	p := start(t)
	const guests, each = 10, 5 // together less than a guest's backlog
	var entered, wg sync.WaitGroup
	entered.Add(guests)
	for g := range guests {
		ws := enter(t, p)
		wg.Go(func() {
			// A guest has entered when it hears itself.
			me := fmt.Sprint("guest", g)
			say := func(text string) {
				if err := websocket.JSON.Send(ws, Message{me, text}); err != nil {
					t.Error(err)
				}
			}
			hear := func() (m Message) {
				if err := websocket.JSON.Receive(ws, &m); err != nil {
					t.Errorf("%s: %v", me, err)
				}
				return m
			}
			say("hello")
			for m := hear(); m.From != me && !t.Failed(); m = hear() {
			}
			entered.Done()
			entered.Wait()
			for i := range each {
				say(fmt.Sprint(i))
			}
			next := make(map[string]int)
			for heard := 0; heard < guests*each && !t.Failed(); {
				m := hear()
				if m.Text == "hello" {
					continue
				}
				if want := fmt.Sprint(next[m.From]); m.Text != want {
					t.Errorf("%s heard %q from %s, want %q", me, m.Text, m.From, want)
				}
				next[m.From]++
				heard++
			}
		})
	}
	wg.Wait()
}

func TestOtherSitesStayOut(t *testing.T) {
	p := start(t)
	if ws, err := websocket.Dial("ws://"+p.Addr+"/room", "", "http://elsewhere.example"); err == nil {
		ws.Close()
		t.Error("a page of another site could enter")
	}
}

func TestStopSendsEverybodyHome(t *testing.T) {
	p := start(t)
	ws := enter(t, p)
	if err := websocket.JSON.Send(ws, Message{"a", "b"}); err != nil {
		t.Fatal(err)
	}
	var m Message
	if err := websocket.JSON.Receive(ws, &m); err != nil || m != (Message{"a", "b"}) {
		t.Fatalf("heard %v, %v", m, err)
	}
	if err := p.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := websocket.JSON.Receive(ws, &m); err == nil {
		t.Errorf("heard %v after the stop, want the end of the connection", m)
	}
	if code := p.Wait(t); code != 0 {
		t.Errorf("exit code %d, want 0", code)
	}
}
