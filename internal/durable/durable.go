// Package durable writes files that outlive the process that writes them. Whoever reads a file that was replaced sees the
// old content or the new one, whenever the writer or the machine goes down; and a lock ends with the process that holds it.
package durable

import (
	"errors"
	"os"
	"path/filepath"
)

// ErrHeld is returned by Lock when another process, or another open file of this one, holds the lock.
var ErrHeld = errors.New("the lock is held")

// Replace makes data the content of the file at path, with these permissions, in one step. It returns when the content and
// the name are on the disk. Until then there is a file beside it whose name begins with a dot and then that of path.
func Replace(path string, data []byte, mode os.FileMode) error {
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, Partial(filepath.Base(path)))
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // fails, and does not matter, once the file has its name
	_, err = f.Write(data)
	if err = errors.Join(err, f.Chmod(mode), f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	return SyncDir(dir)
}

// Partial returns the pattern of the names that Replace uses beside a file with this name, as path.Match takes it. After a
// crash such a file may be left.
func Partial(name string) string { return "." + name + ".*" }
