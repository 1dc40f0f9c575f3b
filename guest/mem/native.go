//go:build !noyau

package mem

// In images the build decides whether the brick is started; tests always have it.
func init() { Start() }
