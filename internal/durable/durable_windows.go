package durable

import (
	"errors"
	"os"

	"golang.org/x/sys/windows"
)

// Lock takes the lock of file without waiting, or returns ErrHeld. It ends when file is closed, or with the process, however
// that ends. It is on a byte far behind the end, for a lock on Windows keeps others from reading what it covers.
func Lock(file *os.File) error {
	at := &windows.Overlapped{OffsetHigh: 1 << 30}
	err := windows.LockFileEx(windows.Handle(file.Fd()), windows.LOCKFILE_EXCLUSIVE_LOCK|windows.LOCKFILE_FAIL_IMMEDIATELY, 0, 1, 0, at)
	if errors.Is(err, windows.ERROR_LOCK_VIOLATION) {
		return ErrHeld
	}
	return err
}

// SyncDir does nothing: NTFS writes names through with the file.
func SyncDir(string) error { return nil }
