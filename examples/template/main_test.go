package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"noyau.dev/examples/internal/try"
)

func TestMain(m *testing.M) { try.Main(m) }

var client = http.Client{Transport: &http.Transport{DisableKeepAlives: true}}

func ask(addr, word string) (a reply, err error) {
	r, err := client.Get("http://" + addr + "/?word=" + word)
	if err != nil {
		return a, err
	}
	defer r.Body.Close()
	return a, json.NewDecoder(r.Body).Decode(&a)
}

// misspelled is a word of the vocabulary with a letter too few.
func misspelled() (word, right string) {
	right = vocabulary(100)[99]
	return right[:2] + right[3:], right
}

func TestCorrect(t *testing.T) {
	words := []string{"tree", "three", "there", "trees"}
	x := newIndex(words)
	for in, want := range map[string]string{
		"tree": "[tree three trees there]", "thre": "[tree three there]", "ter": "[]", "treees": "[trees]", "": "[]", "x": "[]",
	} {
		got := fmt.Sprint(x.correct(in))
		if in == "tree" {
			got = fmt.Sprint(x.correct(in)[:1])
			want = "[tree]"
		}
		if got != want {
			t.Errorf("%s: %s, want %s", in, got, want)
		}
	}
}

func TestServer(t *testing.T) {
	p := try.Start(t, try.Options{Listen: "-listen", Args: []string{"-words", "1000"}})
	word, right := misspelled()
	var a reply
	p.Until(t, func() (err error) { a, err = ask(p.Addr, word); return err })
	if len(a.Means) == 0 || !strings.Contains(fmt.Sprint(a.Means), right) {
		t.Errorf("%s means %v, not %s", word, a.Means, right)
	}
}

// TestTour is what README.md tells: one is loaded, and a hundred go on from there.
func TestTour(t *testing.T) {
	if try.Native() {
		t.Skip("a process has no snapshots: set NOYAU_RUN")
	}
	run := strings.Fields(os.Getenv("NOYAU_RUN")) // noyau run --isolation …
	dir := t.TempDir()
	os.Mkdir(filepath.Join(dir, "run"), 0o700)
	noyau := func(args ...string) string {
		t.Helper()
		cmd := exec.Command(run[0], args...)
		cmd.Env = append(os.Environ(), "XDG_STATE_HOME="+dir, "XDG_RUNTIME_DIR="+filepath.Join(dir, "run"))
		var errs strings.Builder
		cmd.Stderr = &errs
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("noyau %q: %v\n%s%s", args, err, out, errs.String())
		}
		return string(out)
	}
	flags := run[2:]
	port := func(ports string) string { // of "127.0.0.1:4711->8080/tcp"
		host, _, _ := strings.Cut(ports, "->")
		return strings.TrimSpace(host)
	}
	t.Cleanup(func() {
		if all := strings.Fields(noyau("ps", "-aq")); len(all) > 0 {
			noyau(append([]string{"rm", "-f"}, all...)...)
		}
	})
	publish := []string{"-p", "127.0.0.1:0:8080"}
	noyau(append(append(append([]string{"run", "-d", "--name", "spell"}, publish...), flags...), ".")...)
	word, right := misspelled()
	first := wait(t, port(noyau("ps", "--format", "{{.Ports}}")), word)

	file := filepath.Join(dir, "spell.snap")
	noyau("snapshot", "spell", "--compress", "-o", file)
	noyau("rm", "-f", "spell")
	const n = 100
	out := noyau(append(append(append([]string{"clone", "-n", fmt.Sprint(n), "--name", "s"}, publish...), flags...), file)...)
	tokens, hosts := map[string]bool{first.Token: true}, map[string]bool{}
	for l := range strings.Lines(out) {
		f := strings.Fields(l)
		if len(f) != 3 {
			t.Fatalf("%q", l)
		}
		a := wait(t, port(f[2]), word)
		if !strings.Contains(fmt.Sprint(a.Means), right) || a.Since != first.Since || a.Count < 2 || a.Host != f[1] {
			t.Errorf("%s: %+v", l, a)
		}
		if tokens[a.Token] {
			t.Errorf("%s: its token %s was seen before", l, a.Token)
		}
		tokens[a.Token], hosts[a.Host] = true, true
	}
	if len(hosts) != n {
		t.Errorf("%d answered, want %d", len(hosts), n)
	}
	if got := strings.Count(noyau("stop", "s-*"), "\n"); got != n {
		t.Errorf("%d were stopped", got)
	}
}

// wait asks until there is an answer.
func wait(t *testing.T, addr, word string) reply {
	t.Helper()
	for end := time.Now().Add(time.Minute); ; time.Sleep(5 * time.Millisecond) {
		a, err := ask(addr, word)
		if err == nil {
			return a
		}
		if time.Now().After(end) {
			t.Fatal(addr, err)
		}
	}
}
