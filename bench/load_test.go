package main

import (
	"bufio"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

func TestResponse(t *testing.T) {
	for _, c := range []struct {
		in, err string
	}{
		{"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", ""},
		{"HTTP/1.1 200 OK\r\ncontent-length:2\r\nX: y\r\n\r\nok", ""},
		{"HTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\n", "the answer is"},
		{"HTTP/1.1 200 OK\r\n\r\n", "no length"},
		{"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok", "EOF"},
		{"", "EOF"},
	} {
		err := response(bufio.NewReader(strings.NewReader(c.in)))
		if c.err == "" && err != nil || c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err)) {
			t.Errorf("%q: %v, want %q", c.in, err, c.err)
		}
	}
}

// The load generator counts what the server answered.
func TestConverse(t *testing.T) {
	var served atomic.Int64
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		served.Add(1)
		fmt.Fprint(w, "hello")
	}))
	defer srv.Close()
	addr := strings.TrimPrefix(srv.URL, "http://")
	var done atomic.Int64
	err := converse(addr, []byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n"), time.Now().Add(100*time.Millisecond), &done)
	if err != nil || done.Load() == 0 || done.Load() != served.Load() {
		t.Errorf("%d requests counted, %d served, %v", done.Load(), served.Load(), err)
	}
}
