package sarif

import (
	"crypto/sha1" // UUIDs of version 5 are made with it
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/cloudaudit/cloudaudit/cloud"
	"github.com/cloudaudit/cloudaudit/findings"
	"github.com/cloudaudit/cloudaudit/findings/escape"
)

// scope is a scope of the report and what was found in it.
type scope struct {
	findings.Scope
	found []*findings.Finding
}

// unread says whether nothing at all is known of s.
func (s *scope) unread() bool {
	found := slices.ContainsFunc(s.found, func(f *findings.Finding) bool { return !f.Carried && f.State != findings.Absent })
	return !s.complete() && !found && s.Endpoints == 0 && s.Rules == 0
}

func (s *scope) complete() bool { return s.Complete && !s.Interrupt && len(s.Gaps) == 0 }

// scopes returns the scopes of the report with their findings. One that is only named by a finding is there too, and one
// that is named twice is there once: two runs of one category are rejected.
func (w *writer) scopes() []*scope {
	var out []*scope
	at := map[cloud.Scope]*scope{}
	for _, s := range w.report.Scopes {
		if have, ok := at[s.Scope]; ok {
			have.Complete = have.Complete && s.Complete
			have.Interrupt = have.Interrupt || s.Interrupt
			have.Endpoints += s.Endpoints
			have.Blocked += s.Blocked
			have.Rules += s.Rules
			have.Gaps = slices.Concat(have.Gaps, s.Gaps)
			continue
		}
		at[s.Scope] = &scope{Scope: s}
		out = append(out, at[s.Scope])
	}
	for i := range w.report.Findings {
		f := &w.report.Findings[i]
		s, ok := at[f.Scope]
		if !ok {
			s = &scope{Scope: findings.Scope{Scope: f.Scope, Complete: w.report.Complete}}
			at[f.Scope] = s
			out = append(out, s)
		}
		s.found = append(s.found, f)
		if f.Location != nil {
			w.places[place{f.Subject.Provider, f.Subject.Scope, f.Subject.ID}] = *f.Location
		}
	}
	return out
}

// runs returns the runs of the file.
func (w *writer) runs() ([]run, error) {
	scopes, leftOut := w.choose(w.scopes())
	runs := make([]run, 0, len(scopes))
	for i, s := range scopes {
		var notes []notification
		if i == 0 {
			notes = slices.Concat(w.shards(), leftOut)
		}
		r, err := w.run(s, notes)
		if err != nil {
			return nil, err
		}
		runs = append(runs, r)
	}
	return runs, nil
}

// shards says which parts of the scopes are not in the report.
func (w *writer) shards() []notification {
	if w.report.Shard == nil {
		return nil
	}
	return []notification{notify(shardsMissing, findings.Warning,
		fmt.Sprintf("The file has the shards '%s' of all scopes, and what is in the others is not known here", w.report.Shard))}
}

// choose returns the scopes that have a run, and what to say of the others.
func (w *writer) choose(scopes []*scope) (chosen []*scope, leftOut []notification) {
	if w.profile != GitHub {
		return scopes, nil
	}
	leave := func(s *scope, why string) {
		if len(leftOut) < maxNotices {
			leftOut = append(leftOut, notify(scopeLeftOut, findings.Warning,
				fmt.Sprintf("The scope '%s' is left out because %s; its alerts stay as they are", s, why)))
		}
	}
	for _, s := range scopes {
		if s.unread() {
			leave(s, "it could not be read")
			continue
		}
		chosen = append(chosen, s)
	}
	if len(chosen) == 0 && len(scopes) > 0 {
		return scopes[:1], leftOut[1:]
	}
	if len(chosen) <= w.limits.runs {
		return chosen, leftOut
	}
	// Those with the most severe findings stay. The others are not forgotten: what is known of them changes nothing.
	ranked := slices.Clone(chosen)
	slices.SortStableFunc(ranked, func(a, b *scope) int { return bySeverity(w.worst(a), w.worst(b)) })
	stay := map[*scope]bool{}
	for _, s := range ranked[:w.limits.runs] {
		stay[s] = true
	}
	return slices.DeleteFunc(chosen, func(s *scope) bool {
		if !stay[s] {
			leave(s, fmt.Sprintf("a file takes %d runs", w.limits.runs))
		}
		return !stay[s]
	}), leftOut
}

func (w *writer) worst(s *scope) findings.Level {
	var worst findings.Level
	for _, f := range s.found {
		if l := w.level(f.RuleID, f.Level); f.Open() && !worst.AtLeast(l) {
			worst = l
		}
	}
	return worst
}

// bySeverity orders the most severe level first.
func bySeverity(a, b findings.Level) int {
	switch {
	case a == b:
		return 0
	case a.AtLeast(b):
		return -1
	}
	return 1
}

// run returns the run of s, which says notes besides.
func (w *writer) run(s *scope, notes []notification) (run, error) {
	rb := runBuilder{writer: w, scope: s, logical: map[string]int{}}
	results, err := rb.results()
	if err != nil {
		return run{}, fmt.Errorf("%s: %w", escape.Visible(s.String()), err)
	}
	properties := runProperties{
		Scope: s.Scope.Scope, Complete: s.complete(), Endpoints: s.Endpoints, Blocked: s.Blocked, Rules: s.Rules, Ports: w.report.Ports,
		ResultsTotal: rb.total,
	}
	if w.report.Shard != nil {
		properties.Shard = w.report.Shard.String()
	}
	return run{
		Tool:        tool{Driver: w.driver(s.Provider)},
		Invocations: []invocation{w.invocation(s, slices.Concat(s.notifications(w), rb.notes, notes))},
		OriginalURIBaseIDs: map[string]artifactLocation{
			sourceRoot: {Description: &text{Text: "The root of the repository."}},
		},
		VersionControl:    w.provenance,
		AutomationDetails: automation(s.Scope.Scope, w.report.Run.ID),
		BaselineGUID:      w.baseline(s.Scope.Scope),
		LogicalLocations:  rb.logicals,
		Results:           results,
		Taxonomies:        []toolComponent{w.taxonomy()},
		ColumnKind:        "utf16CodeUnits",
		Properties:        properties,
	}, nil
}

// automation names the run: the category is the scope, so that runs of several scopes do not close each other's alerts
// (SARIF 2.1.0 §3.17.3; what follows the last slash is the run's own).
func automation(s cloud.Scope, runID string) automationDetails {
	id := "cloudaudit"
	for i, part := range []string{s.Provider, s.Account, s.Region} {
		switch {
		case part != "":
			id += "/" + url.PathEscape(bounded(part, maxName))
		case i < 2:
			id += "/-"
		}
	}
	d := automationDetails{ID: id + "/"}
	if runID != "" {
		d.ID += url.PathEscape(bounded(runID, maxName))
		d.GUID = uuid(runID, d.ID)
	}
	return d
}

// baseline returns the guid of the run that s is compared with, if there is one (SARIF 2.1.0 §3.14.5).
func (w *writer) baseline(s cloud.Scope) string {
	if w.profile != Full || w.report.Baseline == nil {
		return ""
	}
	return automation(s, w.report.Baseline.ID).GUID
}

// uuid returns the UUID of version 5 (RFC 9562) that names a part of a run: every run object needs its own, and a rerun
// of the writer the same.
func uuid(runID, part string) string {
	sum := sha1.Sum([]byte(runID + "\n" + part))
	u := sum[:16]
	u[6] = u[6]&0x0f | 0x50
	u[8] = u[8]&0x3f | 0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", u[0:4], u[4:6], u[6:8], u[8:10], u[10:])
}

// invocation describes the run of the program as it concerns s.
func (w *writer) invocation(s *scope, notes []notification) invocation {
	run := &w.report.Run
	return invocation{
		ExecutionSuccessful: !s.unread(),
		ExitCode:            run.Exit, ExitCodeDescription: exitDescription(run.Exit),
		StartTimeUTC: timestamp(run.Started), EndTimeUTC: timestamp(run.Finished),
		Notifications: notes, Configuration: w.configuration(),
	}
}

// configuration returns what is to be said of the configuration (SARIF 2.1.0 §3.20.22).
func (w *writer) configuration() []notification {
	var out []notification
	for _, n := range w.report.Notices[:min(len(w.report.Notices), maxNotices)] {
		out = append(out, notify(configurationNotice, findings.Warning, n))
	}
	return out
}

func timestamp(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format("2006-01-02T15:04:05.000Z")
}

// exitDescription says what an exit status of cloudaudit means.
func exitDescription(status int) string {
	switch status {
	case 0:
		return "Nothing was found at or above the level that fails the run."
	case 1:
		return "There are findings at or above the level that fails the run."
	case 2:
		return "The usage or the configuration is wrong."
	case 3:
		return "Something could not be read, and nothing that was found fails the run."
	case 4:
		return "A fix was not fully applied and verified."
	case 130:
		return "The run was interrupted; what was read by then is reported."
	}
	return fmt.Sprintf("Exit status %d.", status)
}

// notify returns a notification; message is a sentence without its full stop, its parts from a cloud not yet escaped.
func notify(notice int, level findings.Level, message string) notification {
	return notification{
		Descriptor: descriptorReference{ID: notices()[notice].ID, Index: notice},
		Level:      string(level), Message: text{Text: sentence(message)},
	}
}

// notifications says what could not be read of s. A notification of level error says that the run failed (SARIF 2.1.0
// §3.20.21), so there is one exactly if the run is not successful.
func (s *scope) notifications(w *writer) []notification {
	var out []notification
	level := findings.Warning
	switch {
	case s.unread() && s.Interrupt:
		level = findings.Error
		out = append(out, notify(scopeUnread, level, fmt.Sprintf("The run ended before the scope '%s' was read", s)))
	case s.unread():
		level = findings.Error
		out = append(out, notify(scopeUnread, level, fmt.Sprintf("The scope '%s' could not be read", s)))
	case s.Interrupt:
		out = append(out, notify(partUnread, level, fmt.Sprintf("The run ended before all of the scope '%s' was read", s)))
	case !s.complete() && len(s.Gaps) == 0:
		out = append(out, notify(partUnread, level, fmt.Sprintf("A part of the scope '%s' could not be read", s)))
	}
	undetermined := &descriptorReference{ID: findings.Undetermined, Index: w.ruleIndex(findings.Undetermined)}
	for i, g := range s.Gaps {
		if i == maxNotices {
			out = append(out, notify(limitReached, findings.Warning, fmt.Sprintf("%d more parts of the scope '%s' could not be read", len(s.Gaps)-i, s)))
			break
		}
		n := notify(partUnread, level, fmt.Sprintf("'%s' could not be read in '%s'%s", bounded(g.Subject, maxName), s, because(g)))
		n.AssociatedRule = undetermined
		out = append(out, n)
	}
	return out
}

// because says why there is a gap and what to do about it.
func because(g cloud.Gap) string {
	out := ""
	if g.Cause != "" {
		out = ": '" + bounded(strings.TrimSuffix(g.Cause, "."), maxName) + "'"
	}
	if g.Hint != "" {
		out += "; " + bounded(strings.TrimSuffix(g.Hint, "."), maxName)
	}
	return out
}

func (w *writer) ruleIndex(id string) int {
	return slices.IndexFunc(w.checks, func(c findings.Check) bool { return c.ID == id })
}
