//go:build !noyau

package event

// In images the build decides whether the brick is started; tests always have it.
func init() { Start() }
