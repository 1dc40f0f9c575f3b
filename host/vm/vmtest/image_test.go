package vmtest

import (
	"os"
	"strings"
	"testing"
)

// TestImage runs an image built elsewhere, without a monitor: NOYAU_TEST_IMAGE
// names it. It prints what the image says.
func TestImage(t *testing.T) {
	path := os.Getenv("NOYAU_TEST_IMAGE")
	if path == "" {
		t.Skip("NOYAU_TEST_IMAGE is not set")
	}
	if why := Available(); why != "" {
		t.Skip(why)
	}
	img, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	r, err := Run(img, Options{Exe: os.Getenv("NOYAU_TEST_RUNNER"), Stats: true, Args: strings.Fields("app " + os.Getenv("NOYAU_TEST_ARGS"))})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("code %d, wall %v, cpu %v\n%s\n%s", r.Code, r.Wall, r.CPU, r.Out, r.Err)
}
