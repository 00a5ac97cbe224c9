package config

import (
	"fmt"
	"slices"
	"time"

	"github.com/cloudaudit/cloudaudit/findings"
	"github.com/cloudaudit/cloudaudit/findings/escape"
	"github.com/cloudaudit/cloudaudit/traffic"
)

// Suppress marks the findings of r that are to be ignored at a point in time, and notes in r which ignores have run out.
func (c *Config) Suppress(r *findings.Report, now time.Time) {
	for i := range c.Ignores {
		e := &c.Ignores[i]
		// The day of expiry is the last.
		expired := !now.Before(e.Expires.AddDate(0, 0, 1))
		for j := range r.Findings {
			f := &r.Findings[j]
			if expired || f.Suppressed != nil || !e.matches(r, f) {
				continue
			}
			f.Suppressed = &findings.Suppression{
				Reason: e.Reason, Expires: e.Expires.Format(time.DateOnly),
				At: &findings.Location{File: c.File, Line: e.Line, Text: e.Text},
			}
		}
		if expired {
			r.Notices = append(r.Notices, fmt.Sprintf("%s:%d: the ignore (%s) has expired on %s: what it was for counts again",
				c.File, e.Line, escape.Visible(e.Reason), e.Expires.Format(time.DateOnly)))
		}
	}
}

// matches says whether all that e names is so of f. A finding with evidence of several resources is of one only if all of
// it is: an ignore for one host does not hide another.
func (e *Ignore) matches(r *findings.Report, f *findings.Finding) bool {
	s := f.Subject
	if e.Rule != "" && e.Rule != f.RuleID && e.Rule != s.ID {
		return false
	}
	if e.Resource != "" && !slices.Contains([]string{s.List, s.ListName, s.Name, s.ID}, e.Resource) {
		other := slices.ContainsFunc(f.Exposures, func(at int) bool {
			x := r.Exposures[at].Resource
			return e.Resource != x.ID && e.Resource != x.Name && e.Resource != x.Instance
		})
		if len(f.Exposures) == 0 || other {
			return false
		}
	}
	if e.Source != nil {
		if f.Sources.IPSet == nil {
			return false
		}
		return traffic.Subset(f.Sources.IPSet, e.Source)
	}
	return true
}
