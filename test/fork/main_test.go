package fork

import (
	"os"
	"testing"

	"noyau.dev/host/monitor"
	"noyau.dev/test/internal/pvms"
)

// isolation is what NOYAU_ISOLATION says, process without it:
//
//	NOYAU_ISOLATION=vm go test ./test/fork
func isolation() string {
	if v := os.Getenv("NOYAU_ISOLATION"); v != "" {
		return v
	}
	return "process"
}

func TestMain(m *testing.M) { os.Exit(pvms.Main(m)) }

// config is how the guest is run with these arguments.
func config(t testing.TB, args ...string) monitor.Config {
	t.Helper()
	c := pvms.Config(t, isolation(), args...)
	c.Forks = 32
	return c
}
