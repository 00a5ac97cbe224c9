package findings

import (
	"slices"

	"go4.org/netipx"

	"github.com/cloudaudit/cloudaudit/cloud"
	"github.com/cloudaudit/cloudaudit/traffic"
)

// State is what has become of a finding since a baseline, as in SARIF 2.1.0 §3.27.24.
type State string

// The states. Those of a report are all set or all empty.
const (
	New       State = "new"       // the baseline does not have it, or had it ignored
	Unchanged State = "unchanged" // the baseline has it
	Absent    State = "absent"    // the baseline has it, its scope was read, and it is not there any more
)

// Baseline is the earlier report that the states of a report were made with.
type Baseline struct {
	ID string `json:"id,omitempty"` // of the run that wrote it
	// Elsewhere counts the findings of the baseline in scopes that this report knows nothing of: they are neither there nor
	// gone, and are left out.
	Elsewhere int `json:"elsewhere,omitempty"`
}

// Since sets the states of r's findings by an earlier report, finding by finding with the same fingerprint, and adds the
// findings of old that are not in r any more.
//
// Gone is only what was looked for: a finding whose scope could not be read, in whole or in part, stays as it was and is
// marked as Carried.
func (r *Report) Since(old *Report) {
	r.Baseline = &Baseline{ID: old.Run.ID}
	before := map[string]*Finding{}
	for i := range old.Findings {
		if f := &old.Findings[i]; f.State != Absent {
			before[f.Fingerprint] = f
		}
	}
	now := map[string]bool{}
	for i := range r.Findings {
		f := &r.Findings[i]
		now[f.Fingerprint] = true
		f.State = New
		if was, ok := before[f.Fingerprint]; ok && (was.Suppressed == nil || f.Suppressed != nil) {
			f.State = Unchanged
		}
	}
	read := r.reading()
	for i := range old.Findings {
		f := old.Findings[i]
		if f.State == Absent || now[f.Fingerprint] {
			continue
		}
		now[f.Fingerprint] = true
		scopes := append(old.scopesOf(&f), f.Scope)
		f.Exposures, f.Sources, f.Fixes, f.NoFix = []int{}, Sources{}, []Fix{}, nil // a fix is for what was read just now
		switch {
		case slices.ContainsFunc(scopes, func(s cloud.Scope) bool { return read(s) == readInPart }):
			f.State, f.Carried = Unchanged, true
			// The evidence is gone: the next report looks for the finding where it may be.
			f.Scope = scopes[slices.IndexFunc(scopes, func(s cloud.Scope) bool { return read(s) == readInPart })]
		case read(f.Scope) == readWhole:
			f.State, f.Carried = Absent, false
		default:
			r.Baseline.Elsewhere++
			continue
		}
		r.Findings = append(r.Findings, f)
	}
	slices.SortFunc(r.Findings, compareFindings)
}

// Remember adds to r, which was compared with old, what Since has left out: the findings of old in scopes that r knows
// nothing of. A later report that is compared with r does not take them for new.
func (r *Report) Remember(old *Report) {
	now := map[string]bool{}
	for i := range r.Findings {
		now[r.Findings[i].Fingerprint] = true
	}
	for i := range old.Findings {
		f := old.Findings[i]
		if f.State == Absent || now[f.Fingerprint] {
			continue
		}
		f.Exposures, f.Sources, f.Fixes, f.NoFix = []int{}, Sources{}, []Fix{}, nil
		f.State, f.Carried = Unchanged, true
		r.Findings = append(r.Findings, f)
	}
	slices.SortFunc(r.Findings, compareFindings)
}

// OnlyNew leaves out the findings that are not new.
func (r *Report) OnlyNew() {
	r.Findings = slices.DeleteFunc(r.Findings, func(f Finding) bool { return f.State != New })
	r.NewOnly = true
}

// How much of a scope a report knows.
type reading uint8

const (
	notRead reading = iota
	readInPart
	readWhole
)

// reading returns what r knows of a scope. Where something of a provider could not be read, a scope that is missing may be
// among it.
func (r *Report) reading() func(cloud.Scope) reading {
	known := map[cloud.Scope]reading{}
	broken := map[string]bool{}
	for _, s := range r.Scopes {
		known[s.Scope] = readWhole
		if !s.Complete {
			known[s.Scope], broken[s.Provider] = readInPart, true
		}
	}
	return func(s cloud.Scope) reading {
		how := known[s]
		if how == notRead && broken[s.Provider] && r.Shard.Has(s) {
			return readInPart
		}
		return how
	}
}

// scopesOf returns where the evidence of f is.
func (r *Report) scopesOf(f *Finding) []cloud.Scope {
	var out []cloud.Scope
	for _, at := range f.Exposures {
		if s := r.Exposures[at].Scope(); !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	return out
}

// Scope returns the scope that x was read in.
func (x *Exposure) Scope() cloud.Scope {
	return cloud.Scope{Provider: x.Provider, Account: x.Account, Region: x.Region}
}

// Sources is a set of addresses whose text form is that of package traffic. The zero value is not known.
type Sources struct{ *netipx.IPSet }

// IsZero says whether s is not known.
func (s Sources) IsZero() bool { return s.IPSet == nil }

// MarshalText returns the text form of s.
func (s Sources) MarshalText() ([]byte, error) { return []byte(traffic.FormatIPs(s.IPSet)), nil }

// UnmarshalText reads the text form of s.
func (s *Sources) UnmarshalText(text []byte) error {
	ips, err := traffic.ParseIPs(string(text))
	s.IPSet = ips
	return err
}
