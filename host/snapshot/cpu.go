package snapshot

import (
	"reflect"
	"slices"
	"strings"

	"golang.org/x/sys/cpu"
)

// Processor names what the processor of this host offers to programs and not every one
// does, sorted, as package golang.org/x/sys/cpu names it: AVX2, AVX512F and so on. A
// program looks once, at its start, and a restored one does not start.
func Processor() []string {
	var names []string
	x := reflect.ValueOf(cpu.X86)
	for i := range x.NumField() {
		if name, has := strings.CutPrefix(x.Type().Field(i).Name, "Has"); has && x.Field(i).Kind() == reflect.Bool && x.Field(i).Bool() {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// checkProcessor refuses a snapshot that was made where the processor could more than here.
func (m *Meta) checkProcessor(name string, here []string) error {
	var missing []string
	for _, f := range m.Processor {
		if !slices.Contains(here, f) {
			missing = append(missing, f)
		}
	}
	if missing == nil {
		return nil
	}
	return badf("%s was made on a processor that has %s, which its program may use and this processor has not; restore it on one that has",
		name, strings.Join(missing, ", "))
}
