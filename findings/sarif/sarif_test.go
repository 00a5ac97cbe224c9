package sarif

import (
	"bytes"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode"

	"pgregory.net/rapid"

	"github.com/cloudaudit/cloudaudit/cloud"
	"github.com/cloudaudit/cloudaudit/findings"
	"github.com/cloudaudit/cloudaudit/findings/findingstest"
)

// report returns the report of all writers' tests as one run of the program would give it.
func report() *findings.Report {
	r := findingstest.Report()
	r.Findings[0].Location.Text = "  ingress { cidr_blocks = [\"0.0.0.0/0\"] # caf\u00e9 \U0001F600"
	r.Run = findings.Run{Version: "v1.2.3", Exit: 1, Anchor: findings.Location{File: "cloudaudit.yaml", Line: 2, Text: "providers: [aws, gcp, do]"}}
	return r
}

var repository = findings.Repository{URI: "https://github.com/example/infrastructure", Revision: "52f0a0c", Branch: "main"}

func written(t rapid.TB, r *findings.Report, p Profile) []byte {
	t.Helper()
	var out bytes.Buffer
	in := *r
	in.Run.Repository = repository
	if err := Write(&out, &in, p); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// decoded returns what was written, by the structs that wrote it: unknown names would be an error.
func decoded(t rapid.TB, doc []byte) document {
	t.Helper()
	var d document
	dec := json.NewDecoder(bytes.NewReader(doc))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&d); err != nil {
		t.Fatal(err)
	}
	return d
}

func parsed(t rapid.TB, r *findings.Report, p Profile) document {
	t.Helper()
	return decoded(t, written(t, r, p))
}

func TestGolden(t *testing.T) {
	for _, p := range []Profile{Full, GitHub} {
		got := written(t, report(), p)
		findingstest.Golden(t, string(p)+".sarif", got)
		if again := written(t, report(), p); !bytes.Equal(got, again) {
			t.Errorf("%s: the same report gave two files", p)
		}
		for _, c := range string(got) {
			if c != '\n' && !unicode.IsPrint(c) {
				t.Errorf("%s: the file has %U", p, c)
			}
		}
	}
}

// embedded is an embedded link as viewers look for it.
var embedded = regexp.MustCompile(`\[([^\]]*)\]\(([^)]+)\)`)

// TestLaws holds what every result of both profiles has to be.
func TestLaws(t *testing.T) {
	for _, p := range []Profile{Full, GitHub} {
		d := parsed(t, report(), p)
		seen, categories := map[string]bool{}, map[string]bool{}
		for _, run := range d.Runs {
			if categories[run.AutomationDetails.ID] {
				t.Errorf("%s: two runs are %q", p, run.AutomationDetails.ID)
			}
			categories[run.AutomationDetails.ID] = true
			failed := slices.ContainsFunc(run.Invocations[0].Notifications, func(n notification) bool { return n.Level == "error" })
			if failed == run.Invocations[0].ExecutionSuccessful {
				t.Errorf("%s: %s is successful: %v, and has an error: %v", p, run.AutomationDetails.ID, !failed, failed)
			}
			lines := map[string]bool{}
			for _, r := range run.Results {
				seen[r.RuleID] = true
				at := fmt.Sprintf("%s: %s: %s %s", p, run.AutomationDetails.ID, r.RuleID, r.Message.Arguments)
				rule := run.Tool.Driver.Rules[r.RuleIndex]
				if rule.ID != r.RuleID {
					t.Errorf("%s: rule %d is %s", at, r.RuleIndex, rule.ID)
				}
				if open := r.RuleID == findings.Undetermined && p == Full; (r.Kind == "open") != open || (r.Level == "none") != open {
					t.Errorf("%s: kind %s, level %s", at, r.Kind, r.Level)
				}
				if p == GitHub && r.Level != rule.DefaultConfiguration.Level {
					t.Errorf("%s: level %s, and of the rule %s", at, r.Level, rule.DefaultConfiguration.Level)
				}
				if !strings.HasSuffix(r.Message.Text, ".") || strings.Contains(r.Message.Text, "\n") {
					t.Errorf("%s: message %q", at, r.Message.Text)
				}
				if len(r.PartialFingerprints.Exposure) != 32 || len(r.Properties.Findings) == 0 {
					t.Errorf("%s: fingerprint %q, %d findings", at, r.PartialFingerprints.Exposure, len(r.Properties.Findings))
				}
				logical := r.Locations[0].LogicalLocations[0]
				if logical.FullyQualifiedName == "" || run.LogicalLocations[*logical.Index].FullyQualifiedName != logical.FullyQualifiedName {
					t.Errorf("%s: logical location %+v", at, logical)
				}
				checkLinks(t, at, r)
				place := fmt.Sprint(r.RuleID, r.Locations[0].PhysicalLocation.ArtifactLocation.URI, r.Locations[0].PhysicalLocation.Region.StartLine)
				if lines[place] && p == GitHub {
					t.Errorf("%s: two results on one line", at)
				}
				lines[place] = true
				for _, flow := range r.CodeFlows {
					steps := flow.ThreadFlows[0].Locations
					if first, last := steps[0], steps[len(steps)-1]; first.Importance != "essential" || last.Importance != "essential" || first.ExecutionOrder != 1 {
						t.Errorf("%s: the path begins with %+v and ends with %+v", at, first, last)
					}
				}
			}
		}
		for _, c := range findings.Checks() {
			if !seen[c.ID] {
				t.Errorf("%s: no result of %s", p, c.ID)
			}
		}
	}
}

// checkLinks wants one related location for each link of the message, and no other link in it.
func checkLinks(t rapid.TB, at string, r result) {
	t.Helper()
	links := embedded.FindAllStringSubmatch(r.Message.Text, -1)
	for _, l := range links {
		if n, err := strconv.Atoi(l[2]); err != nil || n < 1 || n > len(r.RelatedLocations) {
			t.Errorf("%s: link %q leads nowhere", at, l[0])
		}
	}
	for i, l := range r.RelatedLocations {
		if *l.ID != i+1 || l.Message == nil || strings.Count(r.Message.Text, "]("+itoa(i+1)+")") != 1 {
			t.Errorf("%s: related location %d has id %d, and the message is %q", at, i+1, *l.ID, r.Message.Text)
		}
	}
}

// category returns the run of a scope.
func category(d document, id string) *run {
	i := slices.IndexFunc(d.Runs, func(r run) bool { return r.AutomationDetails.ID == id })
	if i < 0 {
		return nil
	}
	return &d.Runs[i]
}

func notes(r *run) (out []string) {
	for _, n := range r.Invocations[0].Notifications {
		out = append(out, n.Descriptor.ID+" "+n.Level)
	}
	return out
}

// TestIncomplete holds that what could not be read closes no alert unseen.
func TestIncomplete(t *testing.T) {
	full, github := parsed(t, report(), Full), parsed(t, report(), GitHub)

	const unread = "cloudaudit/aws/111122223333/us-east-1/"
	r := category(full, unread)
	if r == nil || r.Invocations[0].ExecutionSuccessful || !slices.Equal(notes(r), []string{"CA901 error", "CA902 error"}) {
		t.Errorf("full: the unread scope is %+v", r)
	}
	if category(github, unread) != nil || !slices.Contains(notes(&github.Runs[0]), "CA904 warning") {
		t.Errorf("github: the unread scope has a run, or nothing says that it has none: %v", notes(&github.Runs[0]))
	}

	const partly = "cloudaudit/do/team-7f/"
	if r := category(full, partly); !r.Invocations[0].ExecutionSuccessful || !slices.Equal(notes(r), []string{"CA902 warning"}) || len(r.Results) != 2 {
		t.Errorf("full: the scope with a gap is %+v", r)
	}
	r = category(github, partly)
	last := r.Results[len(r.Results)-1]
	if len(r.Results) != 3 || last.RuleID != findings.Undetermined || last.Kind != "fail" || last.Level != "warning" ||
		last.Properties.Findings[0].Unread != "GET /v2/load_balancers" || !strings.Contains(last.Message.Text, "'GET /v2/load_balancers' could not be read") {
		t.Errorf("github: the scope with a gap is %+v", r.Results)
	}

	// A scope with a gap in which nothing was found is not an empty successful run.
	quiet := report()
	quiet.Findings = nil
	for _, run := range parsed(t, quiet, GitHub).Runs {
		if !run.Properties.Complete && len(run.Results) == 0 {
			t.Errorf("%s is incomplete and has no results", run.AutomationDetails.ID)
		}
	}

	skipped := &findings.Report{Scopes: []findings.Scope{
		{Scope: cloud.Scope{Provider: "aws", Account: "1", Region: "r-1"}, Interrupt: true},
		{Scope: cloud.Scope{Provider: "aws", Account: "1", Region: "r-2"}, Interrupt: true},
	}, Run: report().Run}
	d := parsed(t, skipped, GitHub)
	if len(d.Runs) != 1 || d.Runs[0].Invocations[0].ExecutionSuccessful || !slices.Equal(notes(&d.Runs[0]), []string{"CA901 error", "CA904 warning"}) {
		t.Errorf("of two unread scopes there are %d runs: %v", len(d.Runs), notes(&d.Runs[0]))
	}
	if d := parsed(t, skipped, Full); len(d.Runs) != 2 {
		t.Errorf("full: %d runs", len(d.Runs))
	}
	skipped.Scopes[0].Endpoints = 3
	d = parsed(t, skipped, GitHub)
	if len(d.Runs) != 1 || !d.Runs[0].Invocations[0].ExecutionSuccessful || len(d.Runs[0].Results) != 1 || notes(&d.Runs[0])[0] != "CA902 warning" {
		t.Errorf("an interrupted scope is %+v", d.Runs)
	}
}

func TestNothing(t *testing.T) {
	for _, p := range []Profile{Full, GitHub} {
		if got := string(written(t, &findings.Report{Complete: true}, p)); !strings.Contains(got, `"runs": []`) {
			t.Errorf("%s: %s", p, got)
		}
	}
}

func TestScopes(t *testing.T) {
	r := report()
	r.Scopes = append(r.Scopes[:1:1], r.Scopes[0])
	r.Scopes[1].Complete = false
	d := parsed(t, r, Full)
	if got := category(d, "cloudaudit/aws/111122223333/eu-north-1/"); got.Properties.Complete {
		t.Errorf("a scope that is listed twice, once incomplete, is complete")
	}
	if category(d, "cloudaudit/aws/111122223333/eu-west-1/") == nil {
		t.Error("a scope that only findings name has no run")
	}
}

func TestMerge(t *testing.T) {
	r := report()
	run := category(parsed(t, r, GitHub), "cloudaudit/gcp/hostile-project/")
	var all []string
	for _, x := range run.Results {
		for _, f := range x.Properties.Findings {
			all = append(all, f.Fingerprint)
		}
	}
	for _, f := range r.Findings {
		if f.Scope.Account == "hostile-project" && !slices.Contains(all, f.Fingerprint) {
			t.Errorf("%s of %q is in no result", f.RuleID, f.Subject.ID)
		}
	}
	if len(run.Results) != 2 || len(run.Results[0].RelatedLocations) != maxLinked || !strings.HasSuffix(run.Results[0].Message.Text, " and 3 more.") {
		t.Errorf("24 findings on one line are %d results: %s", len(run.Results), run.Results[0].Message.Text)
	}
	first := run.Results[0].PartialFingerprints
	slices.Reverse(r.Findings)
	if again := category(parsed(t, r, GitHub), "cloudaudit/gcp/hostile-project/").Results[0].PartialFingerprints; again != first {
		t.Error("the fingerprint of a set depends on its order")
	}
	r = report()
	for i := range r.Findings {
		r.Findings[i].Location = &findings.Location{File: "main.tf", Line: i + 1}
	}
	if run := category(parsed(t, r, GitHub), "cloudaudit/gcp/hostile-project/"); len(run.Results) != 25+1 {
		t.Errorf("25 findings on as many lines, and gaps, are %d results", len(run.Results))
	}
}

// TestFingerprints holds that code that moves does not make a finding new.
func TestFingerprints(t *testing.T) {
	all := func(r *findings.Report) (out []string) {
		for _, run := range parsed(t, r, Full).Runs {
			for _, x := range run.Results {
				out = append(out, x.PartialFingerprints.Exposure)
			}
		}
		return out
	}
	moved := report()
	moved.Findings[0].Location = &findings.Location{File: "moved.tf", Line: 99}
	moved.Run.Anchor = findings.Location{File: "other.yaml", Line: 7}
	want := all(report())
	if got := all(moved); !slices.Equal(got, want) {
		t.Errorf("fingerprints are %v, were %v", got, want)
	}
	slices.Sort(want)
	if len(slices.Compact(want)) != len(report().Findings) {
		t.Error("two findings have one fingerprint")
	}
}

func TestRun(t *testing.T) {
	r := report()
	r.Run.ID = "7d0b1f6e-2f0e-4c43-9d0a-0f6a4b1d7c11"
	r.Run.Started = time.Date(2026, 11, 24, 10, 0, 0, 5e6, time.FixedZone("", 3600))
	r.Run.Finished = r.Run.Started.Add(90 * time.Second)
	r.Run.Exit = 3
	d := parsed(t, r, Full)
	guids := map[string]bool{}
	for _, run := range d.Runs {
		if !strings.HasSuffix(run.AutomationDetails.ID, "/"+r.Run.ID) {
			t.Errorf("id %q", run.AutomationDetails.ID)
		}
		if !regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-5[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`).MatchString(run.AutomationDetails.GUID) {
			t.Errorf("guid %q", run.AutomationDetails.GUID)
		}
		guids[run.AutomationDetails.GUID] = true
		in := run.Invocations[0]
		if in.StartTimeUTC != "2026-11-24T09:00:00.005Z" || in.EndTimeUTC != "2026-11-24T09:01:30.005Z" || in.ExitCode != 3 || !strings.Contains(in.ExitCodeDescription, "could not be read") {
			t.Errorf("invocation %+v", in)
		}
	}
	if len(guids) != len(d.Runs) {
		t.Errorf("%d runs have %d guids", len(d.Runs), len(guids))
	}
	if plain := string(written(t, report(), Full)); strings.Contains(plain, "guid") || strings.Contains(plain, "TimeUtc") {
		t.Error("a reproducible run has a guid or a time")
	}
	for status, words := range map[int]string{0: "Nothing", 1: "findings", 2: "usage", 4: "fix", 130: "interrupted", 77: "77"} {
		if got := exitDescription(status); !strings.Contains(got, words) || !strings.HasSuffix(got, ".") {
			t.Errorf("exit status %d: %s", status, got)
		}
	}
	odd := &findings.Report{Scopes: []findings.Scope{{Scope: cloud.Scope{Provider: "aws"}, Complete: true}, {Scope: cloud.Scope{Provider: "do", Account: "a/b c"}, Complete: true}}}
	d = parsed(t, odd, Full)
	if a, b := d.Runs[0].AutomationDetails.ID, d.Runs[1].AutomationDetails.ID; a != "cloudaudit/aws/-/" || b != "cloudaudit/do/a%2Fb%20c/" {
		t.Errorf("ids %q and %q", a, b)
	}
}

// many returns a report of n scopes, each with a finding on each of so many lines; the last scopes have the most severe.
func many(scopes, lines int) *findings.Report {
	r := &findings.Report{Complete: true, Run: report().Run}
	for i := range scopes {
		s := cloud.Scope{Provider: "aws", Account: "111122223333", Region: fmt.Sprintf("r-%03d", i)}
		r.Scopes = append(r.Scopes, findings.Scope{Scope: s, Complete: true, Rules: lines})
		for n := range lines {
			f := findings.Finding{
				RuleID: findings.NarrowPublicRange, Level: findings.Note, Scope: s, Message: fmt.Sprintf("Rule '%d' of '%d' is open.", n, i),
				Subject:     findings.Subject{Provider: "aws", Scope: s.Account + "/" + s.Region, Type: "security-group-rule", ID: fmt.Sprintf("sgr-%d-%d", i, n), List: "sg-1"},
				Fingerprint: fmt.Sprintf("%032x", i<<20|n), Location: &findings.Location{File: "main.tf", Line: n + 1},
			}
			if i >= scopes-2 || n == lines-1 {
				f.RuleID, f.Level = findings.ReachableFromInternet, findings.Error
			}
			r.Findings = append(r.Findings, f)
		}
	}
	return r
}

func TestLimits(t *testing.T) {
	l := limitsOf(GitHub)
	d := parsed(t, many(l.runs+3, 2), GitHub)
	if len(d.Runs) != l.runs {
		t.Errorf("%d runs", len(d.Runs))
	}
	if n := len(notes(&d.Runs[0])); n != 3 {
		t.Errorf("%d notes on 3 runs that are left out", n)
	}
	mild := many(l.runs+3, 1)
	for i := range mild.Findings[:l.runs+1] {
		mild.Findings[i].RuleID, mild.Findings[i].Level = findings.NarrowPublicRange, findings.Note
	}
	d = parsed(t, mild, GitHub)
	for _, region := range []string{"r-021", "r-022"} {
		if category(d, "cloudaudit/aws/111122223333/"+region+"/") == nil {
			t.Errorf("the run of %s, which has the most severe findings, is left out", region)
		}
	}

	run := parsed(t, many(1, l.results+10), GitHub).Runs[0]
	if len(run.Results) != l.results || run.Results[0].Level != "error" || !slices.Equal(notes(&run), []string{"CA903 warning"}) {
		t.Errorf("%d results, the first %s, notes %v", len(run.Results), run.Results[0].Level, notes(&run))
	}
	if run := parsed(t, many(1, l.results+10), Full).Runs[0]; len(run.Results) != l.results+10 || len(notes(&run)) != 0 {
		t.Errorf("full: %d results, notes %v", len(run.Results), notes(&run))
	}

	long := many(1, 1)
	for i := range 3 * l.steps / 2 {
		long.Findings[0].Path = append(long.Findings[0].Path, findings.Step{Stage: "layer", Text: fmt.Sprintf("Admits %d.", i)})
	}
	run = parsed(t, long, GitHub).Runs[0]
	if n := len(run.Results[0].CodeFlows[0].ThreadFlows[0].Locations); n != l.steps || !slices.Equal(notes(&run), []string{"CA903 warning"}) {
		t.Errorf("%d steps, notes %v", n, notes(&run))
	}

	wide := many(1, 1)
	for i := range 10 * maxExposures {
		wide.Findings[0].Exposures = append(wide.Findings[0].Exposures, i)
		wide.Exposures = append(wide.Exposures, findings.Exposure{AdmittedBy: slices.Repeat([]string{"sgr"}, 10*maxAdmitted)})
	}
	got := parsed(t, wide, Full).Runs[0].Results[0].Properties
	if len(got.Exposures) != maxExposures || got.ExposuresTotal != 10*maxExposures || len(got.Exposures[0].AdmittedBy) != maxAdmitted {
		t.Errorf("%d exposures of %d", len(got.Exposures), got.ExposuresTotal)
	}
}

func TestCompressed(t *testing.T) {
	l := limitsOf(GitHub)
	l.compressed = 40 << 10
	doc, err := fitting(many(1, 3000), GitHub, l, nil)
	if err != nil {
		t.Fatal(err)
	}
	run := decoded(t, doc).Runs[0]
	if gzipped(doc) > l.compressed || len(run.Results) == 0 || len(run.Results) == 3000 || run.Results[0].Level != "error" || !slices.Equal(notes(&run), []string{"CA903 warning"}) {
		t.Errorf("%d bytes, %d results, notes %v", gzipped(doc), len(run.Results), notes(&run))
	}
	l.compressed = 100
	if _, err := fitting(many(1, 3000), GitHub, l, nil); err == nil || !strings.Contains(err.Error(), "scan fewer scopes") {
		t.Errorf("error is %v", err)
	}
}

func TestErrors(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(*findings.Report)
		want   string
	}{
		"no anchor":     {func(r *findings.Report) { r.Run.Anchor = findings.Location{} }, "no line in the repository"},
		"absolute path": {func(r *findings.Report) { r.Findings[0].Location.File = "/etc/passwd" }, `"/etc/passwd" is not a path within the repository`},
		"outside":       {func(r *findings.Report) { r.Findings[0].Location.File = "a/../../b.tf" }, "not a path within"},
		"backslash":     {func(r *findings.Report) { r.Findings[0].Location.File = `a\b.tf` }, "not a path within"},
		"itself":        {func(r *findings.Report) { r.Findings[0].Location.File = "./" }, "not a path within"},
		"unknown check": {func(r *findings.Report) { r.Findings[0].RuleID = "CA\x1b000" }, `there is no check "CA\\u{1b}000"`},
	} {
		t.Run(name, func(t *testing.T) {
			r := report()
			tc.change(r)
			var out bytes.Buffer
			err := Write(&out, r, GitHub)
			if err == nil || !strings.Contains(err.Error(), tc.want) || out.Len() > 0 {
				t.Errorf("error is %v, want %q", err, tc.want)
			}
		})
	}
	if err := Write(&bytes.Buffer{}, report(), "gitlab"); err == nil {
		t.Error("no error for a profile that does not exist")
	}
	for _, uri := range []string{"github.com/a/b", "https://user:secret@github.com/a/b", "::"} {
		r := report()
		r.Run.Repository.URI = uri
		if err := Write(&bytes.Buffer{}, r, Full); err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("repository %q: error is %v", uri, err)
		}
	}
}
