package findings_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cloudaudit/cloudaudit/cloud"
	"github.com/cloudaudit/cloudaudit/findings"
)

// told returns a report of what is found, as "scope fingerprint", in scopes of which some are not complete.
func told(complete, broken []string, found ...string) *findings.Report {
	r := &findings.Report{Complete: len(broken) == 0}
	scope := func(name string) cloud.Scope { return cloud.Scope{Provider: name[:1], Account: name[1:]} }
	for _, s := range complete {
		r.Scopes = append(r.Scopes, findings.Scope{Scope: scope(s), Complete: true})
	}
	for _, s := range broken {
		r.Scopes = append(r.Scopes, findings.Scope{Scope: scope(s)})
	}
	for i, f := range found {
		var where, print string
		_, _ = fmt.Sscan(f, &where, &print)
		s := scope(where)
		r.Exposures = append(r.Exposures, findings.Exposure{Provider: s.Provider, Account: s.Account})
		r.Findings = append(r.Findings, findings.Finding{
			RuleID: findings.ReachableFromInternet, Level: findings.Error, Fingerprint: print, Scope: s, Exposures: []int{i},
			Subject: findings.Subject{ID: print},
		})
	}
	return r
}

// states returns what has become of each finding.
func states(r *findings.Report) []string {
	var out []string
	for _, f := range r.Findings {
		text := f.Fingerprint + " " + string(f.State)
		if f.Carried {
			text += " carried"
		}
		out = append(out, text)
	}
	slices.Sort(out)
	return out
}

func TestSince(t *testing.T) {
	old := told([]string{"a1", "a2", "b1", "b2"}, nil, "a1 one", "a1 two", "a2 three", "b1 four", "b2 five")
	for _, c := range []struct {
		name      string
		now       *findings.Report
		want      []string
		elsewhere int
	}{
		{
			"a finding of every kind", told([]string{"a1", "a2", "b1"}, []string{"b2"}, "a1 one", "a2 six"),
			[]string{"five unchanged carried", "four absent", "one unchanged", "six new", "three absent", "two absent"},
			0,
		},
		{
			"a scope that is read in part", told([]string{"a2", "b1", "b2"}, []string{"a1"}, "a1 one", "a2 three", "b1 four", "b2 five"),
			[]string{"five unchanged", "four unchanged", "one unchanged", "three unchanged", "two unchanged carried"},
			0,
		},
		{
			"another selection", told([]string{"a1"}, nil, "a1 one", "a1 two"),
			[]string{"one unchanged", "two unchanged"},
			3,
		},
		{
			"a cloud whose scopes could not be listed", told([]string{"a1", "a2"}, []string{"bunknown"}, "a1 one", "a1 two", "a2 three"),
			[]string{"five unchanged carried", "four unchanged carried", "one unchanged", "three unchanged", "two unchanged"},
			0,
		},
		{"nothing read", told(nil, []string{"a1", "a2", "b1", "b2"}), []string{
			"five unchanged carried", "four unchanged carried", "one unchanged carried", "three unchanged carried", "two unchanged carried",
		}, 0},
	} {
		c.now.Since(old)
		if diff := cmp.Diff(c.want, states(c.now)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.name, diff)
		}
		if c.now.Baseline.Elsewhere != c.elsewhere {
			t.Errorf("%s: %d elsewhere, want %d", c.name, c.now.Baseline.Elsewhere, c.elsewhere)
		}
	}
}

// TestSinceIsAChain: what is carried on for a night is gone, or still there, in the next, and what is gone is told once.
func TestSinceIsAChain(t *testing.T) {
	nights := []struct {
		now  *findings.Report
		want []string
	}{
		{told([]string{"a1", "a2"}, nil, "a1 one", "a2 two"), []string{"one new", "two new"}},
		{told([]string{"a1"}, []string{"a2"}, "a1 one"), []string{"one unchanged", "two unchanged carried"}},
		{told([]string{"a1"}, []string{"a2"}), []string{"one absent", "two unchanged carried"}},
		{told([]string{"a1", "a2"}, nil), []string{"two absent"}},
		{told([]string{"a1", "a2"}, nil, "a1 one"), []string{"one new"}},
	}
	last := told(nil, nil)
	for i, n := range nights {
		n.now.Since(last)
		if diff := cmp.Diff(n.want, states(n.now)); diff != "" {
			t.Errorf("night %d (-want +got):\n%s", i+1, diff)
		}
		last = again(t, n.now)
	}
}

// TestSinceSuppressed: an ignore that has run out brings its finding back as a new one; one that is made does not.
func TestSinceSuppressed(t *testing.T) {
	why := &findings.Suppression{Reason: "partner", Expires: "2030-01-31"}
	ignored := func(s *findings.Suppression) *findings.Report {
		r := told([]string{"a1"}, nil, "a1 one")
		r.Findings[0].Suppressed = s
		return r
	}
	for _, c := range []struct {
		was, is *findings.Suppression
		want    findings.State
	}{{why, why, findings.Unchanged}, {nil, why, findings.Unchanged}, {why, nil, findings.New}, {nil, nil, findings.Unchanged}} {
		r := ignored(c.is)
		r.Since(ignored(c.was))
		if got := r.Findings[0].State; got != c.want {
			t.Errorf("was %v, is %v: %s, want %s", c.was, c.is, got, c.want)
		}
	}
	r := ignored(why)
	if r.Worst() != "" {
		t.Error("an ignored finding counts")
	}
}

// TestSinceOfAShard: what is in another shard is not for this one to say anything of.
func TestSinceOfAShard(t *testing.T) {
	old := told(nil, nil)
	for i := range 20 {
		name := fmt.Sprintf("a%d", i)
		old.Findings = append(old.Findings, told([]string{name}, nil, name+" "+name).Findings...)
	}
	for i := range old.Findings {
		old.Findings[i].Exposures = nil
	}
	now := told(nil, []string{"aunknown"})
	now.Shard = &findings.Shard{Of: 4, Parts: []int{2}}
	now.Since(old)
	if n := len(now.Findings); n == 0 || n+now.Baseline.Elsewhere != 20 || now.Baseline.Elsewhere == 0 {
		t.Errorf("%d carried and %d elsewhere of 20", n, now.Baseline.Elsewhere)
	}
	for _, f := range now.Findings {
		if !now.Shard.Has(f.Scope) || !f.Carried {
			t.Errorf("%v is in the report", f.Scope)
		}
	}
}
