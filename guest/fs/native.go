//go:build !noyau

package fs

// In images the build decides whether the brick is started; tests always have it.
func init() { StartInotify() }
