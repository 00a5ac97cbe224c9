package text

import (
	"bytes"
	"errors"
	"regexp"
	"strings"
	"testing"
	"unicode"

	"pgregory.net/rapid"

	"github.com/cloudaudit/cloudaudit/cloud"
	"github.com/cloudaudit/cloudaudit/findings"
	"github.com/cloudaudit/cloudaudit/findings/findingstest"
)

func report(t *testing.T, r *findings.Report, opts Options) []byte {
	t.Helper()
	var out bytes.Buffer
	if err := Write(&out, r, opts); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// explained returns the paths to all endpoints of the shared snapshots but those of the fleet, which are all alike.
func explained(t *testing.T, opts Options) []byte {
	t.Helper()
	var all []Explained
	for _, s := range findingstest.Snapshots() {
		for i := range s.Endpoints {
			if strings.HasPrefix(s.Endpoints[i].Name, "cache-1") && s.Endpoints[i].Name != "cache-1" {
				continue
			}
			for _, svc := range findingstest.Question().Services() {
				if a, steps, ok := findingstest.Question().Trace(&s.Endpoints[i], svc); ok {
					all = append(all, Explained{a, steps})
				}
			}
		}
	}
	var out bytes.Buffer
	if err := Explain(&out, all, opts); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

var (
	paint   = regexp.MustCompile("\x1b\\[[0-9;]+m")
	command = regexp.MustCompile(`(?m)^\s*::|##\[|##vso\[`)
)

// checkSafe fails if text has a control character or a workflow command.
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
}

func TestGolden(t *testing.T) {
	for name, opts := range map[string]Options{
		"report.txt":  {Width: 100},
		"narrow.txt":  {Width: 60, Severity: findings.Warning},
		"unbound.txt": {Severity: findings.Error},
	} {
		got := report(t, findingstest.Report(), opts)
		findingstest.Golden(t, name, got)
		checkSafe(t, got)
		if again := report(t, findingstest.Report(), opts); !bytes.Equal(got, again) {
			t.Errorf("%s: the same snapshots gave two texts", name)
		}
	}
	compared := report(t, findingstest.Compared(), Options{Width: 100})
	findingstest.Golden(t, "compared.txt", compared)
	checkSafe(t, compared)
	for _, want := range []string{"(1 not read now)", "1 gone", "1 ignored", "The finding that is gone.", "The finding that is carried on.", "partner", "until 2030-01-31"} {
		if !bytes.Contains(compared, []byte(want)) {
			t.Errorf("the compared report does not say %q", want)
		}
	}
	got := explained(t, Options{Width: 100})
	findingstest.Golden(t, "explain.txt", got)
	checkSafe(t, got)
}

func TestClean(t *testing.T) {
	s := findings.Scope{Scope: cloud.Scope{Provider: "aws", Account: "1", Region: "eu-west-1"}, Complete: true, Endpoints: 3, Blocked: 3, Rules: 9}
	got := string(report(t, &findings.Report{Complete: true, Scopes: []findings.Scope{s}}, Options{Width: 40}))
	if !strings.Contains(got, "nothing found") || strings.Contains(got, "INCOMPLETE") {
		t.Errorf("a clean report reads\n%s", got)
	}
	s.Complete, s.Interrupt = false, true
	got = string(report(t, &findings.Report{Scopes: []findings.Scope{s}}, Options{}))
	if strings.Contains(got, "nothing found") || !strings.Contains(got, "INCOMPLETE") || !strings.Contains(got, "the run ended before") {
		t.Errorf("an interrupted report reads\n%s", got)
	}
}

// TestColor checks that colour adds nothing but colour, and is not there without being asked for.
func TestColor(t *testing.T) {
	for name, write := range map[string]func(Options) []byte{
		"report":  func(o Options) []byte { return report(t, findingstest.Report(), o) },
		"explain": func(o Options) []byte { return explained(t, o) },
	} {
		bare, painted := write(Options{Width: 80}), write(Options{Width: 80, Color: true})
		if !bytes.Contains(painted, []byte("\x1b[1;31m")) && name == "report" {
			t.Errorf("%s: no red", name)
		}
		lines := strings.Split(string(paint.ReplaceAll(painted, nil)), "\n")
		for i, want := range strings.Split(string(bare), "\n") {
			if got := strings.TrimRight(lines[i], " "); got != want {
				t.Errorf("%s line %d: %q with colour, %q without", name, i+1, got, want)
			}
		}
		checkSafe(t, paint.ReplaceAll(painted, nil))
	}
}

func TestWidth(t *testing.T) {
	r := findings.Find(findingstest.Question(), findingstest.Snapshots()[:1])
	for line := range strings.Lines(string(report(t, r, Options{Width: 100}))) {
		if n := width(strings.TrimSuffix(line, "\n")); n > 100 {
			t.Errorf("%d columns: %s", n, line)
		}
	}
}

// TestAnyName puts any text at all in the place of every name.
func TestAnyName(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		name := rapid.OneOf(rapid.String(), rapid.SampledFrom(findingstest.Hostile()),
			rapid.StringOf(rapid.SampledFrom([]rune("::##[] \n\r\x1b\u009b\u202eax")))).Draw(t, "name")
		r := findingstest.Renamed(name)
		var out bytes.Buffer
		if err := Write(&out, r, Options{Width: rapid.IntRange(0, 120).Draw(t, "width")}); err != nil {
			t.Fatal(err)
		}
		checkSafe(t, out.Bytes())
	})
}

type broken struct{}

func (broken) Write([]byte) (int, error) { return 0, errors.New("disk full") }

func TestWriteError(t *testing.T) {
	if err := Write(broken{}, findingstest.Report(), Options{}); err == nil {
		t.Error("Write on a broken writer gave no error")
	}
	if err := Explain(broken{}, nil, Options{}); err == nil {
		t.Error("Explain on a broken writer gave no error")
	}
}
