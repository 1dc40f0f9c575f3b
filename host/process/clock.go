package process

import (
	"os"
	"slices"
	"strings"
	"sync"
)

// ClockNeedsCall reports whether reading the time takes a system call on this
// machine: the kernel's clock source is none that the vDSO can read. Then
// Allow.Clock must be set.
var ClockNeedsCall = sync.OnceValue(func() bool {
	b, err := os.ReadFile("/sys/devices/system/clocksource/clocksource0/current_clocksource")
	if err != nil {
		return true
	}
	fast := []string{"tsc", "kvm-clock", "hyperv_clocksource_tsc_page"}
	return !slices.Contains(fast, strings.TrimSpace(string(b)))
})
