package main

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"noyau.dev/examples/internal/try"
)

func TestMain(m *testing.M) { try.Main(m) }

func get(url string) (string, error) {
	c := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	r, err := c.Get(url)
	if err != nil {
		return "", err
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	return string(b), err
}

// TestWorkers: the count is one for all, whoever answers.
func TestWorkers(t *testing.T) {
	p := try.Start(t, try.Options{Listen: "-listen", Run: []string{"--isolation", "process"}})
	url := "http://" + p.Addr + "/"
	p.Until(t, func() error { _, err := get(url); return err })
	seen := map[string]bool{}
	last := ""
	for range 50 {
		s, err := get(url)
		if err != nil {
			t.Fatal(err)
		}
		who, count, ok := strings.Cut(s, ", answer ")
		if !ok || count == last {
			t.Fatalf("answer %q after %q", s, last)
		}
		seen[who], last = true, count
	}
	if last != "51\n" {
		t.Errorf("the last answer is number %q, want 51", last)
	}
	t.Log("answers of", seen)
}
