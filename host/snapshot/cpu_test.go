package snapshot

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestProcessor(t *testing.T) {
	dir := t.TempDir()
	image := filepath.Join(dir, "image")
	if err := os.WriteFile(image, []byte("the image"), 0o644); err != nil {
		t.Fatal(err)
	}
	save := func(processor []string) string {
		path := filepath.Join(dir, "snap")
		os.Remove(path)
		m := Meta{Image: image, Processor: processor}
		err := Save(t.Context(), path, m, Options{}, func(_ context.Context, f *os.File, _ *Meta) error {
			_, err := f.Write(content())
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		return path
	}

	s, err := Open(save(Processor()))
	if err != nil {
		t.Fatalf("a snapshot of this very processor: %v", err)
	}
	s.Close()

	_, err = Open(save(append(Processor(), "AVX9000")))
	if !errors.Is(err, ErrBad) || !strings.Contains(err.Error(), "AVX9000") {
		t.Errorf("a snapshot of a processor that could more: %v, want ErrBad that names what is missing", err)
	}
}
