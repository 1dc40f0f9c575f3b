//go:build noyau

// Functions without a body are linked from the runtime; an assembly file tells
// the compiler to expect such.
