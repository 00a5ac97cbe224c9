package outline

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cloudaudit/cloudaudit/cloud"
	"github.com/cloudaudit/cloudaudit/findings"
	"github.com/cloudaudit/cloudaudit/findings/findingstest"
)

func at(account, region string) cloud.Scope {
	return cloud.Scope{Provider: "aws", Account: account, Region: region}
}

// TestNothingIsLost counts that an outline at any level has every finding, as shown or as hidden, and all evidence.
func TestNothingIsLost(t *testing.T) {
	r := findingstest.Report()
	for _, l := range []findings.Level{"", findings.Note, findings.Warning, findings.Error} {
		o := Of(r, l)
		shown := 0
		for _, g := range o.Groups {
			if !slices.IsSortedFunc(g.Findings, func(a, b Finding) int { return bySeverity(a.Level, b.Level) }) {
				t.Errorf("%s: findings are not most severe first", g.Scope.Scope)
			}
			for _, f := range g.Findings {
				shown++
				if !f.Level.AtLeast(l) {
					t.Errorf("%s is shown at level %s", f.Level, l)
				}
				services := 0
				for _, e := range f.Evidence {
					for _, row := range e.Rows {
						services += len(row.Services)
					}
				}
				if services != len(f.Exposures) {
					t.Errorf("%s shows %d of %d exposures", f.Subject.ID, services, len(f.Exposures))
				}
			}
		}
		if shown+o.Hidden != len(r.Findings) {
			t.Errorf("level %q: %d shown and %d hidden, of %d", l, shown, o.Hidden, len(r.Findings))
		}
		if sum := o.Levels[findings.Error] + o.Levels[findings.Warning] + o.Levels[findings.Note]; sum != shown {
			t.Errorf("level %q: the headline counts %d of %d", l, sum, shown)
		}
	}
}

func TestScopes(t *testing.T) {
	denied := cloud.Gap{Subject: "ec2:DescribeVpcs", Cause: "denied", Hint: "grant it"}
	r := &findings.Report{
		Scopes: []findings.Scope{
			{Scope: at("1", "a"), Complete: true, Endpoints: 2},
			{Scope: at("1", "b"), Complete: true, Endpoints: 3},
			{Scope: at("1", "c"), Gaps: []cloud.Gap{denied}},
			{Scope: at("2", "a"), Gaps: []cloud.Gap{denied, {Subject: "other"}}},
			{Scope: at("3", ""), Interrupt: true},
			{Scope: at("4", ""), Complete: true},
		},
		Findings: []findings.Finding{
			{RuleID: findings.NarrowPublicRange, Level: findings.Note, Scope: at("4", "")},
			{RuleID: findings.ReachableFromInternet, Level: findings.Error, Scope: at("9", "x")},
		},
	}
	o := Of(r, findings.Warning)
	if diff := cmp.Diff([]Account{{"aws", "1", []string{"a", "b"}, 5}}, o.Quiet); diff != "" {
		t.Errorf("quiet (-want +got):\n%s", diff)
	}
	want := []Gap{
		{denied, []Account{{"aws", "1", []string{"c"}, 0}, {"aws", "2", []string{"a"}, 0}}},
		{cloud.Gap{Subject: "other"}, []Account{{"aws", "2", []string{"a"}, 0}}},
	}
	if diff := cmp.Diff(want, o.Gaps); diff != "" {
		t.Errorf("gaps (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]Account{{"aws", "3", nil, 0}}, o.Skipped); diff != "" {
		t.Errorf("skipped (-want +got):\n%s", diff)
	}
	if len(o.Groups) != 1 || o.Groups[0].Scope.Scope != at("9", "x") {
		t.Errorf("the finding of a scope that is not listed is lost: %v", o.Groups)
	}
	if o.Hidden != 1 || o.Read != 3 || o.Scopes != 6 {
		t.Errorf("hidden %d, read %d of %d", o.Hidden, o.Read, o.Scopes)
	}
	if got, want := o.Incomplete(), "3 of 6 scopes read completely. What was not read is not clean."; got != want {
		t.Errorf("Incomplete = %q", got)
	}
	if got, want := o.Gaps[0].Scopes[0].String(), "aws 1: c"; got != want {
		t.Errorf("String = %q, want %q", got, want)
	}
}

func TestWords(t *testing.T) {
	for _, c := range []struct{ got, want string }{
		{Amount(cloud.World, 0.9999), "world 100 %"},
		{Amount(cloud.Wide, 0.0181), "wide 1.81 %"},
		{Amount(cloud.Narrow, 0.0001), "narrow <0.1 %"},
		{Amount(cloud.Opaque, 0), "opaque"},
		{Amount(cloud.None, 0), "none"},
		{Kind("security-group-rule"), "Security group rule"},
		{Kind(""), ""},
		{Resource(findings.Resource{ID: "eni-1", Name: "cache", Instance: "i-1"}), "cache (eni-1, i-1)"},
		{Resource(findings.Resource{ID: "eni-1", Instance: "i-1"}), "eni-1 (i-1)"},
		{Resource(findings.Resource{ID: "x", Name: "x", Instance: "x"}), "x"},
		{List(findings.Subject{ID: "r", List: "sg-1", ListName: "web"}), "web (sg-1)"},
		{List(findings.Subject{ID: "r", List: "net", ListName: "net"}), "net"},
		{List(findings.Subject{ID: "r", List: "r"}), ""},
		{Service(&findings.Exposure{Protocol: "tcp", Port: 11211, FrontPort: 443}), "tcp/443 → 11211"},
		{Count(1, "rule"), "1 rule"},
		{Count(0, "rule"), "0 rules"},
		{(&Outline{}).Headline(), "no findings"},
		{(&Outline{Scopes: 1, Read: 1}).Incomplete(), "Not everything that was asked for could be read. What was not read is not clean."},
		{(&Outline{Complete: true}).Incomplete(), ""},
		{(&Finding{Finding: &findings.Finding{}}).Companions(), ""},
		{(&Finding{Finding: &findings.Finding{With: slices.Repeat([]string{"r"}, 10)}}).Companions(), "Must change together with r, r, r, r, r, r, r, r and 2 more: only together do they admit all of this."},
	} {
		if c.got != c.want {
			t.Errorf("%q, want %q", c.got, c.want)
		}
	}
}
