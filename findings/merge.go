package findings

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/cloudaudit/cloudaudit/cloud"
	"github.com/cloudaudit/cloudaudit/traffic"
)

// Merge joins reports of different scopes, or of different shards, into the report that one run over all of them would have
// given. It is complete only if all of them are, and no shard is missing.
//
// Of a scope that several reports are about one is taken, the others are dropped whole: a complete one before one that is
// not, else the latest. A rule that reports of different scopes find is one finding.
func Merge(reports []*Report) (*Report, error) {
	if len(reports) == 0 {
		return nil, errors.New("merge: no report")
	}
	m := merger{
		reports: reports, taken: map[cloud.Scope]int{}, place: map[[2]int]int{}, covered: map[cloud.Ref]bool{},
		out: &Report{
			Complete: true, Ports: reports[0].Ports, NoPlatformBlock: reports[0].NoPlatformBlock,
			Scopes: []Scope{}, Exposures: []Exposure{}, Findings: []Finding{},
		},
	}
	if err := m.agree(); err != nil {
		return nil, err
	}
	m.scopes()
	m.exposures()
	m.findings()
	return m.out, nil
}

// merger gathers what Merge returns.
type merger struct {
	reports []*Report
	out     *Report
	taken   map[cloud.Scope]int // the report that a scope is taken from
	place   map[[2]int]int      // report and position there to position in out.Exposures
	covered map[cloud.Ref]bool
}

// agree joins what is true of whole reports, and refuses those that answer different questions.
func (m *merger) agree() error {
	parts := map[int]bool{}
	compared := true
	baselines := map[string]bool{}
	elsewhere := 0
	of := 0
	for i, r := range m.reports {
		if !slices.Equal(r.Ports, m.out.Ports) || r.NoPlatformBlock != m.out.NoPlatformBlock {
			return fmt.Errorf("merge: report %d asked something else than the first: other ports, or another assumption about the provider's own block", i+1)
		}
		if r.Shard != nil {
			if of != 0 && of != r.Shard.Of {
				return fmt.Errorf("merge: report %d is of %d shards, and another is of %d", i+1, r.Shard.Of, of)
			}
			of = r.Shard.Of
			for _, p := range r.Shard.Parts {
				parts[p] = true
			}
		}
		if r.Severity != "" && r.Severity.AtLeast(m.out.Severity) {
			m.out.Severity = r.Severity
		}
		m.out.NewOnly = m.out.NewOnly || r.NewOnly
		if r.Baseline == nil {
			compared = false
		} else {
			baselines[r.Baseline.ID] = true
			elsewhere += r.Baseline.Elsewhere
		}
		for _, n := range r.Notices {
			if !slices.Contains(m.out.Notices, n) {
				m.out.Notices = append(m.out.Notices, n)
			}
		}
		for _, ref := range r.Covers {
			m.covered[ref] = true
		}
		// What is incomplete only because shards are missing may have become complete.
		if !r.Complete && len(r.Shard.Missing()) == 0 && !slices.ContainsFunc(r.Scopes, func(s Scope) bool { return !s.Complete }) {
			m.out.Complete = false
		}
	}
	if of != 0 {
		shard := &Shard{Of: of}
		for p := 1; p <= of; p++ {
			if parts[p] {
				shard.Parts = append(shard.Parts, p)
			}
		}
		if len(shard.Missing()) > 0 {
			m.out.Shard, m.out.Complete = shard, false
		}
	}
	if compared {
		m.out.Baseline = &Baseline{Elsewhere: elsewhere}
		if len(baselines) == 1 {
			m.out.Baseline.ID = m.reports[0].Baseline.ID
		}
	}
	return nil
}

// scopes takes each scope from one report.
func (m *merger) scopes() {
	known := map[cloud.Scope]Scope{}
	for i, r := range m.reports {
		for _, s := range r.Scopes {
			was, ok := known[s.Scope]
			if ok && !better(&s, r, &was, m.reports[m.taken[s.Scope]]) {
				continue
			}
			known[s.Scope], m.taken[s.Scope] = s, i
		}
	}
	for _, s := range known {
		m.out.Scopes = append(m.out.Scopes, s)
		m.out.Complete = m.out.Complete && s.Complete
	}
	slices.SortFunc(m.out.Scopes, func(a, b Scope) int { return strings.Compare(a.Scope.String(), b.Scope.String()) })
}

// better says whether a scope of a report is to be taken instead of the same scope of another.
func better(s *Scope, in *Report, was *Scope, from *Report) bool {
	if s.Complete != was.Complete {
		return s.Complete
	}
	if s.Interrupt != was.Interrupt {
		return was.Interrupt
	}
	return in.Run.Finished.After(from.Run.Finished)
}

// from says whether scope is taken from report i. One that no report lists is taken from the first that tells of it.
func (m *merger) from(i int, scope cloud.Scope) bool {
	at, ok := m.taken[scope]
	if !ok {
		m.taken[scope], at = i, i
	}
	return at == i
}

func (m *merger) exposures() {
	type origin struct {
		at [2]int
		x  *Exposure
	}
	var all []origin
	for i, r := range m.reports {
		for j := range r.Exposures {
			if x := &r.Exposures[j]; m.from(i, x.Scope()) {
				all = append(all, origin{[2]int{i, j}, x})
			}
		}
	}
	slices.SortStableFunc(all, func(a, b origin) int { return compareExposures(a.x, b.x) })
	for n, o := range all {
		m.place[o.at] = n
		m.out.Exposures = append(m.out.Exposures, *o.x)
	}
}

// findings joins what is found of one subject, and leaves out what is latent only as long as one looks at one scope.
func (m *merger) findings() {
	type about struct{ provider, scope, kind, list, id string }
	found := map[about][]Finding{}
	var order []about
	apart := map[string]Finding{} // of the baseline only, by fingerprint
	open := map[string]bool{}     // fingerprints
	for i, r := range m.reports {
		for _, f := range r.Findings {
			if f.State == Absent || f.Carried {
				if m.out.Baseline == nil {
					if f.State == Absent {
						continue
					}
					f.State = ""
				}
				if was, ok := apart[f.Fingerprint]; m.from(i, f.Scope) && (!ok || was.State == Absent) {
					apart[f.Fingerprint] = f
				}
				continue
			}
			if m.out.Baseline == nil {
				f.State = ""
			}
			evident := len(f.Exposures) > 0
			var at []int
			for _, j := range f.Exposures {
				if to, ok := m.place[[2]int{i, j}]; ok {
					at = append(at, to)
				}
			}
			if evident && len(at) == 0 || !evident && !m.from(i, f.Scope) {
				continue
			}
			if evident {
				if _, ok := m.place[[2]int{i, f.Exposures[0]}]; !ok {
					f.Path = nil // it leads to what another report knows better
				}
			}
			f.Exposures = append([]int{}, at...)
			s := f.Subject
			key := about{s.Provider, s.Scope, s.Type, s.List, s.ID}
			if len(found[key]) == 0 {
				order = append(order, key)
			}
			found[key] = append(found[key], f)
		}
	}
	for _, key := range order {
		f := m.join(found[key])
		ref := cloud.Ref{Provider: key.provider, Scope: key.scope, Kind: key.kind, ID: key.id}
		if f.RuleID == OpenRuleLatent && m.covered[ref] {
			continue
		}
		open[f.Fingerprint] = true
		m.out.Findings = append(m.out.Findings, f)
	}
	for _, f := range apart {
		if !open[f.Fingerprint] {
			m.out.Findings = append(m.out.Findings, f)
		}
	}
	slices.SortFunc(m.out.Findings, compareFindings)
	if m.out.Shard != nil {
		for ref := range m.covered {
			m.out.Covers = append(m.out.Covers, ref)
		}
		slices.SortFunc(m.out.Covers, cloud.Ref.Compare)
	}
}

// join returns what several reports find of one subject as one finding: under the strongest check, with all the evidence.
func (m *merger) join(parts []Finding) Finding {
	if slices.ContainsFunc(parts, func(f Finding) bool { return len(f.Exposures) > 0 }) {
		parts = slices.DeleteFunc(parts, func(f Finding) bool { return len(f.Exposures) == 0 })
	}
	slices.SortStableFunc(parts, func(a, b Finding) int {
		return cmp.Or(cmp.Compare(rank(a.RuleID), rank(b.RuleID)), strings.Compare(a.Scope.String(), b.Scope.String()))
	})
	out := parts[0]
	if len(parts) == 1 {
		return out
	}
	out.Exposures = slices.Clone(out.Exposures) // the parts keep theirs
	sources := out.Sources.IPSet
	for _, f := range parts[1:] {
		if f.Scope.String() < out.Scope.String() {
			out.Scope = f.Scope
		}
		out.Exposures = append(out.Exposures, f.Exposures...)
		out.Alone = out.Alone && f.Alone
		out.With = append(slices.Clone(out.With), f.With...)
		if f.State == Unchanged && out.State == New && f.Fingerprint == out.Fingerprint {
			out.State = Unchanged
		}
		if sources != nil && f.Sources.IPSet != nil {
			sources = traffic.UnionIPs(sources, f.Sources.IPSet)
		}
	}
	slices.Sort(out.With)
	out.With = slices.Compact(out.With)
	out.Exposures = byStrength(out.RuleID, out.Exposures, m.out.Exposures)
	out.Sources = Sources{sources}
	// What raised the check comes first, with its path: it stands in one of the parts that have this check.
	out.Path = nil
	first := -1
	for _, f := range parts {
		if f.RuleID != out.RuleID || len(f.Path) == 0 {
			continue
		}
		if n := slices.Index(out.Exposures, f.Exposures[0]); first < 0 || n < first {
			out.Path, first = f.Path, n
		}
	}
	toFront(out.Exposures, first)
	// What the probe has added to a message is not known apart from it.
	if check, ok := CheckOf(out.RuleID); ok && sources != nil && len(out.Exposures) > 0 && !proved(out.RuleID) {
		o := offender{sources: sources}
		out.Message = o.message(check, m.out.Exposures, out)
	}
	return out
}

// proved says whether a check is one that only an answer raises.
func proved(id string) bool { return id == MemcachedAnswersTCP || id == MemcachedAmplifier }
