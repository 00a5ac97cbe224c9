// Package findings turns snapshots into a report: one finding for each rule that lets the internet in, with the endpoints
// that it opens as evidence. It is pure: the same snapshots give the same report, in the same order, to the byte.
package findings

import (
	"slices"
	"time"

	"github.com/cloudaudit/cloudaudit/cloud"
)

// Level is how a finding is shown and gated, as in SARIF 2.1.0 §3.27.10.
type Level string

// The levels, from most to least.
const (
	Error   Level = "error"
	Warning Level = "warning"
	Note    Level = "note"
)

// AtLeast says whether l is as severe as m or more. The zero Level is below all others.
func (l Level) AtLeast(m Level) bool { return l.rank() >= m.rank() }

func (l Level) rank() int {
	switch l {
	case Error:
		return 3
	case Warning:
		return 2
	case Note:
		return 1
	}
	return 0
}

// Report is what an audit found. Its JSON form, with a schema in front, is the report of package jsonreport.
type Report struct {
	Complete  bool       `json:"complete"` // false as soon as anything asked for could not be read
	Scopes    []Scope    `json:"scopes"`
	Exposures []Exposure `json:"exposures"`
	Findings  []Finding  `json:"findings"`
	Repair    *Repair    `json:"fix,omitempty"` // what --fix has done; nil without it

	// What was asked. Reports that asked otherwise cannot be merged.
	Ports           []uint16 `json:"ports,omitempty"`
	NoPlatformBlock bool     `json:"no_platform_block,omitempty"`
	// Severity is the level below which findings were left out, and NewOnly says that those which are not new were. As a
	// baseline such a report makes what it leaves out new.
	Severity Level `json:"severity,omitempty"`
	NewOnly  bool  `json:"new_only,omitempty"`

	Notices  []string  `json:"notices,omitempty"`  // what is to be said of the configuration, such as an ignore that has expired
	Baseline *Baseline `json:"baseline,omitempty"` // what the states of the findings were made with; nil if there are none
	Shard    *Shard    `json:"shard,omitempty"`    // the share of the scopes that the report is about; nil for all of them
	// Covers holds the rules that are not latent, for a public endpoint is behind them, but would be else. It is written for
	// a shard only, which may not see the endpoint that another shard sees.
	Covers []cloud.Ref `json:"covers,omitempty"`
	Run    Run         `json:"run,omitzero"`
}

// Run is what is true of one run of the program and not of the clouds. Writers leave out what is zero.
type Run struct {
	Version  string    `json:"version,omitempty"` // of cloudaudit
	ID       string    `json:"id,omitempty"`      // a random UUID; empty if the output has to be reproducible
	Started  time.Time `json:"started,omitzero"`  // UTC
	Finished time.Time `json:"finished,omitzero"`
	Exit     int       `json:"exit"` // the exit status that the run ends with
	// Anchor is the line that stands for a finding of which no source file is known, relative to the repository's root.
	Anchor     Location   `json:"-"`
	Repository Repository `json:"-"`
}

// IsZero says whether r has nothing to say in a report.
func (r Run) IsZero() bool {
	r.Anchor, r.Repository = Location{}, Repository{}
	return r == Run{}
}

// Repository is the repository that the lines of a report are in.
type Repository struct {
	URI      string // absolute, such as "https://github.com/owner/name"; if it is empty, nothing is known of the repository
	Revision string // a commit
	Branch   string
}

// Scope is one scope of a report.
type Scope struct {
	cloud.Scope
	Complete  bool        `json:"complete"`
	Endpoints int         `json:"endpoints"`         // public addresses that were judged
	Blocked   int         `json:"blocked"`           // of these, the ones that nothing gets through to
	Rules     int         `json:"rules"`             // of all lists
	Interrupt bool        `json:"skipped,omitempty"` // the run ended before the scope was read
	Gaps      []cloud.Gap `json:"gaps"`
}

// Exposure is one (public endpoint, family, protocol, port) that is not blocked.
type Exposure struct {
	Provider   string         `json:"provider"`
	Account    string         `json:"account"`
	Region     string         `json:"region,omitempty"`
	Resource   Resource       `json:"resource"`
	Address    string         `json:"address"`
	Family     int            `json:"family"` // 4 or 6
	Protocol   string         `json:"protocol"`
	Port       int            `json:"port"`          // as memcached sees it
	FrontPort  int            `json:"front_port"`    // as the client sends it
	Via        string         `json:"via,omitempty"` // the balancer, accelerator or forwarding rule in front
	Verdict    cloud.Exposure `json:"verdict"`
	Coverage   cloud.Coverage `json:"coverage"`
	Share      float64        `json:"share"` // of the family's globally routable addresses, 0 to 1
	AdmittedBy []string       `json:"admitted_by"`
	Assumes    []string       `json:"assumes"`
	Stage      string         `json:"stage,omitempty"`    // what makes the verdict other than reachable
	Reason     string         `json:"reason"`             // the verdict in one sentence
	Hint       string         `json:"hint,omitempty"`     // for unknown: what to grant or to look at
	NoProbe    bool           `json:"no_probe,omitempty"` // the resource is tagged: the probe leaves it alone
	Probe      ProbeAnswer    `json:"probe,omitempty"`    // what asking the address has shown; nil if it was not asked
}

// Resource is what an exposure exposes.
type Resource struct {
	Type     string `json:"type"`
	ID       string `json:"id"`
	Name     string `json:"name,omitempty"`
	Instance string `json:"instance,omitempty"`
}

// Subject is what a finding is about: the rule, or the endpoint that no rule protects.
type Subject struct {
	Provider string `json:"provider"`
	Scope    string `json:"scope"` // account, or account/region
	Type     string `json:"type"`
	ID       string `json:"id"`
	Name     string `json:"name,omitempty"`
	// List is the id and ListName the name of what the rule belongs to, such as its security group; ListType is its kind.
	List     string `json:"list,omitempty"`
	ListType string `json:"list_type,omitempty"`
	ListName string `json:"list_name,omitempty"`
	Text     string `json:"text,omitempty"` // the rule in one line
}

// Location is a line of a text file in the repository.
type Location struct {
	File string `json:"file"` // relative to the repository's root, with forward slashes
	Line int    `json:"line"` // from 1
	Text string `json:"-"`    // what the line says, without its end
}

// Finding is one check that one rule, or one unprotected endpoint, fails.
type Finding struct {
	RuleID  string  `json:"rule_id"` // of the check, such as "CA102"
	Level   Level   `json:"level"`
	Subject Subject `json:"subject"`
	Message string  `json:"message"` // one sentence
	// Fingerprint is the same in every run for the same rule, and does not depend on names, order or source lines.
	Fingerprint string    `json:"fingerprint"`
	Location    *Location `json:"location,omitempty"`
	Exposures   []int     `json:"exposures"` // the evidence, as positions in Report.Exposures: what raised the check first, then the strongest
	// Alone says that the rule by itself admits all that its exposures admit; With holds the ids of the other rules that
	// have to change together with it.
	Alone bool     `json:"alone"`
	With  []string `json:"with"`
	// Path is how a packet gets to the first of the exposures.
	Path []Step `json:"path,omitempty"`
	// Fixes are the ways to close it, the best first; NoFix says why there is none.
	Fixes []Fix  `json:"fixes"`
	NoFix *NoFix `json:"no_fix,omitempty"`

	Scope cloud.Scope `json:"scope"` // where the finding is reported
	// Sources is what the rule admits over all its evidence. It is written for a shard only: another shard may have seen
	// more of the same rule, and how much of the internet comes in is known of both together.
	Sources Sources `json:"sources,omitzero"`

	State State `json:"state,omitempty"` // since the baseline; empty without one
	// Carried says that the finding is one of the baseline, of a scope that could not be read now: it is not known to be
	// there still, and not to be gone.
	Carried    bool         `json:"carried,omitempty"`
	Suppressed *Suppression `json:"suppressed,omitempty"` // why it is ignored; nil if it is not
}

// Suppression is why a finding is shown as ignored, and does not gate.
type Suppression struct {
	Reason  string    `json:"reason"`
	Expires string    `json:"expires"` // the last day on which it holds, in UTC, as 2006-01-02
	At      *Location `json:"at,omitempty"`
}

// Open says whether f counts: it is there, and nobody has decided to ignore it.
func (f *Finding) Open() bool { return f.State != Absent && f.Suppressed == nil }

// Step is one stage of a Path.
type Step struct {
	Stage string    `json:"stage"`
	Ref   cloud.Ref `json:"ref,omitzero"`
	Text  string    `json:"text"`
}

// Worst returns the most severe level of r's findings that are there and not ignored, or the zero Level.
func (r *Report) Worst() Level {
	var worst Level
	for i := range r.Findings {
		if f := &r.Findings[i]; f.Open() && !worst.AtLeast(f.Level) {
			worst = f.Level
		}
	}
	return worst
}

// Keep leaves out the findings below level.
func (r *Report) Keep(level Level) {
	r.Findings = slices.DeleteFunc(r.Findings, func(f Finding) bool { return !f.Level.AtLeast(level) })
	if level != Note {
		r.Severity = level
	}
}

// Miss adds something that was asked for and could not be had to a scope of r, once.
func (r *Report) Miss(scope cloud.Scope, g cloud.Gap) {
	r.Complete = false
	for i := range r.Scopes {
		s := &r.Scopes[i]
		if s.Scope != scope {
			continue
		}
		s.Complete = false
		if !slices.Contains(s.Gaps, g) {
			s.Gaps = append(s.Gaps, g)
		}
	}
}
