// Package linux holds the numbers and layouts of the Linux system call
// interface on amd64 that the library OS answers. Data only.
package linux

// Errno is a Linux error number; 0 is success.
type Errno uint32

func (e Errno) Error() string { return "errno " + itoa(uint32(e)) }

func itoa(v uint32) string {
	var b [10]byte
	i := len(b)
	for {
		i--
		b[i] = byte('0' + v%10)
		if v /= 10; v == 0 {
			return string(b[i:])
		}
	}
}
