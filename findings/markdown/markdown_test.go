package markdown

import (
	"bytes"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode"

	"pgregory.net/rapid"

	"github.com/cloudaudit/cloudaudit/findings"
	"github.com/cloudaudit/cloudaudit/findings/findingstest"
)

func written(t interface{ Fatal(...any) }, r *findings.Report) []byte {
	var out bytes.Buffer
	if err := Write(&out, r); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

var (
	tag     = regexp.MustCompile(`<[^>]*>?`)
	command = regexp.MustCompile(`(?m)^\s*::|##\[|##vso\[`)
)

// ours are the tags that Write writes by itself.
func ours() []string {
	return []string{"<details>", "</details>", "<summary>", "</summary>", "<code>", "</code>", "<b>", "</b>", "<pre>", "</pre>", "<br>", "<!-- -->"}
}

// checkSafe fails if a name has become more than text.
func checkSafe(t interface{ Errorf(string, ...any) }, text []byte) {
	for _, c := range string(text) {
		if c != '\n' && !unicode.IsPrint(c) {
			t.Errorf("the output has %U", c)
			return
		}
	}
	if at := command.FindIndex(text); at != nil {
		t.Errorf("the output has a command: %q", text[at[0]:min(len(text), at[1]+20)])
	}
	for _, found := range tag.FindAllString(string(text), -1) {
		if !slices.Contains(ours(), found) {
			t.Errorf("the output has %s", found)
		}
	}
	columns, folded := 0, 0
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		folded += strings.Count(line, "<details>") - strings.Count(line, "</details>")
		if folded < 0 || folded > 1 {
			t.Errorf("details do not match at %q", line)
		}
		n := strings.Count(line, "|")
		switch {
		case n == 0:
			columns = 0
		case columns == 0:
			columns = n
		case n != columns:
			t.Errorf("a row of a table has %d bars, not %d: %q", n, columns, line)
		}
	}
	for _, link := range regexp.MustCompile(`\]\([^)]*\)`).FindAllString(string(text), -1) {
		if !slices.ContainsFunc(findings.Checks(), func(c findings.Check) bool { return link == "]("+c.Source+")" }) {
			t.Errorf("the output has the link %s", link)
		}
	}
	for _, mark := range []string{"`", "![", "@", "**bold**", "http://"} {
		if bytes.Contains(text, []byte(mark)) {
			t.Errorf("the output has %s", mark)
		}
	}
}

func TestGolden(t *testing.T) {
	got := written(t, findingstest.Report())
	findingstest.Golden(t, "report.md", got)
	checkSafe(t, got)
	if again := written(t, findingstest.Report()); !bytes.Equal(got, again) {
		t.Error("the same snapshots gave two texts")
	}
	compared := written(t, findingstest.Compared())
	findingstest.Golden(t, "compared.md", compared)
	checkSafe(t, compared)
	for _, want := range []string{"(1 not read now)", "1 gone", "1 ignored", "The finding that is gone.", "The finding that is carried on.", "partner", "until 2030-01-31"} {
		if !bytes.Contains(compared, []byte(want)) {
			t.Errorf("the compared report does not say %q", want)
		}
	}
	clean := findings.Find(findingstest.Question(), findingstest.Snapshots()[2:3])
	clean.Scopes[0].Endpoints, clean.Scopes[0].Blocked = 3, 3
	findingstest.Golden(t, "clean.md", written(t, clean))
}

func TestAnyName(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		name := rapid.OneOf(rapid.String(), rapid.SampledFrom(findingstest.Hostile()),
			rapid.StringOf(rapid.SampledFrom([]rune("::##[]() \n\r\x1b`|<>&*_-!@ax1.")))).Draw(t, "name")
		checkSafe(t, written(t, findingstest.Renamed(name)))
	})
}

// TestLimit writes reports that are too large in every way: many findings, much evidence, many gaps, long names.
func TestLimit(t *testing.T) {
	long := strings.Repeat("\u202e<", 5000)
	for name, grow := range map[string]func(*findings.Report){
		"findings": func(r *findings.Report) {
			for i := range 20000 {
				f := r.Findings[0]
				f.Subject.ID = fmt.Sprint("rule-", i)
				r.Findings = append(r.Findings, f)
			}
		},
		"evidence": func(r *findings.Report) {
			for i := range 50000 {
				x := r.Exposures[0]
				x.Address = fmt.Sprint("address-", i)
				r.Exposures = append(r.Exposures, x)
				r.Findings[0].Exposures = append(r.Findings[0].Exposures, i+1)
			}
		},
		"gaps": func(r *findings.Report) {
			for i := range 5000 {
				g := r.Scopes[0].Gaps[0]
				g.Cause = fmt.Sprint("cause-", i)
				r.Scopes[0].Gaps = append(r.Scopes[0].Gaps, g)
			}
		},
		"scopes": func(r *findings.Report) {
			for i := range 20000 {
				s := r.Scopes[0]
				s.Account, s.Gaps, s.Complete = fmt.Sprint("account-", i), nil, true
				r.Scopes = append(r.Scopes, s)
			}
		},
		"names": func(r *findings.Report) {
			*r = *findingstest.Renamed(long)
			for range 2000 {
				r.Findings = append(r.Findings, r.Findings[0])
			}
		},
	} {
		r := findingstest.Renamed("name")
		grow(r)
		got := written(t, r)
		if len(got) > Limit {
			t.Errorf("%s: %d bytes, more than %d", name, len(got), Limit)
		}
		if name != "scopes" && !bytes.Contains(got, []byte("more")) {
			t.Errorf("%s: nothing is said of what was left out", name)
		}
		checkSafe(t, got)
	}
}

type broken struct{}

func (broken) Write([]byte) (int, error) { return 0, errors.New("disk full") }

func TestWriteError(t *testing.T) {
	if err := Write(broken{}, findingstest.Report()); err == nil {
		t.Error("no error")
	}
}
