package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"noyau.dev/host/build"
	"noyau.dev/host/image"
)

// A target is what noyau run was told to run.
type target struct {
	image *image.Image
	shown string // for noyau ps: the image file or the package, as the user gave it
	base  string // for names: "hello" of ./cmd/hello
}

// openTarget finds out whether arg is an image or a package, builds the package,
// and opens the image. A file is an image unless it is Go source.
func openTarget(ctx context.Context, arg string, goFlags []string) (*target, error) {
	st, err := os.Stat(arg)
	switch {
	case err == nil && !st.IsDir() && !strings.HasSuffix(arg, ".go"):
		if len(goFlags) > 0 {
			return nil, &exitCode{exitError, fmt.Errorf("%s is an image: %s cannot be used with it", arg, goFlags[0])}
		}
		img, err := image.Open(arg)
		if err != nil {
			return nil, err
		}
		base := filepath.Base(arg)
		return &target{img, arg, strings.TrimSuffix(base, filepath.Ext(base))}, nil
	case err != nil && isPath(arg):
		return nil, &exitCode{exitNotFound, fmt.Errorf("%s: no such image, file or directory", arg)}
	}
	img, err := buildCached(ctx, arg, goFlags)
	if err != nil {
		return nil, err
	}
	return &target{img, arg, packageBase(arg, img.Manifest.Path)}, nil
}

// isPath says whether arg can only mean a file or directory.
func isPath(arg string) bool {
	return filepath.IsAbs(arg) || arg == "." || arg == ".." || strings.HasPrefix(arg, "./") || strings.HasPrefix(arg, "../") || strings.HasSuffix(arg, ".go")
}

// packageBase is the name the go command would give the executable.
func packageBase(arg, importPath string) string {
	if importPath == "" || importPath == "command-line-arguments" {
		arg, _, _ = strings.Cut(arg, "@")
		if abs, err := filepath.Abs(arg); err == nil && isPath(arg) {
			arg = abs
		}
		return strings.TrimSuffix(path.Base(arg), ".go")
	}
	base := path.Base(importPath)
	if len(base) > 1 && base[0] == 'v' && strings.Trim(base[1:], "0123456789") == "" && path.Dir(importPath) != "." {
		base = path.Base(path.Dir(importPath)) // a major version is no name
	}
	return base
}

// buildCached builds pkg into the cache of package build, which does again only
// what the go command says is out of date.
func buildCached(ctx context.Context, pkg string, goFlags []string) (*image.Image, error) {
	res, err := buildImage(ctx, build.Options{Package: pkg, GoFlags: goFlags})
	if err != nil {
		return nil, err
	}
	return image.Open(res.Path)
}

// buildImage builds with the go command's output on our standard error, and
// turns failures into exit codes.
func buildImage(ctx context.Context, o build.Options) (build.Result, error) {
	p := newProgress(os.Stderr, "building "+o.Package)
	o.Stdout, o.Stderr = p, p
	res, err := build.Build(ctx, o)
	p.done()
	switch {
	case err == nil:
		return res, nil
	case err == build.ErrGo: // it has said all
		err = nil
	}
	if p.sawMissing() && !errors.Is(err, unix.ENOSPC) {
		return res, &exitCode{exitNotFound, err}
	}
	return res, &exitCode{exitError, err}
}
