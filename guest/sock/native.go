//go:build !noyau

package sock

// In images the build decides whether the brick is started; tests always have it.
func init() { Start() }
