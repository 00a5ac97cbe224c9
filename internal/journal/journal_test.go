package journal

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestRecordsComeBackInOrder(t *testing.T) {
	path := filepath.Join(t.TempDir(), "new", "dir", "j.jsonl")
	f, err := Create(path)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		if err := f.Append(map[string]int{"n": i}); err != nil {
			t.Fatal(err)
		}
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if _, err := Open(path); !errors.Is(err, ErrLocked) {
		t.Errorf("a second writer: %v", err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := Create(path); !errors.Is(err, os.ErrExist) {
		t.Errorf("a journal was made where one was: %v", err)
	}

	// The machine goes down in the middle of a line; the next writer's records count, the torn one does not.
	torn, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := torn.WriteString(`{"n":3,"edit":{"li`); err != nil {
		t.Fatal(err)
	}
	torn.Close()
	if f, err = Open(path); err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Append(map[string]int{"n": 4}); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	records, err := Read(strings.NewReader(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	var got []int
	for _, r := range records {
		var v struct{ N int }
		if err := json.Unmarshal(r, &v); err != nil {
			t.Fatal(err)
		}
		got = append(got, v.N)
	}
	if len(got) != 4 || got[0] != 0 || got[2] != 2 || got[3] != 4 {
		t.Errorf("records %v", got)
	}
	// A whole record without its line break was not on the disk when it counted.
	if records, _ := Read(strings.NewReader("{}\n{}")); len(records) != 1 {
		t.Errorf("%d records", len(records))
	}
}

func TestDir(t *testing.T) {
	for _, test := range []struct{ state, home, want string }{
		{"/s", "/h", "/s/cloudaudit"}, {"", "/h", "/h/.local/state/cloudaudit"}, {"relative", "/h", "/h/.local/state/cloudaudit"}, {"", "", ""},
	} {
		got, err := Dir(func(name string) string {
			return map[string]string{"XDG_STATE_HOME": test.state, "HOME": test.home}[name]
		})
		if got != test.want || (err != nil) != (test.want == "") {
			t.Errorf("%+v: %q, %v", test, got, err)
		}
	}
}
