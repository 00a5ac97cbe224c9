// Package remedy is the smallest change that takes the internet off the asked ports, and its proof. Nothing is written that
// was not proved on the model to open nothing, to close only what was asked, and to be undone by its inverse.
package remedy

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"go4.org/netipx"

	"github.com/cloudaudit/cloudaudit/cloud"
	"github.com/cloudaudit/cloudaudit/providers"
	"github.com/cloudaudit/cloudaudit/traffic"
)

// Schema names the JSON form of a Plan.
const Schema = "cloudaudit.plan/v1"

// Finding is what a plan is to mend.
type Finding struct {
	Fingerprint string
	Check       string    // its id, such as "CA102"
	Subject     cloud.Ref // the rule, or the endpoint that no rule protects
	Suppressed  bool      // by the user: it is not fixed
	Terraform   string    // where Terraform makes the rule, such as "network.tf:12"; empty if it does not, or nobody knows
}

// KeepPrivate says which private sources keep their access to the asked ports. The zero value keeps private use, link-local
// and carrier-grade NAT addresses.
type KeepPrivate struct {
	None     bool           // drop them too
	Networks []netip.Prefix // keep these and no others
}

// sources returns the sources that are kept.
func (k KeepPrivate) sources() *netipx.IPSet {
	switch {
	case k.None:
		return traffic.IPs()
	case len(k.Networks) > 0:
		return traffic.IPs(k.Networks...)
	}
	return privateUse()
}

// PrivateUse returns the networks of hosts that are not on the internet: RFC 1918, RFC 6598, RFC 3927, RFC 4193, RFC 4291.
func PrivateUse() []netip.Prefix {
	var out []netip.Prefix
	for _, p := range []string{"10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "169.254.0.0/16", "fc00::/7", "fe80::/10"} {
		out = append(out, netip.MustParsePrefix(p))
	}
	return out
}

func privateUse() *netipx.IPSet { return traffic.IPs(PrivateUse()...) }

// Options say how to mend.
type Options struct {
	Ports       []uint16
	KeepPrivate KeepPrivate
	// Owned also changes lists that a controller owns and will put back.
	Owned bool
	// Guard also puts firewalls in front of endpoints that none protects.
	Guard bool
	// AllowLoss also takes ways that close more than was asked.
	AllowLoss bool
}

// Plan is what to write, in which order, and why that is right. Its JSON form is the same for the same clouds.
type Plan struct {
	Schema  string      `json:"schema"`
	ID      string      `json:"id"` // a hash of everything else
	Ports   []uint16    `json:"ports"`
	Target  traffic.Set `json:"target"` // what has to go: the internet to the asked ports
	Keep    traffic.Set `json:"keep"`   // what has to stay as it is
	Kept    string      `json:"kept"`   // the private sources that are kept, in words
	Hunks   []Hunk      `json:"hunks"`
	Refused []Refusal   `json:"refused"`
	// Unmet are rules that were to be changed and cannot be: what they admit is asked to be closed all the same.
	Unmet []Unmet `json:"unmet,omitempty"`
}

// Unmet are rules of a list that cannot be changed.
type Unmet struct {
	List  cloud.Ref    `json:"list"`
	Rules []cloud.Rule `json:"rules"`
}

// Hunk is the change of one list.
type Hunk struct {
	Scope    cloud.Scope  `json:"scope"`
	List     cloud.List   `json:"list"`     // as it is before
	Findings []string     `json:"findings"` // fingerprints
	Rules    []cloud.Rule `json:"rules,omitempty"`
	Spare    traffic.Set  `json:"spare,omitzero"` // what others admit of the target, and keep admitting
	// Spares are, for each of Rules, the part of Spare that is in front of an endpoint that the rule concerns.
	Spares    []traffic.Set `json:"spares,omitempty"`
	Serves    []Served      `json:"serves"` // every endpoint that the list is in front of
	Terraform []string      `json:"terraform,omitempty"`
	Quota     *cloud.Quota  `json:"quota,omitempty"`
	Ways      []Way         `json:"ways"` // the first that the cloud keeps is taken
	Guard     *cloud.Ref    `json:"guards,omitempty"`
}

// Served is an endpoint behind a list.
type Served struct {
	Ref     cloud.Ref `json:"ref"`
	Name    string    `json:"name,omitempty"`
	Address string    `json:"address"`
}

// Way is a way to make the change, with its proof.
type Way struct {
	providers.Way
	Proof Proof `json:"proof"`
}

// Refusal is a finding that the plan leaves alone.
type Refusal struct {
	Finding string    `json:"finding"`
	Subject cloud.Ref `json:"subject"`
	Reason  string    `json:"reason"`
	Instead string    `json:"instead,omitempty"` // what to do about it
}

// Changes returns the number of writes of p, in the ways that are tried first.
func (p *Plan) Changes() int {
	n := 0
	for _, h := range p.Hunks {
		n += len(h.Ways[0].Edits)
	}
	return n
}

// Within returns an error if p makes more than limit writes; zero is no limit.
func (p *Plan) Within(limit int) error {
	if n := p.Changes(); limit > 0 && n > limit {
		return fmt.Errorf("the plan makes %d changes, and at most %d are allowed", n, limit)
	}
	return nil
}

// Lossy says whether the way that is tried first loses more than was asked.
func (h *Hunk) Lossy() bool { return !h.Ways[0].Proof.Loss.IsEmpty() }

// New plans how to mend findings of the snapshots. It is pure. rewriters holds a Rewriter for each provider that has one.
func New(snapshots []*cloud.Snapshot, findings []Finding, rewriters map[string]providers.Rewriter, o Options) *Plan {
	q := cloud.Question{Ports: o.Ports}
	p := &Plan{Schema: Schema, Ports: o.Ports, Hunks: []Hunk{}, Refused: []Refusal{}}
	kept := o.KeepPrivate.sources()
	var asked traffic.Set
	for _, svc := range q.Services() {
		asked = asked.Union(traffic.Of(traffic.All().Sources(), svc, svc))
	}
	spared := asked.Intersect(anyService(kept))
	p.Target = q.Target().Subtract(spared)
	if o.KeepPrivate.None {
		p.Target = asked.Intersect(anyService(traffic.UnionIPs(traffic.Internet(), privateUse())))
	} else if len(o.KeepPrivate.Networks) > 0 {
		p.Target = asked.Intersect(anyService(traffic.UnionIPs(traffic.Internet(), privateUse()))).Subtract(spared)
	}
	p.Keep = traffic.All().Subtract(asked).Union(spared)
	p.Kept = traffic.FormatIPs(kept)

	pl := planner{plan: p, snapshots: snapshots, rewriters: rewriters, options: o, rules: map[cloud.Ref]bool{}}
	pl.choose(findings)
	for i := range pl.work {
		pl.meet(&pl.work[i])
	}
	slices.SortFunc(p.Unmet, func(a, b Unmet) int {
		return cmp.Or(a.List.Compare(b.List), a.Rules[0].Ref.Compare(b.Rules[0].Ref))
	})
	slices.SortFunc(p.Hunks, func(a, b Hunk) int {
		return cmp.Or(strings.Compare(a.Scope.String(), b.Scope.String()), a.List.Ref.Compare(b.List.Ref))
	})
	slices.SortFunc(p.Refused, func(a, b Refusal) int {
		return cmp.Or(a.Subject.Compare(b.Subject), strings.Compare(a.Finding, b.Finding))
	})
	p.ID = p.hash()
	return p
}

func anyService(sources *netipx.IPSet) traffic.Set {
	from, _ := traffic.Proto(0).All()
	_, to := traffic.Proto(255).All()
	return traffic.Of(sources, from, to)
}

// hash returns the id of p.
func (p *Plan) hash() string {
	q := *p
	q.ID = ""
	text, err := json.Marshal(q)
	if err != nil {
		panic(fmt.Sprintf("remedy: a plan has no JSON form: %v", err)) // every part of it has one
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:16])
}

// Validate says whether p is a plan that this version made and nobody changed.
func (p *Plan) Validate() error {
	if p.Schema != Schema {
		return fmt.Errorf("plan: schema is %q, want %q", p.Schema, Schema)
	}
	if got := p.hash(); got != p.ID {
		return fmt.Errorf("plan: its content has the id %s and not %s: it was changed after it was made", got, p.ID)
	}
	for _, h := range p.Hunks {
		if len(h.Ways) == 0 {
			return fmt.Errorf("plan: the change of %s has no way to make it", h.List.Ref)
		}
		if len(h.Spares) != len(h.Rules) {
			return fmt.Errorf("plan: the change of %s does not say what every rule is to spare", h.List.Ref)
		}
	}
	return nil
}

// planner gathers what New plans.
type planner struct {
	plan      *Plan
	snapshots []*cloud.Snapshot
	rewriters map[string]providers.Rewriter
	options   Options
	work      []task
	rules     map[cloud.Ref]bool // the rules that are to be changed: what they admit needs no sparing
}

// task is a list to change, or an endpoint to guard.
type task struct {
	snapshot *cloud.Snapshot
	list     *cloud.List
	endpoint *cloud.Endpoint // nil for a list
	rules    []cloud.Rule
	findings []Finding
}

func (pl *planner) refuse(f Finding, reason, instead string) {
	pl.plan.Refused = append(pl.plan.Refused, Refusal{f.Fingerprint, f.Subject, reason, instead})
}

// choose sorts the findings into tasks and refusals.
func (pl *planner) choose(findings []Finding) {
	findings = slices.SortedFunc(slices.Values(findings), func(a, b Finding) int {
		return cmp.Or(a.Subject.Compare(b.Subject), strings.Compare(a.Fingerprint, b.Fingerprint))
	})
	byList := map[*cloud.List]int{}
	for _, f := range findings {
		switch {
		case f.Suppressed:
			pl.refuse(f, "it is suppressed", "")
			continue
		case f.Check == "CA109":
			pl.refuse(f, "whether it is open is not known", "grant the permission, or look at the object, that the finding names")
			continue
		case f.Check == "CA110":
			pl.refuse(f, "it admits few hosts, who may be meant to have access", "look whose range it is, and close it by hand")
			continue
		}
		if pl.rewriters[f.Subject.Provider] == nil {
			pl.refuse(f, "cloudaudit cannot write here", "")
			continue
		}
		s, list, rule, endpoint := pl.find(f.Subject)
		switch {
		case endpoint != nil && !pl.options.Guard:
			pl.refuse(f, "no firewall is in front of it, and one that is put there concerns every port",
				"have one made that admits all but this with --attach-firewall, or make one that admits what it is there to serve")
		case endpoint != nil:
			pl.work = append(pl.work, task{snapshot: s, list: implied(endpoint), endpoint: endpoint, findings: []Finding{f}})
		case rule == nil:
			pl.refuse(f, "it is not in the snapshot", "")
		case (rule.Owner != nil || list.Owner != nil) && !pl.options.Owned:
			owner := cmp.Or(rule.Owner, list.Owner)
			pl.refuse(f, "it belongs to "+owner.By+", where every change of it is to be made", owner.Instead)
		case rule.Match.Intersect(pl.plan.Target).IsEmpty():
			pl.refuse(f, "the rule itself admits no internet host for certain: what is in front of it opens it",
				"change the forwarding rule or the firewall of the balancer in front, or look at what the rule's source holds")
		default:
			pl.rules[rule.Ref] = true
			i, ok := byList[list]
			if !ok {
				i = len(pl.work)
				byList[list] = i
				pl.work = append(pl.work, task{snapshot: s, list: list})
			}
			if !slices.ContainsFunc(pl.work[i].rules, func(r cloud.Rule) bool { return r.Ref == rule.Ref }) {
				pl.work[i].rules = append(pl.work[i].rules, *rule)
			}
			pl.work[i].findings = append(pl.work[i].findings, f)
		}
	}
	for i := range pl.work {
		list := pl.work[i].list
		place := func(r cloud.Rule) int {
			return slices.IndexFunc(list.Rules, func(s cloud.Rule) bool { return s.Ref == r.Ref })
		}
		slices.SortFunc(pl.work[i].rules, func(a, b cloud.Rule) int { return cmp.Compare(place(a), place(b)) })
	}
}

// find returns what ref names. Of a list in several snapshots it takes the one of the scope that it belongs to.
func (pl *planner) find(ref cloud.Ref) (*cloud.Snapshot, *cloud.List, *cloud.Rule, *cloud.Endpoint) {
	var in *cloud.Snapshot
	var list *cloud.List
	var rule *cloud.Rule
	for _, s := range pl.snapshots {
		for _, l := range s.Lists {
			i := slices.IndexFunc(l.Rules, func(r cloud.Rule) bool { return r.Ref == ref })
			if i >= 0 && (list == nil || list.Owner != nil && l.Owner == nil) {
				in, list, rule = s, l, &l.Rules[i]
			}
		}
	}
	if list != nil {
		return in, list, rule, nil
	}
	for _, s := range pl.snapshots {
		for i := range s.Endpoints {
			if s.Endpoints[i].Ref == ref && implied(&s.Endpoints[i]) != nil {
				return s, nil, nil, &s.Endpoints[i]
			}
		}
	}
	return nil, nil, nil, nil
}

// around returns s with the endpoints of other scopes that list is in front of too.
func (pl *planner) around(s *cloud.Snapshot, list cloud.Ref) *cloud.Snapshot {
	out := *s
	for _, other := range pl.snapshots {
		if other == s || !slices.ContainsFunc(other.Lists, func(l *cloud.List) bool { return l.Ref == list }) {
			continue
		}
		for _, e := range other.Endpoints {
			if behind(&e, list) {
				out.Endpoints = append(slices.Clip(out.Endpoints), e)
			}
		}
	}
	return &out
}

// behind says whether list is in front of e.
func behind(e *cloud.Endpoint, list cloud.Ref) bool {
	return slices.ContainsFunc(e.Hops, func(h cloud.Hop) bool {
		return slices.ContainsFunc(h.Layers, func(layer cloud.Layer) bool {
			return slices.ContainsFunc(layer.Lists, func(l *cloud.List) bool { return l.Ref == list })
		})
	})
}

// implied returns the list that stands for the absence of any in front of e, or nil.
func implied(e *cloud.Endpoint) *cloud.List {
	for _, l := range e.Hops[len(e.Hops)-1].Layers {
		if l.Kind == cloud.Firewall && len(l.Lists) == 1 && len(l.Lists[0].Rules) > 0 && l.Lists[0].Rules[0].Implied {
			return l.Lists[0]
		}
	}
	return nil
}

// meet plans one task; if that cannot be done with all of its rules, then with those that it can be done with.
func (pl *planner) meet(t *task) {
	h, why := pl.hunk(t)
	if h == nil && len(t.rules) > 1 {
		good := *t
		good.rules, good.findings = nil, nil
		for i := range t.rules {
			one := *t
			one.rules = t.rules[i : i+1]
			one.findings = slices.DeleteFunc(slices.Clone(t.findings), func(f Finding) bool { return f.Subject != one.rules[0].Ref })
			if alone, why := pl.hunk(&one); alone == nil {
				pl.unmet(&one, why)
				continue
			}
			good.rules, good.findings = append(good.rules, one.rules[0]), append(good.findings, one.findings...)
		}
		if t = &good; len(t.rules) == 0 {
			return
		}
		h, why = pl.hunk(t)
	}
	if h == nil {
		pl.unmet(t, why)
		return
	}
	pl.plan.Hunks = append(pl.plan.Hunks, *h)
}

// unmet refuses what t is about.
func (pl *planner) unmet(t *task, why Refusal) {
	for _, f := range t.findings {
		pl.refuse(f, why.Reason, why.Instead)
	}
	if len(t.rules) > 0 {
		pl.plan.Unmet = append(pl.plan.Unmet, Unmet{t.list.Ref, t.rules})
	}
}

// hunk returns the change that meets t, or why there is none.
func (pl *planner) hunk(t *task) (*Hunk, Refusal) {
	h := Hunk{Scope: t.snapshot.Scope, Rules: t.rules, Serves: []Served{}}
	for _, f := range t.findings {
		h.Findings = append(h.Findings, f.Fingerprint)
		if f.Terraform != "" {
			h.Terraform = append(h.Terraform, f.Terraform)
		}
	}
	var ways []providers.Way
	var err error
	rewriter := pl.rewriters[t.snapshot.Scope.Provider]
	if t.endpoint != nil {
		var way providers.Way
		way, err = rewriter.Guard(t.endpoint, t.list, pl.plan.Target, pl.plan.Keep)
		ways = []providers.Way{way}
		h.Guard = &t.endpoint.Ref
		if err == nil {
			h.List = cloud.List{Ref: way.Edits[0].List, Name: way.Edits[0].Guard.Name}
			h.Serves = append(h.Serves, served(t.endpoint))
		}
	} else {
		h.List, h.Quota = *t.list, t.list.Quota
		t.snapshot = near(pl.around(t.snapshot, t.list.Ref), t.list.Ref, nil)
		for i := range t.rules {
			h.Spares = append(h.Spares, pl.spare(t, &t.rules[i]))
			h.Spare = h.Spare.Union(h.Spares[i])
		}
		h.Serves = serves(t.snapshot, t.list.Ref)
		ways, err = rewriter.Rewrite(providers.Change{
			List: t.list, Rules: t.rules, Drop: pl.plan.Target, Keep: pl.plan.Keep, Spare: h.Spare, Spares: h.Spares,
		})
	}
	if err != nil {
		return nil, Refusal{Reason: strings.TrimSuffix(err.Error(), ": "+providers.ErrInexpressible.Error())}
	}
	var failed error
	instead := "consent to that with --allow-loss, or split the rule by hand"
	var loss *traffic.Set // of the first way that would be right, if that is what speaks against it
	for _, w := range ways {
		proof := prove(t.snapshot, w, pl.plan.Target, pl.plan.Keep, pl.changes, t.rules)
		if err := proof.Err(); err != nil {
			failed = errors.Join(failed, fmt.Errorf("%s: %w", w.Name, err))
			continue
		}
		if !proof.Loss.IsEmpty() && !pl.options.AllowLoss {
			if loss == nil {
				loss = &proof.Loss
				if w.Instead != "" {
					instead = "consent to that with --allow-loss. " + w.Instead
				}
			}
			continue
		}
		proof.Words = pl.words(&h, w, proof)
		h.Ways = append(h.Ways, Way{w, proof})
	}
	if len(h.Ways) == 0 {
		if loss != nil {
			return nil, Refusal{Reason: "it would also close " + loss.Words(), Instead: instead}
		}
		if failed == nil {
			failed = errors.New("there is nothing to write")
		}
		return nil, Refusal{Reason: "no way could be proved right: " + failed.Error()}
	}
	return &h, Refusal{}
}

// changes says whether the plan is to change r. An implied rule is no rule that anyone could change or spare.
func (pl *planner) changes(_ *cloud.List, r *cloud.Rule) bool { return r.Implied || pl.rules[r.Ref] }

// spare returns what rules that stay admit of the target, by the list itself or in front of an endpoint, where r is too.
func (pl *planner) spare(t *task, r *cloud.Rule) traffic.Set {
	var out traffic.Set
	for _, place := range paths(t.snapshot, t.snapshot, t.list.Ref, nil) {
		if !slices.ContainsFunc(place.lists, func(l *cloud.List) bool {
			return slices.ContainsFunc(l.Rules, func(s cloud.Rule) bool { return s.Ref == r.Ref })
		}) {
			continue
		}
		_, others := without(place.lists, pl.changes).Admits(pl.plan.Target)
		out = out.Union(others)
	}
	return out
}

// serves returns every endpoint that the list is in front of.
func serves(s *cloud.Snapshot, list cloud.Ref) []Served {
	out := []Served{}
	for i := range s.Endpoints {
		if e := &s.Endpoints[i]; behind(e, list) && !slices.Contains(out, served(e)) {
			out = append(out, served(e))
		}
	}
	return out
}

func served(e *cloud.Endpoint) Served { return Served{Ref: e.Ref, Name: e.Name, Address: e.Address()} }

// words says what a way does, what it costs, and who else is concerned.
func (pl *planner) words(h *Hunk, w providers.Way, proof Proof) []string {
	out := proof.words()
	if !proof.Loss.IsEmpty() && w.Instead != "" {
		out = append(out, w.Instead)
	}
	if h.Guard == nil && !pl.options.KeepPrivate.None {
		out = append(out, "Private sources that the rules admitted keep their access: "+pl.plan.Kept+".")
	} else if pl.options.KeepPrivate.None {
		out = append(out, "Clients on private networks lose their access to the port.")
	}
	if !h.Spare.IsEmpty() {
		out = append(out, "Not touched, because other rules admit it: "+h.Spare.String()+".")
	}
	if h.Quota != nil && w.Peak > 0 {
		out = append(out, fmt.Sprintf("At most %d of %d %s are in use.", w.Peak, h.Quota.Limit, h.Quota.Of))
	}
	if n := len(h.Serves); n > 1 {
		out = append(out, fmt.Sprintf("The list is in front of %d endpoints.", n))
	}
	for _, place := range h.Terraform {
		out = append(out, "Terraform made the rule ("+place+") and opens it again with the next apply, unless it is changed there too.")
	}
	return out
}
