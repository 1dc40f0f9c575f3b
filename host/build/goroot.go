package build

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"sort"
	"strings"

	noyau "noyau.dev"
)

// Releases returns the Go minor releases that there is a patch set for, newest
// first: "go1.26".
func Releases() []string {
	entries, _ := fs.ReadDir(noyau.Sources, "runtime")
	var out []string
	for _, e := range entries {
		if e.IsDir() && strings.HasPrefix(e.Name(), "go1.") {
			out = append(out, e.Name())
		}
	}
	sort.Sort(sort.Reverse(sort.StringSlice(out)))
	return out
}

// patchSet is what turns a Go release's standard library into ours.
type patchSet struct {
	release string                       // "go1.26"
	edits   map[string][]edit            // by path below GOROOT/src
	add     map[string][]byte            // new files, likewise
	drop    map[string]bool              // files that ours replace
	sums    map[string]map[string]string // path -> SHA-256 -> release it is of
	id      string                       // hash of all of the above
}

// loadPatches finds the patch set for a Go version such as go1.26.8.
func loadPatches(version string) (*patchSet, error) {
	release := version
	if parts := strings.SplitN(version, ".", 3); len(parts) == 3 {
		release = parts[0] + "." + parts[1]
	}
	if !slices.Contains(Releases(), release) {
		return nil, fmt.Errorf("%s is not supported (supported: %s); set GOTOOLCHAIN to one of them, e.g. GOTOOLCHAIN=%s.0",
			version, strings.Join(Releases(), ", "), Releases()[0])
	}
	ps := &patchSet{release: release, edits: map[string][]edit{}, add: map[string][]byte{}, drop: map[string]bool{}, sums: map[string]map[string]string{}}
	h := sha256.New()
	root := "runtime/" + release
	err := walkEmbedded(root, func(name string, data []byte) error {
		fmt.Fprintf(h, "%s %d\n", name, len(data))
		h.Write(data)
		rel := strings.TrimPrefix(name, root+"/")
		switch {
		case strings.HasPrefix(rel, "edits/"):
			e, err := parseEdits(string(data))
			if err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			ps.edits[strings.TrimSuffix(strings.TrimPrefix(rel, "edits/"), ".edit")] = e
		case strings.HasPrefix(rel, "_src/"):
			ps.add[strings.TrimPrefix(rel, "_src/")] = data
		case rel == "drop":
			for _, f := range fields(data) {
				ps.drop[f[0]] = true
			}
		case rel == "sums":
			for _, f := range fields(data) {
				if len(f) == 3 {
					if ps.sums[f[1]] == nil {
						ps.sums[f[1]] = map[string]string{}
					}
					ps.sums[f[1]][f[0]] = f[2]
				}
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if err := ps.addGuest(h); err != nil {
		return nil, err
	}
	ps.id = hex.EncodeToString(h.Sum(nil))[:12]
	return ps, nil
}

// addGuest adds the library OS and the ABI as packages below internal/noyau.
func (ps *patchSet) addGuest(h interface{ Write([]byte) (int, error) }) error {
	for _, dir := range []string{"abi", "guest"} {
		err := walkEmbedded(dir, func(name string, data []byte) error {
			if path.Ext(name) != ".go" && path.Ext(name) != ".s" || strings.HasSuffix(name, "_test.go") {
				return nil
			}
			fmt.Fprintf(h, "%s %d\n", name, len(data))
			h.Write(data)
			dst := "internal/noyau/" + strings.TrimPrefix(name, "guest/")
			data = bytes.ReplaceAll(data, []byte(`"noyau.dev/guest/`), []byte(`"internal/noyau/`))
			data = bytes.ReplaceAll(data, []byte(`"noyau.dev/abi"`), []byte(`"internal/noyau/abi"`))
			ps.add[dst] = data
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func walkEmbedded(root string, f func(name string, data []byte) error) error {
	return fs.WalkDir(noyau.Sources, root, func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := noyau.Sources.ReadFile(name)
		if err != nil {
			return err
		}
		return f(name, data)
	})
}

// fields splits text into lines of words; # begins a comment line.
func fields(data []byte) [][]string {
	var out [][]string
	sc := bufio.NewScanner(bytes.NewReader(data))
	for sc.Scan() {
		if f := strings.Fields(sc.Text()); len(f) > 0 && !strings.HasPrefix(f[0], "#") {
			out = append(out, f)
		}
	}
	return out
}

// shadowRoot makes (or finds in the cache) a GOROOT that is the one at goroot with
// the patch set applied: a tree of links with our files in place of some.
func shadowRoot(cache, goroot, version string, ps *patchSet) (string, error) {
	dir := filepath.Join(cache, "goroot", version+"-"+ps.id)
	if have, err := os.ReadFile(filepath.Join(dir, ".noyau")); err == nil && string(have) == goroot {
		used(dir)
		return dir, nil
	}
	if err := makeCache(filepath.Dir(dir)); err != nil {
		return "", err
	}
	tmp, err := os.MkdirTemp(filepath.Dir(dir), ".making-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(tmp)
	if err := fillShadow(tmp, goroot, version, ps); err != nil {
		return "", err
	}
	if err := os.WriteFile(filepath.Join(tmp, ".noyau"), []byte(goroot), 0o644); err != nil {
		return "", err
	}
	// Somebody else may have made the same tree meanwhile: theirs is as good,
	// unless it is of another GOROOT.
	if err := os.Rename(tmp, dir); err != nil {
		if have, rerr := os.ReadFile(filepath.Join(dir, ".noyau")); rerr == nil && string(have) == goroot {
			return dir, nil
		}
		old := dir + ".old-" + filepath.Base(tmp)
		os.Rename(dir, old)
		defer os.RemoveAll(old)
		if err := os.Rename(tmp, dir); err != nil {
			return "", err
		}
	}
	return dir, nil
}

func fillShadow(dst, goroot, version string, ps *patchSet) error {
	entries, err := os.ReadDir(goroot)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.Name() == "src" {
			continue
		}
		from, to := filepath.Join(goroot, e.Name()), filepath.Join(dst, e.Name())
		if e.IsDir() {
			err = os.Symlink(from, to)
		} else {
			err = copyFile(to, from)
		}
		if err != nil {
			return err
		}
	}
	// Directories in which something changes are made anew, all others linked.
	touched := map[string]bool{".": true}
	mark := func(name string) {
		for d := path.Dir(name); d != "."; d = path.Dir(d) {
			touched[d] = true
		}
	}
	for name := range ps.edits {
		mark(name)
	}
	for name := range ps.add {
		mark(name)
	}
	if err := linkTree(filepath.Join(dst, "src"), filepath.Join(goroot, "src"), ".", touched, ps); err != nil {
		return err
	}
	for name, edits := range ps.edits {
		src, err := os.ReadFile(filepath.Join(goroot, "src", name))
		if err != nil {
			return err
		}
		if err := ps.check(name, src, version); err != nil {
			return err
		}
		out, err := apply(string(src), edits)
		if err != nil {
			return fmt.Errorf("%s of %s is not the file that the patch for %s was made for: %w", name, version, ps.release, err)
		}
		if err := os.WriteFile(filepath.Join(dst, "src", name), []byte(out), 0o644); err != nil {
			return err
		}
	}
	for name := range ps.drop {
		src, err := os.ReadFile(filepath.Join(goroot, "src", name))
		if err != nil {
			return err
		}
		if err := ps.check(name, src, version); err != nil {
			return err
		}
	}
	for name, data := range ps.add {
		to := filepath.Join(dst, "src", name)
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(to, data, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// check refuses a file that the patch set does not know by its hash.
func (ps *patchSet) check(name string, data []byte, version string) error {
	sum := fmt.Sprintf("%x", sha256.Sum256(data))
	if _, ok := ps.sums[name][sum]; ok {
		return nil
	}
	known := map[string]bool{}
	for _, v := range ps.sums[name] {
		known[v] = true
	}
	var list []string
	for v := range known {
		list = append(list, v)
	}
	sort.Strings(list)
	return fmt.Errorf("%s has a %s that Noyau does not know, so it will not patch it (known: %s); set GOTOOLCHAIN to one of these, or check the patches with the new file and add its hash to runtime/%s/sums",
		version, name, strings.Join(list, ", "), ps.release)
}

func linkTree(dst, src, rel string, touched map[string]bool, ps *patchSet) error {
	if err := os.MkdirAll(dst, 0o755); err != nil {
		return err
	}
	entries, err := os.ReadDir(src)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, e := range entries {
		name := path.Join(rel, e.Name())
		from, to := filepath.Join(src, e.Name()), filepath.Join(dst, e.Name())
		switch {
		case ps.drop[name] || ps.edits[name] != nil || ps.add[name] != nil:
		case e.IsDir() && touched[name]:
			if err := linkTree(to, from, name, touched, ps); err != nil {
				return err
			}
		case !e.IsDir() && rel == ".":
			if err := copyFile(to, from); err != nil {
				return err
			}
		default:
			if err := os.Symlink(from, to); err != nil {
				return err
			}
		}
	}
	return nil
}

func copyFile(dst, src string) error {
	data, err := os.ReadFile(src)
	if err != nil {
		return err
	}
	return os.WriteFile(dst, data, 0o644)
}
