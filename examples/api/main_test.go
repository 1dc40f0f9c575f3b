package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"

	"noyau.dev/examples/internal/try"
)

func TestMain(m *testing.M) { try.Main(m) }

func start(t *testing.T, dir string) *try.Program {
	t.Helper()
	p := try.Start(t, try.Options{Listen: "-listen", Data: "-data", Dir: dir})
	p.Until(t, func() error {
		_, _, err := call("GET", p, "/healthz", "")
		return err
	})
	return p
}

func call(method string, p *try.Program, path, body string) (int, []byte, error) {
	req, err := http.NewRequest(method, "http://"+p.Addr+path, strings.NewReader(body))
	if err != nil {
		return 0, nil, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return resp.StatusCode, b, err
}

func TestAnswers(t *testing.T) {
	p := start(t, t.TempDir())
	for _, c := range []struct {
		method, path, body string
		code               int
		has                string
	}{
		{"GET", "/notes", "", 200, "[]"},
		{"POST", "/notes", "", 400, "want a note as JSON"},
		{"POST", "/notes", `{"text":"x"}`, 400, "needs a title"},
		{"POST", "/notes", `{"title":"x","colour":"red"}`, 400, "colour"},
		{"POST", "/notes", `{"title":"` + strings.Repeat("x", maxNote) + `"}`, 400, "too large"},
		{"GET", "/notes/none", "", 404, "no such note"},
		{"GET", "/notes/..%2f..%2fetc%2fpasswd", "", 404, "no such note"},
		{"DELETE", "/notes/none", "", 404, "no such note"},
		{"PUT", "/notes", "{}", 405, ""},
		{"GET", "/elsewhere", "", 404, ""},
	} {
		code, body, err := call(c.method, p, c.path, c.body)
		if err != nil || code != c.code || !strings.Contains(string(body), c.has) {
			t.Errorf("%s %s: %d %.200s, %v; want %d and %q", c.method, c.path, code, body, err, c.code, c.has)
		}
	}
}

// TestNotesSurvive adds notes from many clients, stops the program with SIGTERM,
// starts it anew and expects exactly those notes.
func TestNotesSurvive(t *testing.T) {
	dir := t.TempDir()
	p := start(t, dir)
	const clients, each = 8, 5
	want := make(map[string]Note)
	var mu sync.Mutex
	var wg sync.WaitGroup
	for c := range clients {
		wg.Go(func() {
			for i := range each {
				in, _ := json.Marshal(Note{Title: fmt.Sprint("note ", c, ".", i), Text: strings.Repeat("é", 1000)})
				code, b, err := call("POST", p, "/notes", string(bytes.Replace(in, []byte(`"id":"",`), nil, 1)))
				var n Note
				if err == nil {
					err = json.Unmarshal(b, &n)
				}
				if err != nil || code != 201 || n.ID == "" {
					t.Errorf("POST: %d %s, %v", code, b, err)
					return
				}
				mu.Lock()
				want[n.ID] = n
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	for id := range want {
		if code, b, err := call("DELETE", p, "/notes/"+id, ""); code != 204 || err != nil {
			t.Errorf("DELETE: %d %s, %v", code, b, err)
		}
		delete(want, id)
		break
	}
	if err := p.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if code := p.Wait(t); code != 0 {
		t.Fatalf("after SIGTERM the exit code is %d, want 0", code)
	}

	p = start(t, dir)
	_, b, err := call("GET", p, "/notes", "")
	var got []Note
	if err == nil {
		err = json.Unmarshal(b, &got)
	}
	if err != nil || len(got) != len(want) {
		t.Fatalf("after a restart there are %d notes (%v), want %d", len(got), err, len(want))
	}
	for _, n := range got {
		if n != want[n.ID] {
			t.Errorf("note %q is %+v, want %+v", n.ID, n, want[n.ID])
		}
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != len(want) {
		t.Errorf("the directory has %d files (%v), want %d: nothing half written may stay", len(entries), err, len(want))
	}
}
