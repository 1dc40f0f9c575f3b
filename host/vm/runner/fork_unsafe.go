package runner

import _ "unsafe" // for linkname

// pin keeps the goroutine on its thread and from being preempted; unpin ends that.
// They are functions of the runtime that others use in the same way.

//go:linkname pin runtime.procPin
func pin() int

//go:linkname unpin runtime.procUnpin
func unpin()
