package jsonreport

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"unicode"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/cloudaudit/cloudaudit/cloud"
	"github.com/cloudaudit/cloudaudit/findings"
	"github.com/cloudaudit/cloudaudit/findings/findingstest"
)

func written(t *testing.T, r *findings.Report) []byte {
	t.Helper()
	var out bytes.Buffer
	if err := Write(&out, r); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func TestGolden(t *testing.T) {
	got := written(t, findingstest.Report())
	findingstest.Golden(t, "report.json", got)
	if again := written(t, findingstest.Report()); !bytes.Equal(got, again) {
		t.Error("the same snapshots gave two documents")
	}
	for _, c := range string(got) {
		if c != '\n' && !unicode.IsPrint(c) {
			t.Errorf("the document has %U", c)
		}
	}
	if !bytes.HasSuffix(got, []byte("}\n")) {
		t.Error("no line feed at the end")
	}
}

// TestEmpty holds what the contract says of an audit of nothing: lists are there, and empty.
func TestEmpty(t *testing.T) {
	got := string(written(t, &findings.Report{
		Complete: true, Scopes: []findings.Scope{{Scope: cloud.Scope{Provider: "do", Account: "team"}}},
	}))
	want := `{
  "schema": "cloudaudit.report/v1",
  "complete": true,
  "scopes": [
    {
      "provider": "do",
      "account": "team",
      "complete": false,
      "endpoints": 0,
      "blocked": 0,
      "rules": 0,
      "gaps": []
    }
  ],
  "exposures": [],
  "findings": []
}
`
	if got != want {
		t.Error(cmp.Diff(want, got))
	}
}

// TestContract reads the document by the names of the contract.
func TestContract(t *testing.T) {
	var doc struct {
		Schema   string `json:"schema"`
		Complete *bool  `json:"complete"`
		Scopes   []struct {
			Provider, Account, Region string
			Complete                  *bool
			Endpoints, Rules          *int
			Gaps                      []struct{ Subject, Cause string }
		}
		Exposures []struct {
			Provider, Account, Region   string
			Resource                    struct{ Type, ID, Name, Instance string }
			Address, Protocol           string
			Family, Port                int
			FrontPort                   int `json:"front_port"`
			Via, Verdict, Coverage      string
			Share                       *float64
			AdmittedBy                  []string `json:"admitted_by"`
			Assumes                     []string
			Stage, Reason, Hint, Detail string
		}
		Findings []struct {
			RuleID               string `json:"rule_id"`
			Level                string
			Subject              struct{ Provider, Type, ID, Name string }
			Message, Fingerprint string
			Location             *struct {
				File string
				Line int
			}
		}
	}
	if err := json.Unmarshal(written(t, findingstest.Report()), &doc); err != nil {
		t.Fatal(err)
	}
	if doc.Schema != Schema || doc.Complete == nil || *doc.Complete {
		t.Errorf("schema %q, complete %v", doc.Schema, doc.Complete)
	}
	checks := map[string]bool{}
	for _, f := range doc.Findings {
		checks[f.RuleID] = true
		if f.Subject.Provider == "" || f.Subject.Type == "" || f.Subject.ID == "" || f.Message == "" || f.Fingerprint == "" || f.Level == "" {
			t.Errorf("finding without one of its fields: %+v", f)
		}
	}
	for _, c := range findings.Checks() {
		if !checks[c.ID] {
			t.Errorf("the shared report has no %s", c.ID)
		}
	}
	if l := doc.Findings[0].Location; l == nil || l.File != "network.tf" || l.Line != 12 {
		t.Errorf("location is %v", l)
	}
	verdicts := map[string]bool{}
	for _, x := range doc.Exposures {
		verdicts[x.Verdict] = true
		if x.Address == "" || x.Family == 0 || x.Port != 11211 || x.FrontPort == 0 || x.AdmittedBy == nil || x.Assumes == nil || x.Share == nil {
			t.Errorf("exposure without one of its fields: %+v", x)
		}
	}
	for _, v := range []string{"reachable", "oneway", "provider_only", "unknown"} {
		if !verdicts[v] {
			t.Errorf("the shared report has no exposure that is %s", v)
		}
	}
	for _, s := range doc.Scopes {
		if s.Provider == "" || s.Account == "" || s.Complete == nil || s.Endpoints == nil || s.Rules == nil || s.Gaps == nil {
			t.Errorf("scope without one of its fields: %+v", s)
		}
	}
}

func TestRead(t *testing.T) {
	want := findingstest.Report()
	doc := written(t, want)
	got, err := Read(bytes.NewReader(doc))
	if err != nil {
		t.Fatal(err)
	}
	if again := written(t, got); !bytes.Equal(doc, again) {
		t.Errorf("what was read is written otherwise:\n%s", cmp.Diff(string(doc), string(again)))
	}
	scopes := func(r *findings.Report) (out []cloud.Scope) {
		for _, f := range r.Findings {
			out = append(out, f.Scope)
		}
		return out
	}
	if diff := cmp.Diff(scopes(want), scopes(got), cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("scopes of the findings (-want +got):\n%s", diff)
	}
	for name, text := range map[string]string{
		"no JSON":      `nothing`,
		"no schema":    `{"complete": true}`,
		"other schema": strings.Replace(string(doc), "/v1", "/v2", 1),
		"two":          string(doc) + "{}",
		"position":     `{"schema": "cloudaudit.report/v1", "findings": [{"exposures": [0]}]}`,
	} {
		if _, err := Read(strings.NewReader(text)); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
