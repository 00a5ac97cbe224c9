// Package journal is the append-only file from which a fix can be undone: what was about to be written, and what came of
// it. No record counts as written before it is on the disk, and nothing in the file is ever changed.
package journal

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/cloudaudit/cloudaudit/internal/durable"
)

// ErrLocked is wrapped by the error of Create and Open when another process writes a journal in the same directory.
var ErrLocked = errors.New("another fix is at work")

// File is an open journal. It is for one goroutine.
type File struct {
	file *os.File
	path string
	lock *os.File // held while the journal is open: one writer at a time in a directory
}

// Name returns a path in dir for the journal of the plan with this id, made at now: names sort by time.
func Name(dir string, now time.Time, plan string) string {
	return filepath.Join(dir, "fix-"+now.UTC().Format("20060102T150405.000Z")+"-"+plan[:min(8, len(plan))]+".jsonl")
}

// Dir returns the place for journals that survives: XDG_STATE_HOME, or ~/.local/state, and cloudaudit in it
// (https://specifications.freedesktop.org/basedir-spec/latest/). env looks up an environment variable.
func Dir(env func(string) string) (string, error) {
	if state := env("XDG_STATE_HOME"); filepath.IsAbs(state) {
		return filepath.Join(state, "cloudaudit"), nil
	}
	home := env("HOME")
	if !filepath.IsAbs(home) {
		return "", errors.New("journal: neither XDG_STATE_HOME nor HOME is an absolute path: name a file with --journal")
	}
	return filepath.Join(home, ".local", "state", "cloudaudit"), nil
}

// Create makes a new journal at path and the directories above it. A file that is there already is an error, so that two
// runs never share one.
func Create(path string) (*File, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("journal: %w", err)
	}
	return open(path, os.O_CREATE|os.O_EXCL)
}

// Open opens the journal at path to go on with it. A last line that is torn, because the machine went down while it was
// written, is closed by a line break.
func Open(path string) (*File, error) {
	f, err := open(path, 0)
	if err != nil {
		return nil, err
	}
	end := make([]byte, 1)
	info, err := f.file.Stat()
	if err == nil && info.Size() > 0 {
		_, err = f.file.ReadAt(end, info.Size()-1)
		if err == nil && end[0] != '\n' {
			err = f.write([]byte("\n"))
		}
	}
	if err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("journal %s: %w", path, err)
	}
	return f, nil
}

func open(path string, flags int) (*File, error) {
	if _, err := os.Stat(path); err != nil && flags == 0 {
		return nil, fmt.Errorf("journal: %w", err)
	}
	dir := filepath.Dir(path)
	held, err := os.OpenFile(filepath.Join(dir, "fix.lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("journal: %w", err)
	}
	f := &File{path: path, lock: held}
	if err = durable.Lock(held); err == nil {
		f.file, err = os.OpenFile(path, flags|os.O_RDWR|os.O_APPEND, 0o600)
	}
	if err == nil {
		err = durable.SyncDir(dir)
	}
	if errors.Is(err, durable.ErrHeld) {
		err = ErrLocked
	}
	if err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("journal %s: %w", path, err)
	}
	return f, nil
}

// Append writes record as one line of JSON, and returns when it is on the disk.
func (f *File) Append(record any) error {
	line, err := json.Marshal(record)
	if err == nil {
		err = f.write(append(line, '\n'))
	}
	if err != nil {
		return fmt.Errorf("journal %s: %w", f.path, err)
	}
	return nil
}

func (f *File) write(line []byte) error {
	if _, err := f.file.Write(line); err != nil {
		return err
	}
	return f.file.Sync()
}

// Path returns where the journal is.
func (f *File) Path() string { return f.path }

// Close gives the journal and its directory free.
func (f *File) Close() error {
	var err error
	if f.file != nil {
		err = f.file.Close()
	}
	return errors.Join(err, f.lock.Close())
}

// Read returns the records of the journal r, in order. Lines that are not JSON are torn: the machine went down before they
// counted, so they are left out.
func Read(r io.Reader) ([]json.RawMessage, error) {
	var out []json.RawMessage
	lines := bufio.NewReader(r)
	for {
		line, err := lines.ReadBytes('\n')
		whole := err == nil
		if line = bytes.TrimSpace(line); whole && len(line) > 0 && json.Valid(line) {
			out = append(out, line)
		}
		if errors.Is(err, io.EOF) {
			return out, nil
		}
		if err != nil {
			return nil, fmt.Errorf("journal: %w", err)
		}
	}
}
