package build

import (
	"bytes"
	"context"
	"crypto/sha256"
	"debug/buildinfo"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"noyau.dev/host/image"
)

// Result is a built image.
type Result struct {
	Path     string // of the image
	Manifest image.Manifest
	Cached   bool // nothing had to be linked
}

// ErrGo is what errors.Is finds when the go command has already printed what is wrong.
var ErrGo = errors.New("the go command failed")

// Build compiles o.Package into an image. What the go command printed went to
// o.Stderr; the error then is ErrGo, perhaps with a hint.
func Build(ctx context.Context, o Options) (Result, error) {
	res, err := buildImage(ctx, o)
	if errors.Is(err, syscall.ENOSPC) {
		cache, _ := CacheDir()
		err = fmt.Errorf("%w; make room at %s, or set XDG_CACHE_HOME to another place", err, cache)
	}
	return res, err
}

func buildImage(ctx context.Context, o Options) (Result, error) {
	tc, err := findToolchain(ctx, o.Dir, o.Env)
	if err != nil {
		return Result{}, err
	}
	shadow, err := tc.shadow()
	if err != nil {
		return Result{}, err
	}
	flags, err := goFlags(o.GoFlags, tc.flags)
	if err != nil {
		return Result{}, err
	}
	env := tc.environ(o.Env, shadow)
	raw, err := rawPath(o, tc.version)
	if err != nil {
		return Result{}, err
	}
	// Two builds of the same thing at once wait for each other.
	unlock, err := lockFile(raw + ".lock")
	if err != nil {
		return Result{}, err
	}
	defer unlock()

	before := identity(raw)
	if err := compile(ctx, tc, o, flags, env, raw); err != nil {
		return Result{}, err
	}
	if before != identity(raw) && wantsAllBricks(raw) {
		flags[len(flags)-1] += ",noyau_bricks"
		if err := compile(ctx, tc, o, flags, env, raw); err != nil {
			return Result{}, err
		}
	}
	img := raw + ".image"
	res := Result{Path: o.Output}
	if before != "" && before == identity(raw) {
		if have, err := image.Open(img); err == nil {
			res.Manifest, res.Cached = have.Manifest, true
			have.Close()
		}
	}
	if !res.Cached {
		if res.Manifest, err = finish(raw, img, o); err != nil {
			return Result{}, err
		}
	}
	if cache, err := CacheDir(); err == nil {
		trim(cache, time.Now())
	}
	if res.Path == "" {
		res.Path = img
		return res, nil
	}
	if !filepath.IsAbs(res.Path) && o.Dir != "" {
		res.Path = filepath.Join(o.Dir, res.Path)
	}
	return res, install(img, res.Path)
}

// DefaultName is the file name that go build would choose for a package argument.
func DefaultName(pkg, dir string) string {
	pkg, _, _ = strings.Cut(pkg, "@")
	if strings.HasSuffix(pkg, ".go") {
		return strings.TrimSuffix(filepath.Base(pkg), ".go")
	}
	if pkg == "." || pkg == "" || strings.HasPrefix(pkg, ".") || filepath.IsAbs(pkg) {
		abs, err := filepath.Abs(filepath.Join(dir, pkg))
		if filepath.IsAbs(pkg) {
			abs, err = pkg, nil
		}
		if err == nil {
			return filepath.Base(abs)
		}
	}
	base := path.Base(pkg)
	if len(base) > 1 && base[0] == 'v' && strings.Trim(base[1:], "0123456789") == "" {
		base = path.Base(path.Dir(pkg)) // a major version suffix
	}
	return base
}

// rawPath is where the linker's output of these options is kept, so that an
// unchanged program is not linked again.
func rawPath(o Options, version string) (string, error) {
	cache, err := CacheDir()
	if err != nil {
		return "", err
	}
	dir := o.Dir
	if dir == "" {
		if dir, err = os.Getwd(); err != nil {
			return "", err
		}
	}
	if strings.Contains(o.Package, "@") {
		dir = ""
	}
	h := sha256.New()
	fmt.Fprintf(h, "%q %q %q %v %q", dir, o.Package, o.GoFlags, o.Test, version)
	root := filepath.Join(cache, "build", fmt.Sprintf("%x", h.Sum(nil))[:16])
	if err := makeCache(root); err != nil {
		return "", err
	}
	used(root)
	return filepath.Join(root, DefaultName(o.Package, o.Dir)), nil
}

func compile(ctx context.Context, tc *toolchain, o Options, flags, env []string, raw string) error {
	pkg, _, remote := strings.Cut(o.Package, "@")
	args := []string{"build", "-o", raw}
	if o.Test {
		args = []string{"test", "-c", "-o", raw}
	}
	dir := o.Dir
	if remote {
		// go install is the one command that takes path@version; it names the
		// file itself.
		bin, err := os.MkdirTemp(filepath.Dir(raw), "bin-")
		if err != nil {
			return err
		}
		defer os.RemoveAll(bin)
		env = append(env, "GOBIN="+bin)
		args = []string{"install"}
		if err := runGo(ctx, tc, o, dir, env, append(append(args, flags...), o.Package)); err != nil {
			return err
		}
		entries, err := os.ReadDir(bin)
		if err != nil || len(entries) != 1 {
			return fmt.Errorf("go install %s made %d programs, want 1", o.Package, len(entries))
		}
		return os.Rename(filepath.Join(bin, entries[0].Name()), raw)
	}
	args = append(args, flags...)
	if info, err := os.Stat(filepath.Join(dir, pkg)); filepath.IsAbs(pkg) {
		// go build wants to stand inside the module of an absolute path.
		if st, err := os.Stat(pkg); err == nil && st.IsDir() {
			dir, pkg = pkg, "."
		}
	} else if err == nil && info.IsDir() && !strings.HasPrefix(pkg, ".") {
		if _, err := os.Stat(filepath.Join(dir, pkg, "go.mod")); err == nil {
			dir, pkg = filepath.Join(dir, pkg), "."
		} else {
			pkg = "./" + pkg
		}
	} else if err == nil && info.IsDir() {
		if _, err := os.Stat(filepath.Join(dir, pkg, "go.mod")); err == nil {
			dir, pkg = filepath.Join(dir, pkg), "."
		}
	}
	return runGo(ctx, tc, o, dir, env, append(args, pkg))
}

func runGo(ctx context.Context, tc *toolchain, o Options, dir string, env, args []string) error {
	cmd := exec.CommandContext(ctx, filepath.Join(tc.goroot, "bin", "go"), args...)
	cmd.Dir, cmd.Env = dir, env
	var errs bytes.Buffer
	cmd.Stdout = o.Stdout
	cmd.Stderr = &errs
	if o.Stderr != nil {
		cmd.Stderr = io.MultiWriter(o.Stderr, &errs)
	}
	err := cmd.Run()
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if cache, cerr := CacheDir(); cerr == nil && isFull(cache) {
		// What the go command says then is of packages that it does not find.
		return fmt.Errorf("%w: %w", ErrGo, syscall.ENOSPC)
	}
	text := errs.String()
	switch {
	case strings.Contains(text, "build constraints exclude all Go files"),
		strings.Contains(text, "C source files not allowed"):
		return fmt.Errorf("%w: a package needs cgo (or another platform), and images are built without cgo; look for a pure Go variant of it", ErrGo)
	case o.Stderr == nil:
		return fmt.Errorf("%w: %s", ErrGo, strings.TrimSpace(text))
	}
	return ErrGo
}

// isFull says whether the file system of dir has no room to speak of.
func isFull(dir string) bool {
	var st syscall.Statfs_t
	return syscall.Statfs(dir, &st) == nil && (st.Bavail*uint64(st.Bsize) < 1<<20 || st.Files > 0 && st.Ffree < 16)
}

// finish makes the linker's output an image: it sends the system calls that
// x/sys/unix has in assembly to the library OS, checks that no others are left,
// and appends the manifest.
func finish(raw, img string, o Options) (image.Manifest, error) {
	info, err := buildinfo.ReadFile(raw)
	if err != nil {
		if !o.Test {
			return image.Manifest{}, fmt.Errorf("%s is not a main package, so there is nothing to run", o.Package)
		}
		return image.Manifest{}, err
	}
	tmp := img + ".tmp"
	if err := image.Compact(tmp, raw); err != nil {
		return image.Manifest{}, err
	}
	image.Sparse(raw)
	defer os.Remove(tmp)
	if err := account(tmp); err != nil {
		return image.Manifest{}, err
	}
	m := image.New()
	m.Go = info.GoVersion
	if v, _, ok := strings.Cut(m.Go, " "); ok {
		m.Go = v
	}
	m.Path = info.Path
	m.Module = image.Module{Path: info.Main.Path, Version: info.Main.Version}
	m.Settings = map[string]string{}
	for _, s := range info.Settings {
		m.Settings[s.Key] = s.Value
	}
	if err := startBricks(tmp); err != nil {
		return image.Manifest{}, err
	}
	if m.Bricks, err = listBricks(tmp); err != nil {
		return image.Manifest{}, err
	}
	if m, err = image.Append(tmp, m); err != nil {
		return image.Manifest{}, err
	}
	if err := os.Chmod(tmp, 0o755); err != nil {
		return image.Manifest{}, err
	}
	return m, os.Rename(tmp, img)
}

// identity tells whether a file is still the same one.
func identity(name string) string {
	st, err := os.Stat(name)
	if err != nil {
		return ""
	}
	return fmt.Sprintf("%d %d", st.ModTime().UnixNano(), st.Size())
}

// install copies the image to its place, never leaving half a file there. It writes
// the file in one piece: file systems that can then keep it in large pages, of which
// a virtual machine needs a few instead of some hundred (see docs/VM.md).
func install(img, dst string) error {
	if st, err := os.Stat(dst); err == nil {
		if st.IsDir() {
			return fmt.Errorf("%s is a directory; name the image file with -o", dst)
		}
		if !st.Mode().IsRegular() { // /dev/null, as with go build: it stays what it is
			data, err := os.ReadFile(img)
			if err != nil {
				return err
			}
			return os.WriteFile(dst, data, 0)
		}
		if dst, err = filepath.EvalSymlinks(dst); err != nil {
			return err
		}
	}
	tmp, err := os.CreateTemp(filepath.Dir(dst), ".noyau-")
	if err != nil {
		return fmt.Errorf("no place for the image %s: %w; choose another with -o", dst, errors.Unwrap(err))
	}
	defer os.Remove(tmp.Name())
	data, err := os.ReadFile(img)
	if err != nil {
		return err
	}
	if _, err := tmp.Write(data); err != nil {
		return err
	}
	if err := tmp.Chmod(0o755); err != nil {
		return err
	}
	if err := tmp.Close(); err != nil {
		return err
	}
	return os.Rename(tmp.Name(), dst)
}
