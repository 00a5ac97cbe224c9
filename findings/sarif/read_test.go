package sarif

import (
	"bytes"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cloudaudit/cloudaudit/cloud"
	"github.com/cloudaudit/cloudaudit/findings"
	"github.com/cloudaudit/cloudaudit/findings/escape"
	"github.com/cloudaudit/cloudaudit/findings/findingstest"
	"github.com/cloudaudit/cloudaudit/findings/jsonreport"
)

func docOf(t *testing.T, r *findings.Report, p Profile) string {
	t.Helper()
	r.Run.Anchor = findings.Location{File: "cloudaudit.yaml", Line: 1}
	var b bytes.Buffer
	if err := Write(&b, r, p); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// TestReadFull: a report comes back from SARIF as it went in, also with a byte-order mark in front and without any scope.
func TestReadFull(t *testing.T) {
	for name, r := range map[string]*findings.Report{
		"all":     findingstest.Report(),
		"nothing": {Complete: true, Ports: []uint16{11211}, Shard: &findings.Shard{Of: 3, Parts: []int{2}}},
	} {
		got, whole, err := Read(strings.NewReader("\ufeff" + docOf(t, r, Full)))
		if err != nil || !whole {
			t.Fatalf("%s: whole %v, %v", name, whole, err)
		}
		var want, again bytes.Buffer
		if err := jsonreport.Write(&want, r); err != nil {
			t.Fatal(err)
		}
		if err := jsonreport.Write(&again, got); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want.String(), again.String()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

// TestReadGitHub: every finding comes back from the smaller profile under its fingerprint and in its scope.
func TestReadGitHub(t *testing.T) {
	type known struct {
		Rule, Fingerprint, Message string
		Level                      findings.Level
		Subject                    findings.Subject
		Scope                      cloud.Scope
	}
	of := func(r *findings.Report) map[string]known {
		out := map[string]known{}
		for _, f := range r.Findings {
			if f.Scope.Account == "hostile-project" {
				continue // what would not show is written out
			}
			out[f.Fingerprint] = known{f.RuleID, f.Fingerprint, escape.Visible(f.Message), f.Level, f.Subject, f.Scope}
		}
		return out
	}
	r := findingstest.Report()
	got, whole, err := Read(strings.NewReader(docOf(t, r, GitHub)))
	if err != nil || whole {
		t.Fatalf("whole %v, %v", whole, err)
	}
	if diff := cmp.Diff(of(r), of(got)); diff != "" {
		t.Errorf("(-written +read):\n%s", diff)
	}
	if len(got.Findings) != len(r.Findings) || got.Complete {
		t.Errorf("%d findings of %d; complete %v", len(got.Findings), len(r.Findings), got.Complete)
	}
}

func TestReadRefuses(t *testing.T) {
	full, github := docOf(t, findingstest.Report(), Full), docOf(t, findingstest.Report(), GitHub)
	for name, doc := range map[string]string{
		"no JSON":        "nothing",
		"other version":  strings.Replace(full, `"version": "2.1.0"`, `"version": "2.2.0"`, 1),
		"other tool":     strings.Replace(full, `"name": "cloudaudit"`, `"name": "trivy"`, 1),
		"later schema":   strings.Replace(full, jsonreport.Schema, "cloudaudit.report/v2", 1),
		"no run":         `{"version": "2.1.0", "runs": []}`,
		"no scope":       `{"version": "2.1.0", "runs": [{"tool": {"driver": {"name": "cloudaudit"}}, "automationDetails": {"id": "other/"}}]}`,
		"later check":    strings.ReplaceAll(github, `"ruleId": "CA102"`, `"ruleId": "CA199"`),
		"left out":       strings.Replace(github, `"findings": [`, `"findings_total": 500, "findings": [`, 1),
		"results beyond": strings.Replace(github, `"complete": `, `"results_total": 9000, "complete": `, 1),
	} {
		if _, _, err := Read(strings.NewReader(doc)); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestScopeOf(t *testing.T) {
	for _, s := range []cloud.Scope{
		{Provider: "aws", Account: "111122223333", Region: "us-east-1"},
		{Provider: "do", Account: "team / 7 %", Region: ""},
	} {
		for _, id := range []string{"", "0b9c"} {
			if got, err := scopeOf(automation(s, id).ID); err != nil || got != s {
				t.Errorf("%v with %q comes back as %v, %v", s, id, got, err)
			}
		}
	}
}

// TestStates: in the full profile every result has its state and says whether it is ignored, in the other none does; there
// what is gone or ignored is left out, and a scope that is unread stays out although old findings of it are carried on.
func TestStates(t *testing.T) {
	now := findingstest.Report()
	now.Findings[1].Suppressed = &findings.Suppression{Reason: "{known} [x](y)", Expires: "2030-01-31", At: &findings.Location{File: "cloudaudit.yaml", Line: 7}}
	old := findingstest.Report()
	old.Run.ID = "8c2a"
	gone := old.Findings[3]
	gone.Fingerprint, gone.Exposures, gone.Scope = "gone", []int{}, cloud.Scope{Provider: "aws", Account: "111122223333", Region: "eu-north-1"}
	carried := gone
	carried.Fingerprint, carried.Scope.Region = "carried", "us-east-1"
	old.Findings = append(old.Findings[1:], gone, carried)
	now.Since(old)

	full := docOf(t, now, Full)
	for _, want := range []struct {
		text string
		n    int
	}{
		{`"baselineState": "new"`, 1},
		{`"baselineState": "absent"`, 1},
		{`"baselineState": "unchanged"`, len(now.Findings) - 2},
		{`"suppressions": []`, len(now.Findings) - 1},
		{`"justification": "{{known}} [x] (y)"`, 1},
		{`as the baseline has it`, 1},
		{`"baselineGuid"`, len(now.Scopes)},
	} {
		if n := strings.Count(full, want.text); n != want.n {
			t.Errorf("full: %s stands there %d times, want %d", want.text, n, want.n)
		}
	}
	github := docOf(t, now, GitHub)
	for _, none := range []string{"baselineState", "suppressions", "baselineGuid", `"carried"`, `"gone"`, now.Findings[1].Fingerprint, "cloudaudit/aws/111122223333/us-east-1/"} {
		if at := strings.Index(github, none); at >= 0 {
			t.Errorf("github: has %s: %s", none, github[max(0, at-200):at+100])
		}
	}
}
