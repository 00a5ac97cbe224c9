// Package outline arranges a report for people: findings by scope, evidence joined into rows, gaps by what was not read,
// and the numbers of the headline. It says nothing that the report does not say, and leaves nothing out but what its
// caller asked to leave out, which it counts. Its strings come from the cloud: writers pass them through package escape.
package outline

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/cloudaudit/cloudaudit/cloud"
	"github.com/cloudaudit/cloudaudit/findings"
)

// Outline is a report as people read it.
type Outline struct {
	Complete bool
	Ports    string // what was asked, such as "11211, 11214"; empty if the report does not know
	// Levels counts the findings that are shown, Hidden those that are not.
	Levels map[findings.Level]int
	Hidden int
	// Endpoints are the public ones that were judged; Blocked are those of them that nothing gets through to.
	Endpoints, Blocked, Rules int
	Scopes, Read              int // all scopes, and those that were read completely
	Groups                    []Group
	Gaps                      []Gap
	Skipped                   []Account // where the run ended before the scope was read
	Quiet                     []Account // read completely, and nothing found
	Checks                    []findings.Check
	// Gone are the findings of the baseline that are not there any more, Ignored those that are not to count. Neither is in
	// Groups or Levels.
	Gone, Ignored []Finding
	Shard         *findings.Shard // the share of the scopes that the report is about; nil for all of them
	compared      bool
	states        map[findings.State]int
	carried       int
	elsewhere     int
}

// Group holds what was found in one scope, most severe first.
type Group struct {
	Scope    findings.Scope
	Findings []Finding
}

// Finding is a finding with its check and its evidence.
type Finding struct {
	*findings.Finding
	Check    findings.Check
	Evidence []Evidence
	Rows     int // in all of Evidence
}

// Evidence holds rows that have their reason in common.
type Evidence struct {
	Reason  string
	Hint    string
	Assumes []string
	Rows    []Row
}

// Row is one endpoint, with all services to which the same applies.
type Row struct {
	Address  string
	Services []string // such as "tcp/11211", or "tcp/443 → 11211" where a balancer maps the port
	Verdict  cloud.Exposure
	Amount   string // such as "world 100 %"
	Resource findings.Resource
	Via      string
}

// Gap is what was not read, for the same reason, in one or more scopes.
type Gap struct {
	cloud.Gap
	Scopes []Account
}

// Account is an account, project or team with those of its regions that are meant; none if it has no regions.
type Account struct {
	Provider, Account string
	Regions           []string
	Endpoints         int
}

// Of arranges what r says at level atLeast and above; the zero Level shows everything.
func Of(r *findings.Report, atLeast findings.Level) *Outline {
	o := &Outline{
		Complete: r.Complete, Levels: map[findings.Level]int{}, Scopes: len(r.Scopes), Shard: r.Shard, states: map[findings.State]int{},
	}
	if r.Baseline != nil {
		o.compared, o.elsewhere = true, r.Baseline.Elsewhere
	}
	var ports []string
	for _, p := range r.Ports {
		ports = append(ports, strconv.Itoa(int(p)))
	}
	o.Ports = strings.Join(ports, ", ")

	found := map[cloud.Scope][]Finding{}
	hidden := map[cloud.Scope]bool{}
	checks := map[string]bool{}
	for i := range r.Findings {
		f := &r.Findings[i]
		if !f.Level.AtLeast(atLeast) {
			o.Hidden++
			hidden[f.Scope] = true
			continue
		}
		check, ok := findings.CheckOf(f.RuleID)
		if !ok {
			check = findings.Check{ID: f.RuleID, Level: f.Level}
		}
		switch {
		case f.State == findings.Absent:
			o.Gone = append(o.Gone, Finding{Finding: f, Check: check})
			continue
		case f.Suppressed != nil:
			o.Ignored = append(o.Ignored, Finding{Finding: f, Check: check})
			hidden[f.Scope] = true
			continue
		}
		o.Levels[f.Level]++
		o.states[f.State]++
		if f.Carried {
			o.carried++
		}
		if !checks[check.ID] {
			checks[check.ID] = true
			o.Checks = append(o.Checks, check)
		}
		evidence, rows := evidenceOf(r, f)
		found[f.Scope] = append(found[f.Scope], Finding{f, check, evidence, rows})
	}
	gaps := map[string]int{}
	for _, s := range r.Scopes {
		o.Endpoints += s.Endpoints
		o.Blocked += s.Blocked
		o.Rules += s.Rules
		if s.Complete {
			o.Read++
		}
		if list, ok := found[s.Scope]; ok {
			o.Groups = append(o.Groups, Group{s, list})
			delete(found, s.Scope)
		} else if s.Complete && !hidden[s.Scope] {
			o.Quiet = addScope(o.Quiet, s)
		}
		if s.Interrupt {
			o.Skipped = addScope(o.Skipped, s)
		}
		for _, g := range s.Gaps {
			key := s.Provider + "\x00" + g.Subject + "\x00" + g.Cause + "\x00" + g.Hint
			i, ok := gaps[key]
			if !ok {
				i = len(o.Gaps)
				gaps[key] = i
				o.Gaps = append(o.Gaps, Gap{Gap: g})
			}
			o.Gaps[i].Scopes = addScope(o.Gaps[i].Scopes, s)
		}
	}
	// A finding may be of a scope that the report does not list; it is shown all the same.
	for _, f := range r.Findings {
		if list, ok := found[f.Scope]; ok {
			o.Groups = append(o.Groups, Group{findings.Scope{Scope: f.Scope}, list})
			delete(found, f.Scope)
		}
	}
	for _, g := range o.Groups {
		slices.SortStableFunc(g.Findings, func(a, b Finding) int { return bySeverity(a.Level, b.Level) })
	}
	slices.SortStableFunc(o.Checks, func(a, b findings.Check) int {
		return cmp.Or(bySeverity(a.Level, b.Level), strings.Compare(a.ID, b.ID))
	})
	return o
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

// addScope adds s to the account it belongs to; scopes come sorted, so that is the last one.
func addScope(accounts []Account, s findings.Scope) []Account {
	if n := len(accounts); n == 0 || accounts[n-1].Provider != s.Provider || accounts[n-1].Account != s.Account {
		accounts = append(accounts, Account{Provider: s.Provider, Account: s.Account})
	}
	a := &accounts[len(accounts)-1]
	a.Endpoints += s.Endpoints
	if s.Region != "" && (len(a.Regions) == 0 || a.Regions[len(a.Regions)-1] != s.Region) {
		a.Regions = append(a.Regions, s.Region)
	}
	return accounts
}

// evidenceOf joins the exposures of f: first those with the same reason, then those of the same endpoint.
func evidenceOf(r *findings.Report, f *findings.Finding) (evidence []Evidence, rows int) {
	type rowKey struct {
		group                       int
		address, resource, via, how string
	}
	groups, places := map[string]int{}, map[rowKey]int{}
	for _, at := range f.Exposures {
		x := &r.Exposures[at]
		key := strings.Join(append([]string{x.Reason, x.Hint}, x.Assumes...), "\x00")
		g, ok := groups[key]
		if !ok {
			g = len(evidence)
			groups[key] = g
			evidence = append(evidence, Evidence{Reason: x.Reason, Hint: x.Hint, Assumes: x.Assumes})
		}
		amount := Amount(x.Coverage, x.Share)
		place := rowKey{g, x.Address, x.Resource.ID, x.Via, string(x.Verdict) + amount}
		i, ok := places[place]
		if !ok {
			i = len(evidence[g].Rows)
			places[place] = i
			rows++
			evidence[g].Rows = append(evidence[g].Rows, Row{
				Address: x.Address, Verdict: x.Verdict, Amount: amount, Resource: x.Resource, Via: x.Via,
			})
		}
		row := &evidence[g].Rows[i]
		row.Services = append(row.Services, Service(x))
	}
	return evidence, rows
}

// Service returns what a client asks for to get to x, and where it arrives if that is another port.
func Service(x *findings.Exposure) string {
	if x.FrontPort == x.Port {
		return fmt.Sprintf("%s/%d", x.Protocol, x.Port)
	}
	return fmt.Sprintf("%s/%d → %d", x.Protocol, x.FrontPort, x.Port)
}

// Amount says how much of the internet a coverage and its share are, such as "wide 1.81 %".
func Amount(c cloud.Coverage, share float64) string {
	switch {
	case c == cloud.Opaque || c == cloud.None:
		return string(c)
	case share >= 0.9995:
		return string(c) + " 100 %"
	case share >= 0.0005:
		return fmt.Sprintf("%s %.3g %%", c, share*100)
	}
	return string(c) + " <0.1 %"
}

// Kind returns what people call a kind of object, such as "Security group rule".
func Kind(kind string) string {
	words := strings.ReplaceAll(kind, "-", " ")
	if words == "" {
		return ""
	}
	return strings.ToUpper(words[:1]) + words[1:]
}

// List returns what the rule belongs to, such as "web (sg-1)", or nothing if the rule says it itself.
func List(s findings.Subject) string {
	switch {
	case s.List == "" || s.List == s.ID:
		return ""
	case s.ListName == "" || s.ListName == s.List:
		return s.List
	case strings.HasPrefix(s.ID, s.List+"#"):
		return s.ListName // the rule's own id begins with the list's
	}
	return s.ListName + " (" + s.List + ")"
}

// Resource returns what people call the resource, with its ids, such as "cache-1 (eni-1, i-1)".
func Resource(r findings.Resource) string {
	name := r.Name
	var ids []string
	for _, id := range []string{r.ID, r.Instance} {
		switch {
		case id == "" || id == name || slices.Contains(ids, id):
		case name == "":
			name = id
		default:
			ids = append(ids, id)
		}
	}
	if len(ids) == 0 {
		return name
	}
	return name + " (" + strings.Join(ids, ", ") + ")"
}

// String returns the account with its regions, such as "aws 111122223333: eu-west-1, us-east-1".
func (a Account) String() string {
	s := a.Provider + " " + a.Account
	if len(a.Regions) > 0 {
		s += ": " + strings.Join(a.Regions, ", ")
	}
	return s
}

// Count returns n with its noun, which takes an s for all numbers but 1.
func Count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return strconv.Itoa(n) + " " + noun + "s"
}

// Headline counts the findings by level, such as "2 errors, 1 warning".
func (o *Outline) Headline() string {
	var parts []string
	for _, l := range []findings.Level{findings.Error, findings.Warning, findings.Note} {
		if n := o.Levels[l]; n > 0 {
			parts = append(parts, Count(n, string(l)))
		}
	}
	if len(parts) == 0 {
		return "no findings"
	}
	return strings.Join(parts, ", ")
}

// Since says what has become of the findings since the baseline and how many are ignored, or nothing.
func (o *Outline) Since() string {
	var parts []string
	if o.compared {
		unchanged := fmt.Sprintf("%d unchanged", o.states[findings.Unchanged])
		if o.carried > 0 {
			unchanged += fmt.Sprintf(" (%d not read now)", o.carried)
		}
		parts = append(parts, fmt.Sprintf("Since the baseline: %d new", o.states[findings.New]), unchanged, fmt.Sprintf("%d gone", len(o.Gone)))
	}
	if n := len(o.Ignored); n > 0 {
		parts = append(parts, fmt.Sprintf("%d ignored", n))
	}
	text := strings.Join(parts, ", ")
	if o.elsewhere > 0 {
		text += fmt.Sprintf("; %s of the baseline left out, whose scopes are not in this report", Count(o.elsewhere, "finding"))
	}
	return text
}

// Mark says what has become of f since the baseline in a word or two, or nothing.
func (f *Finding) Mark() string {
	if f.Carried {
		return "not read now, as in the baseline"
	}
	return string(f.State)
}

// Why says why f is ignored, and until when.
func (f *Finding) Why() string {
	if f.Suppressed == nil {
		return ""
	}
	return fmt.Sprintf("%s (until %s)", f.Suppressed.Reason, f.Suppressed.Expires)
}

// Judged says what was judged, such as "12 public endpoints judged, 9 blocked; 340 rules in 2 scopes".
func (o *Outline) Judged() string {
	text := fmt.Sprintf("%s judged, %d blocked; %s in %s", Count(o.Endpoints, "public endpoint"), o.Blocked,
		Count(o.Rules, "rule"), Count(o.Scopes, "scope"))
	if o.Shard != nil {
		text += fmt.Sprintf(" (shard %s: not all that there are)", o.Shard)
	}
	return text
}

// Incomplete says what being incomplete means, or nothing if the report is complete.
func (o *Outline) Incomplete() string {
	if o.Complete {
		return ""
	}
	if o.Shard != nil {
		return fmt.Sprintf("Only the shards %s of all scopes are here, and %d of their %s read completely. What was not read is not clean.",
			o.Shard, o.Read, Count(o.Scopes, "scope"))
	}
	if o.Read == o.Scopes {
		return "Not everything that was asked for could be read. What was not read is not clean."
	}
	return fmt.Sprintf("%d of %s read completely. What was not read is not clean.", o.Read, Count(o.Scopes, "scope"))
}

// Companions says which rules have to change together with the one that f is about, or nothing.
func (f *Finding) Companions() string {
	if len(f.With) == 0 {
		return ""
	}
	const most = 8
	with := f.With
	more := ""
	if len(with) > most {
		more = fmt.Sprintf(" and %d more", len(with)-most)
		with = with[:most]
	}
	text := "Must change together with " + strings.Join(with, ", ") + more
	if f.Alone {
		return text + ": what this rule admits comes in there too, in part or in whole."
	}
	return text + ": only together do they admit all of this."
}
