package findings

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	"go4.org/netipx"

	"github.com/cloudaudit/cloudaudit/cloud"
	"github.com/cloudaudit/cloudaudit/traffic"
)

// Find asks q of every endpoint of the snapshots and reports what is open, and by which rules.
func Find(q cloud.Question, snapshots []*cloud.Snapshot) *Report {
	f := finder{
		question: q,
		target:   q.Target(),
		open:     map[cloud.Ref]*offender{},
		covered:  map[cloud.Ref]bool{},
		walked:   map[*cloud.List]bool{},
		report: &Report{
			Complete: true, Ports: q.Ports, NoPlatformBlock: q.NoPlatformBlock,
			Scopes: []Scope{}, Exposures: []Exposure{}, Findings: []Finding{},
		},
	}
	snapshots = slices.SortedFunc(slices.Values(snapshots), func(a, b *cloud.Snapshot) int {
		return strings.Compare(a.Scope.String(), b.Scope.String())
	})
	for _, s := range snapshots {
		f.judge(s)
	}
	for _, s := range snapshots {
		f.latent(s)
	}
	f.finish()
	return f.report
}

// finder gathers what Find reports.
type finder struct {
	question cloud.Question
	target   traffic.Set
	report   *Report
	open     map[cloud.Ref]*offender
	covered  map[cloud.Ref]bool // rules that have a public endpoint behind them
	walked   map[*cloud.List]bool
	evidence []evidence // for each exposure, before it is sorted
}

// offender is a rule, or an endpoint without one, that opens something.
type offender struct {
	check    string
	scope    cloud.Scope
	list     *cloud.List
	rule     *cloud.Rule     // nil if the endpoint itself is the subject
	endpoint *cloud.Endpoint // set if the endpoint itself is the subject
	evidence []int           // positions in finder.evidence
	checks   []string        // what each of the evidence raises by itself
	alone    bool
	with     map[string]bool
	sources  *netipx.IPSet // what it admits, over all its evidence
	services []string      // what it admits them to, if it has no evidence
}

// evidence is an exposure and where it comes from.
type evidence struct {
	exposure Exposure
	answer   cloud.Answer
}

func (f *finder) judge(s *cloud.Snapshot) {
	scope := Scope{Scope: s.Scope, Complete: len(s.Gaps) == 0, Rules: s.Rules(), Interrupt: s.Skipped, Gaps: s.Gaps}
	if scope.Gaps == nil {
		scope.Gaps = []cloud.Gap{}
	}
	open := map[*cloud.Endpoint]bool{}
	for i := range s.Endpoints {
		if s.Endpoints[i].Public {
			scope.Endpoints++
		}
	}
	for _, a := range f.question.Judge(s) {
		f.cover(a.Endpoint)
		if a.Exposure == cloud.Blocked {
			continue
		}
		open[a.Endpoint] = true
		at := len(f.evidence)
		f.evidence = append(f.evidence, evidence{exposureOf(s.Scope, a), a})
		if len(a.AdmittedBy) == 0 {
			o := &offender{check: NoFirewall, scope: s.Scope, endpoint: a.Endpoint, alone: true, with: map[string]bool{}}
			if a.Exposure == cloud.Unknown {
				o.check = Undetermined
			}
			f.blame(a.Endpoint.Ref, o, at, a.Sources)
			continue
		}
		for i, coverage := range ownCoverage(a) {
			by := a.AdmittedBy[i]
			o := &offender{check: checkFor(a.Exposure, coverage), scope: s.Scope, list: by.List, rule: by.Rule, alone: by.Alone, with: map[string]bool{}}
			key := by.Rule.Ref
			if by.Rule.Implied {
				o.endpoint, o.rule, key = a.Endpoint, nil, a.Endpoint.Ref
				if a.Exposure != cloud.Unknown {
					o.check = NoFirewall
				}
			}
			for _, other := range a.AdmittedBy {
				if other.Rule.Ref != by.Rule.Ref {
					o.with[other.Rule.Ref.ID] = true
				}
			}
			f.blame(key, o, at, by.Sources)
		}
	}
	scope.Blocked = scope.Endpoints
	for e := range open {
		if e.Public {
			scope.Blocked--
		}
	}
	f.report.Complete = f.report.Complete && scope.Complete
	f.report.Scopes = append(f.report.Scopes, scope)
}

// cover notes that the rules on the way to e are not in front of nothing. An endpoint that no asked service leads to has no
// answer, and covers none: behind a balancer that forwards other ports a rule is as latent as behind nothing.
func (f *finder) cover(e *cloud.Endpoint) {
	if !e.Public {
		return
	}
	for _, h := range e.Hops {
		for _, l := range h.Layers {
			for _, list := range l.Lists {
				if f.walked[list] {
					continue
				}
				f.walked[list] = true
				for _, r := range list.Rules {
					f.covered[r.Ref] = true
				}
			}
		}
	}
}

// blame adds the evidence at position at to the offender that key names, which o describes.
func (f *finder) blame(key cloud.Ref, o *offender, at int, sources *netipx.IPSet) {
	was, ok := f.open[key]
	if !ok {
		o.evidence, o.checks, o.sources = []int{at}, []string{o.check}, sources
		f.open[key] = o
		return
	}
	if rank(o.check) < rank(was.check) {
		was.check = o.check
	}
	was.evidence, was.checks = append(was.evidence, at), append(was.checks, o.check)
	was.alone = was.alone && o.alone
	was.sources = traffic.UnionIPs(was.sources, sources)
	for id := range o.with {
		was.with[id] = true
	}
}

// ownCoverage returns, for each rule that admits a, the coverage to report it under: that of the answer if the rule is
// needed for it, and else the rule's own. A partner's /24 beside a rule for the world is a partner's /24; two halves of the
// world are the world, and so are 65,536 networks of a size that nobody would notice alone.
func ownCoverage(a cloud.Answer) []cloud.Coverage {
	out := make([]cloud.Coverage, len(a.AdmittedBy))
	for i, by := range a.AdmittedBy {
		out[i], _ = cloud.Cover(by.Sources, a.Endpoint.Family)
		if a.Coverage == cloud.Opaque || a.Coverage == cloud.None {
			out[i] = a.Coverage
		}
	}
	for _, size := range []cloud.Coverage{cloud.World, cloud.Wide} {
		together := traffic.IPs()
		for i, by := range a.AdmittedBy {
			if !out[i].Less(size) {
				together = traffic.UnionIPs(together, by.Sources)
			}
		}
		if reached, _ := cloud.Cover(together, a.Endpoint.Family); !reached.Less(a.Coverage) {
			for i := range out {
				if !out[i].Less(size) {
					out[i] = a.Coverage
				}
			}
			return out
		}
	}
	for i := range out {
		out[i] = a.Coverage
	}
	return out
}

// checkFor returns the check under which a rule with the given coverage is reported.
func checkFor(x cloud.Exposure, c cloud.Coverage) string {
	switch {
	case x == cloud.Unknown:
		return Undetermined
	case c == cloud.Narrow:
		return NarrowPublicRange
	case x == cloud.OneWay:
		return OneWay
	case x == cloud.ProviderOnly:
		return ProviderNetworkOnly
	case c == cloud.World:
		return ReachableFromInternet
	}
	return WideRange
}

// latent blames the rules that admit a large part of the internet and have no public endpoint behind them.
func (f *finder) latent(s *cloud.Snapshot) {
	for _, list := range s.Lists {
		for i := range list.Rules {
			r := &list.Rules[i]
			if r.Verdict != cloud.Allow || r.Implied || f.open[r.Ref] != nil {
				continue
			}
			admits := decides(list, r).Intersect(f.target)
			sources := admits.Sources()
			large := false
			for _, family := range []traffic.Family{traffic.V4, traffic.V6} {
				c, _ := cloud.Cover(sources, family)
				large = large || !c.Less(cloud.Wide)
			}
			if !large {
				continue
			}
			if f.covered[r.Ref] {
				f.report.Covers = append(f.report.Covers, r.Ref)
				continue
			}
			o := &offender{check: OpenRuleLatent, scope: s.Scope, list: list, rule: r, alone: true, sources: sources}
			for _, svc := range f.question.Services() {
				if !traffic.IsEmptyIPs(admits.From(svc)) {
					o.services = append(o.services, traffic.FormatService(svc))
				}
			}
			f.open[r.Ref] = o
		}
	}
}

// decides returns what gets as far as r for those whom it concerns, and matches it: a deny in front of it closes it.
func decides(list *cloud.List, r *cloud.Rule) traffic.Set {
	out := r.Match
	for _, before := range list.For(r.Concerns).Rules {
		if before.Ref == r.Ref {
			break
		}
		if before.Verdict != cloud.Allow {
			out = out.Subtract(before.Match)
		}
	}
	return out
}

// finish sorts exposures and findings and joins them.
func (f *finder) finish() {
	order := make([]int, len(f.evidence))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(i, j int) int { return compareExposures(&f.evidence[i].exposure, &f.evidence[j].exposure) })
	position := make([]int, len(order))
	for to, from := range order {
		position[from] = to
		f.report.Exposures = append(f.report.Exposures, f.evidence[from].exposure)
	}
	paths := map[int][]Step{} // by their place in f.evidence: many rules may open one endpoint
	for _, o := range f.open {
		check, _ := CheckOf(o.check)
		at := make([]int, 0, len(o.evidence))
		raised := map[int]bool{} // by that of the evidence
		for n, i := range o.evidence {
			at = append(at, position[i])
			raised[position[i]] = raised[position[i]] || o.checks[n] == o.check
		}
		at = byStrength(o.check, at, f.report.Exposures)
		toFront(at, slices.IndexFunc(at, func(i int) bool { return raised[i] }))
		finding := Finding{
			RuleID: check.ID, Level: check.Level, Subject: o.subject(), Fingerprint: o.fingerprint(),
			Exposures: at, Alone: o.alone, With: []string{}, Fixes: []Fix{}, Scope: o.scope,
		}
		if o.rule != nil {
			finding.Sources = Sources{o.sources}
		}
		for id := range o.with {
			finding.With = append(finding.With, id)
		}
		slices.Sort(finding.With)
		finding.Message = o.message(check, f.report.Exposures, finding)
		if len(at) > 0 {
			first := order[at[0]]
			if _, ok := paths[first]; !ok {
				paths[first] = f.path(f.evidence[first].answer)
			}
			finding.Path = paths[first]
		}
		f.report.Findings = append(f.report.Findings, finding)
	}
	slices.SortFunc(f.report.Findings, compareFindings)
	slices.SortFunc(f.report.Covers, cloud.Ref.Compare)
	f.report.Covers = slices.Compact(f.report.Covers)
}

// toFront moves the element at position n of at to the front; a negative n moves none.
func toFront(at []int, n int) {
	if n > 0 {
		first := at[n]
		copy(at[1:n+1], at[:n])
		at[0] = first
	}
}

// byStrength sorts the positions at of the evidence for check: what raised it first, then the strongest.
func byStrength(check string, at []int, exposures []Exposure) []int {
	slices.Sort(at)
	at = slices.Compact(at)
	slices.SortStableFunc(at, func(i, j int) int {
		return cmp.Compare(strength(check, exposures[i].Verdict), strength(check, exposures[j].Verdict))
	})
	return at
}

// strength ranks the evidence for check: what raised it first, then the others, the strongest first.
func strength(check string, x cloud.Exposure) int {
	raised := map[string]cloud.Exposure{OneWay: cloud.OneWay, ProviderNetworkOnly: cloud.ProviderOnly, Undetermined: cloud.Unknown}
	if x == raised[check] {
		return -1
	}
	return slices.Index([]cloud.Exposure{cloud.Reachable, cloud.Unknown, cloud.OneWay, cloud.ProviderOnly}, x)
}

func compareExposures(a, b *Exposure) int {
	return cmp.Or(
		cmp.Compare(a.Provider, b.Provider), cmp.Compare(a.Account, b.Account), cmp.Compare(a.Region, b.Region),
		cmp.Compare(a.Resource.Type, b.Resource.Type), cmp.Compare(a.Resource.ID, b.Resource.ID),
		cmp.Compare(a.Family, b.Family), cmp.Compare(a.Address, b.Address), cmp.Compare(a.Via, b.Via),
		cmp.Compare(a.Protocol, b.Protocol), cmp.Compare(a.Port, b.Port), cmp.Compare(a.FrontPort, b.FrontPort),
	)
}

func exposureOf(scope cloud.Scope, a cloud.Answer) Exposure {
	e := a.Endpoint
	x := Exposure{
		Provider: scope.Provider, Account: scope.Account, Region: scope.Region,
		Resource: Resource{Type: e.Ref.Kind, ID: e.Ref.ID, Name: e.Name, Instance: e.Instance},
		Address:  e.Address(), Family: int(e.Family), Protocol: a.Service.Proto().String(),
		Port: int(a.Service.Port()), FrontPort: int(a.Front.Port()), Via: e.Via.ID,
		Verdict: a.Exposure, Coverage: a.Coverage, Share: a.Share,
		AdmittedBy: []string{}, Assumes: append([]string{}, e.Assumes...), Stage: a.Stage, Hint: a.Hint, NoProbe: e.NoProbe,
	}
	for _, by := range a.AdmittedBy {
		if !slices.Contains(x.AdmittedBy, by.Rule.Ref.ID) {
			x.AdmittedBy = append(x.AdmittedBy, by.Rule.Ref.ID)
		}
	}
	x.Reason = reason(a, x.AdmittedBy)
	return x
}

func (o *offender) subject() Subject {
	if o.endpoint != nil {
		r := o.endpoint.Ref
		return Subject{Provider: r.Provider, Scope: r.Scope, Type: r.Kind, ID: r.ID, Name: o.endpoint.Name}
	}
	r := o.rule.Ref
	return Subject{
		Provider: r.Provider, Scope: r.Scope, Type: r.Kind, ID: r.ID, Name: o.rule.Name,
		List: o.list.Ref.ID, ListType: o.list.Ref.Kind, ListName: o.list.Name, Text: o.rule.Text,
	}
}

// fingerprint hashes what makes the finding the one it is. An id that is only a position in its list ("fw-1#3") changes
// when another rule goes; there the list and what the rule matches say which one it is.
func (o *offender) fingerprint() string {
	s := o.subject()
	id, _, _ := strings.Cut(s.ID, "#")
	parts := []string{o.check, s.Provider, s.Scope, s.Type, s.List, id, "ingress"}
	if o.rule != nil {
		parts = append(parts, o.rule.Match.String(), o.rule.Maybe.String())
	}
	sum := sha256.Sum256([]byte(strings.Join(parts, "\n")))
	return hex.EncodeToString(sum[:16])
}

// path describes the way of a packet to a.
func (f *finder) path(a cloud.Answer) []Step {
	_, steps, ok := f.question.Trace(a.Endpoint, a.Service)
	if !ok {
		return nil
	}
	out := []Step{{Stage: "internet", Text: fmt.Sprintf("A packet from the IPv%d internet is sent to '%s', %s.", a.Endpoint.Family, a.Endpoint.Address(), traffic.FormatService(a.Front))}}
	for _, s := range steps {
		out = append(out, StepOf(s))
		if traffic.IsEmptyIPs(s.Maybe) && s.Layer.Kind != cloud.Platform {
			return out
		}
	}
	return append(out, Step{Stage: "endpoint", Ref: a.Endpoint.Ref, Text: fmt.Sprintf("It arrives at '%s' as %s.", nameOf(a.Endpoint), traffic.FormatService(a.Service))})
}
