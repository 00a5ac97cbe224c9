//go:build !windows

package durable

import (
	"errors"
	"os"
	"syscall"
)

// Lock takes the lock of file without waiting, or returns ErrHeld. It ends when file is closed, or with the process, however
// that ends.
func Lock(file *os.File) error {
	err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return ErrHeld
	}
	return err
}

// SyncDir makes the names of the files in dir last.
func SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	err = d.Sync()
	return errors.Join(err, d.Close())
}
