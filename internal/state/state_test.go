package state

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func open(t *testing.T, path string) *Dir {
	t.Helper()
	d, err := Open(path, "pid 1 on night-watch")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close() })
	return d
}

func TestOpen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a[1]*", "state")
	d := open(t, path)
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("%v, %v; want mode 0700", info, err)
	}
	_, err := Open(path, "pid 2")
	held, ok := errors.AsType[*HeldError](err)
	if !ok || held.By != "pid 1 on night-watch" || !strings.Contains(err.Error(), "another run is at work in it (pid 1 on night-watch)") {
		t.Errorf("a second run gets %v", err)
	}
	if data, err := d.Load(Baseline); data != nil || err != nil {
		t.Errorf("before the first run: %q, %v", data, err)
	}
	if err := d.Save(Baseline, []byte("{}")); err != nil {
		t.Fatal(err)
	}
	// What a run that was killed has left is swept away, and nothing else.
	for _, name := range []string{".baseline.json.123", ".report-20261124T030000.000Z-0a1b2c3d.json.9", ".mine", "latest.json"} {
		if err := os.WriteFile(d.Path(name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	d = open(t, path)
	if data, err := d.Load(Baseline); string(data) != "{}" || err != nil {
		t.Errorf("%q, %v", data, err)
	}
	if got, want := names(t, path), []string{".mine", "baseline.json", "latest.json", "run.lock"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

func names(t *testing.T, path string) []string {
	t.Helper()
	entries, err := os.ReadDir(path)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, e := range entries {
		out = append(out, e.Name())
	}
	return out
}

func TestPrune(t *testing.T) {
	night := func(n int) string {
		return ReportName(time.Date(2026, 11, n, 3, 0, 0, 0, time.UTC), "0a1b2c3d")
	}
	foreign := []string{"baseline.json", "latest.json", "report-2026.json", "report-20261101T030000.000Z-0a1b2c3d.json.bak", "fix-20261101T030000.000Z-0a1b2c3d.jsonl"}
	for _, test := range []struct {
		name    string
		number  int
		before  time.Time
		current int
		left    []int
	}{
		{"all", 0, time.Time{}, 5, []int{1, 2, 3, 4, 5}},
		{"by number", 2, time.Time{}, 5, []int{4, 5}},
		{"more than there are", 9, time.Time{}, 5, []int{1, 2, 3, 4, 5}},
		{"by age", 0, time.Date(2026, 11, 3, 0, 0, 0, 0, time.UTC), 5, []int{3, 4, 5}},
		{"both", 2, time.Date(2026, 11, 5, 0, 0, 0, 0, time.UTC), 5, []int{5}},
		{"a clock that was put back", 1, time.Time{}, 2, []int{2, 5}},
		{"everything is old", 0, time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC), 5, []int{5}},
	} {
		t.Run(test.name, func(t *testing.T) {
			d := open(t, t.TempDir())
			want := append([]string{"run.lock"}, foreign...)
			for _, name := range append(foreign, night(1), night(2), night(3), night(4), night(5)) {
				if err := os.WriteFile(d.Path(name), nil, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			for _, n := range test.left {
				want = append(want, night(n))
			}
			// A name like ours on something that is no file of ours.
			link := ReportName(time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC), "ffffffff")
			if err := os.Symlink("baseline.json", d.Path(link)); err != nil {
				t.Fatal(err)
			}
			want = append(want, link)
			if err := d.Prune(test.number, test.before, night(test.current)); err != nil {
				t.Fatal(err)
			}
			slices.Sort(want)
			if got := names(t, d.path); !slices.Equal(got, want) {
				t.Errorf("left: %q\nwant  %q", got, want)
			}
		})
	}
}
