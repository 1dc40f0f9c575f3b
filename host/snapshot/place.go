package snapshot

import (
	"fmt"
	"os"
	"path/filepath"
)

// place is where a snapshot goes that is to be written to path: a new file, or in the place of a
// file. A symbolic link is followed, since the rename would put the file where the link is. What
// is no file is refused: the rename would put one in the place of a device.
func place(path string) (string, error) {
	if _, err := os.Lstat(path); err != nil {
		dir := filepath.Dir(path)
		switch st, err := os.Stat(dir); {
		case err != nil:
			return "", fmt.Errorf("snapshot: no place for %s: %w", path, err)
		case !st.IsDir():
			return "", fmt.Errorf("snapshot: no place for %s: %s is not a directory", path, dir)
		}
		return path, nil
	}
	to, err := filepath.EvalSymlinks(path)
	if err != nil {
		return "", fmt.Errorf("snapshot: %w", err)
	}
	switch st, err := os.Stat(to); {
	case err != nil:
		return "", fmt.Errorf("snapshot: %w", err)
	case st.IsDir():
		return "", fmt.Errorf("snapshot: %s is a directory; name a file in it", path)
	case !st.Mode().IsRegular():
		return "", fmt.Errorf("snapshot: %s is not a file, and a snapshot must be one: it is mapped when it is restored", path)
	}
	return to, nil
}
