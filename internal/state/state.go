// Package state is the directory in which scheduled runs leave what the next one has to know, and their reports. One run at
// a time has it, every file in it is whole at any time, and nothing that somebody else has put there is touched.
package state

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/cloudaudit/cloudaudit/internal/durable"
)

// Baseline and Notified are the names of the files beside the reports: the report that the next run compares its own with,
// and what those who are notified have been told.
const (
	Baseline = "baseline.json"
	Notified = "notified.json"
)

const lockName = "run.lock"

// Dir is a state directory that is held by this run. It is for one goroutine.
type Dir struct {
	path string
	lock *os.File
}

// HeldError says that another run has the directory.
type HeldError struct {
	Path string
	By   string // as that run has written it; empty if it is not known
}

func (e *HeldError) Error() string {
	by := e.By
	if by == "" {
		by = "it has not said which"
	}
	return fmt.Sprintf("state directory %s: another run is at work in it (%s)", e.Path, by)
}

// Open makes the directory at path if there is none, for nobody but its owner, and takes it. Holder is what another run is
// told that wants it meanwhile; the error is then a *HeldError.
func Open(path, holder string) (*Dir, error) {
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, fmt.Errorf("state directory: %w", err)
	}
	lock, err := os.OpenFile(filepath.Join(path, lockName), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("state directory: %w", err)
	}
	d := &Dir{path: path, lock: lock}
	err = durable.Lock(lock)
	if errors.Is(err, durable.ErrHeld) {
		by, _ := io.ReadAll(io.LimitReader(lock, 200))
		err = &HeldError{Path: path, By: strings.TrimSpace(string(by))}
		return nil, errors.Join(err, lock.Close())
	}
	if err == nil {
		err = lock.Truncate(0)
	}
	if err == nil {
		_, err = lock.WriteAt([]byte(holder+"\n"), 0)
	}
	if err == nil {
		err = d.sweep()
	}
	if err != nil {
		_ = d.Close()
		return nil, fmt.Errorf("state directory %s: %w", path, err)
	}
	return d, nil
}

// sweep removes what a run has left that was killed while it wrote.
func (d *Dir) sweep() error {
	for _, name := range []string{Baseline, Notified, "report-*.json"} {
		left, err := filepath.Glob(filepath.Join(escapeGlob(d.path), durable.Partial(name)))
		if err != nil {
			return err
		}
		for _, path := range left {
			if err := os.Remove(path); err != nil {
				return err
			}
		}
	}
	return nil
}

// escapeGlob makes a path stand for itself in a pattern.
func escapeGlob(path string) string {
	if filepath.Separator == '\\' {
		return path // patterns have no escape there
	}
	return regexp.MustCompile(`[\\*?[]`).ReplaceAllString(path, `\$0`)
}

// Close gives the directory free.
func (d *Dir) Close() error { return d.lock.Close() }

// Path returns where the file with this name is.
func (d *Dir) Path(name string) string { return filepath.Join(d.path, name) }

// Load returns the content of the file with this name, or nil if there is none.
func (d *Dir) Load(name string) ([]byte, error) {
	data, err := os.ReadFile(d.Path(name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return data, err
}

// Save replaces the content of the file with this name.
func (d *Dir) Save(name string, data []byte) error {
	return durable.Replace(d.Path(name), data, 0o600)
}

// ReportName returns the name of the report of a run that was at work at a point in time: names sort by time. Id tells runs
// of the same millisecond apart, and is of eight hexadecimal digits.
func ReportName(at time.Time, id string) string {
	return "report-" + at.UTC().Format("20060102T150405.000Z") + "-" + id + ".json"
}

// reports matches what ReportName returns.
var reports = regexp.MustCompile(`^report-(\d{8}T\d{6}\.\d{3}Z)-[0-9a-f]{8}\.json$`)

// Prune removes reports but for the newest: those beyond a number, and those from before a point in time. A number of 0 and
// the zero time limit nothing. The report with the name current stays in any case.
func (d *Dir) Prune(number int, before time.Time, current string) error {
	entries, err := os.ReadDir(d.path)
	if err != nil {
		return err
	}
	var names []string
	for _, e := range entries {
		if e.Type().IsRegular() && reports.MatchString(e.Name()) {
			names = append(names, e.Name())
		}
	}
	slices.Sort(names)
	slices.Reverse(names)
	var errs []error
	for i, name := range names {
		at, err := time.Parse("20060102T150405.000Z", reports.FindStringSubmatch(name)[1])
		old := err == nil && at.Before(before)
		if name != current && (number > 0 && i >= number || old) {
			errs = append(errs, os.Remove(d.Path(name)))
		}
	}
	return errors.Join(errs...)
}
