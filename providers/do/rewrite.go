package do

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/digitalocean/godo"
	"go4.org/netipx"

	"github.com/cloudaudit/cloudaudit/cloud"
	"github.com/cloudaudit/cloudaudit/providers"
	"github.com/cloudaudit/cloudaudit/traffic"
)

// The limits of a firewall (https://docs.digitalocean.com/products/networking/firewalls/details/limits/).
const (
	maxRules   = 50   // inbound and outbound together
	maxSources = 1000 // of one rule
)

// nativeRule is an inbound rule as it is written.
type nativeRule struct {
	Protocol string        `json:"protocol"`
	Ports    string        `json:"ports"`
	Sources  *godo.Sources `json:"sources,omitempty"`
	Action   string        `json:"action,omitempty"`
}

// rewriting gathers the edits of one change.
type rewriting struct {
	providers.Change
	t    translation
	next int // numbers new rules
	err  error
}

// Rewrite replaces rules about nothing but asked ports by what is left of them. For all others it offers deny rules, which
// win over every allow, and then cutting the ports out, for APIs that do not know deny rules
// (https://docs.digitalocean.com/products/networking/firewalls/how-to/configure-rules/).
func (p *Provider) Rewrite(c providers.Change) ([]providers.Way, error) {
	quota := cloud.Quota{Used: len(c.List.Rules), Limit: maxRules}
	if c.List.Quota != nil {
		quota = *c.List.Quota
	}
	var out []providers.Way
	var failed error
	for _, deny := range []bool{true, false} {
		w := rewriting{Change: c, t: translation{scope: scopeOf(c.List.Ref)}}
		way := w.way(deny)
		switch {
		case w.err != nil:
			failed = cmp.Or(failed, w.err)
			continue
		case !deny && len(out) > 0 && !denies(out[0]):
			continue // the first way denies nothing, so this one is the same
		}
		used, peak := quota.Used, quota.Used
		for _, e := range way.Edits {
			used += len(e.New) - len(e.Old)
			peak = max(peak, used)
		}
		if peak > quota.Limit {
			failed = cmp.Or(failed, fmt.Errorf("%s would make %d of at most %d rules: %w", way.Name, peak, quota.Limit, providers.ErrInexpressible))
			continue
		}
		way.Peak = peak
		out = append(out, way)
	}
	if len(out) == 0 {
		return nil, failed
	}
	return out, nil
}

// denies says whether way makes deny rules.
func denies(way providers.Way) bool {
	return slices.ContainsFunc(way.Edits, func(e cloud.Edit) bool {
		return slices.ContainsFunc(e.New, func(r cloud.Rule) bool { return r.Verdict == cloud.Deny })
	})
}

// way returns the edits: whatever is added first, and then what is taken away.
func (w *rewriting) way(deny bool) providers.Way {
	var added, removed []cloud.Rule
	var toDeny traffic.Set
	var port0 traffic.Set
	for i := range w.Rules {
		r := &w.Rules[i]
		gone := r.Match.Subtract(w.Keep)
		if deny && !w.only(r) {
			toDeny = toDeny.Union(gone)
			continue
		}
		var n nativeRule
		if err := json.Unmarshal(r.Native, &n); err != nil {
			w.err = fmt.Errorf("rule %s is not what the API documents: %w", r.Ref.ID, providers.ErrInexpressible)
			return providers.Way{}
		}
		if strings.EqualFold(n.Action, "allow") {
			n.Action = "" // which means allow, also to an API that knows no action
		}
		added = append(added, w.carve(r, &n)...)
		removed = append(removed, *r)
		for _, proto := range []traffic.Proto{traffic.TCP, traffic.UDP} {
			port0 = port0.Union(r.Match.Intersect(traffic.Of(traffic.All().Sources(), proto.Port(0), proto.Port(0))))
		}
	}
	// What is there already is not added: its removal, on undo, would take the other away too.
	added = slices.DeleteFunc(added, func(r cloud.Rule) bool { return w.List.Find(&r) >= 0 })
	denied := w.denies(toDeny.Subtract(w.Spare))
	way := providers.Way{Name: "cutting the ports out"}
	if len(denied) > 0 {
		way.Name = "deny rules"
	}
	if len(removed) > 0 && !port0.IsEmpty() {
		way.Trifle, way.Why = port0, "port 0, which no service can use (RFC 6335, section 6)"
	}
	if added = append(added, denied...); len(added) > 0 {
		way.Edits = append(way.Edits, cloud.Edit{List: w.List.Ref, New: added})
	}
	if len(removed) > 0 {
		way.Edits = append(way.Edits, cloud.Edit{List: w.List.Ref, Old: removed})
	}
	if len(way.Edits) == 0 && w.err == nil {
		w.err = fmt.Errorf("nothing of the rules can be taken away: %w", providers.ErrInexpressible)
	}
	return way
}

// only says whether r is about nothing but ports that are asked about.
func (w *rewriting) only(r *cloud.Rule) bool {
	only := true
	asked := map[traffic.Service]bool{}
	w.Drop.Each(func(_ *netipx.IPSet, from, to traffic.Service) bool {
		for svc := from; svc <= to; svc++ {
			asked[svc] = true
		}
		return true
	})
	r.Match.Each(func(_ *netipx.IPSet, from, to traffic.Service) bool {
		for svc := from; svc <= to && only; svc++ {
			only = asked[svc]
		}
		return only
	})
	return only
}

// denies returns the rules that deny what is in gone, and may deny what no host sends.
func (w *rewriting) denies(gone traffic.Set) []cloud.Rule {
	var out []cloud.Rule
	gone.Each(func(src *netipx.IPSet, from, to traffic.Service) bool {
		out = append(out, w.rule(nativeRule{
			Protocol: from.Proto().String(), Ports: portRange(from.Port(), to.Port()),
			Sources: &godo.Sources{Addresses: addresses(readable(src))}, Action: "deny",
		}, nil))
		return true
	})
	return out
}

// readable returns src without the addresses that stand for load balancers, and of IPv6 only what is assigned for the
// internet (2000::/3), so that a rule stays readable.
func readable(src *netipx.IPSet) *netipx.IPSet {
	var b netipx.IPSetBuilder
	b.AddSet(src)
	b.RemovePrefix(netip.MustParsePrefix("240.0.0.0/4"))
	b.Intersect(traffic.IPs(netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("2000::/3")))
	return set(&b)
}

// set returns what b holds; all that is put into builders here is valid.
func set(b *netipx.IPSetBuilder) *netipx.IPSet {
	s, err := b.IPSet()
	if err != nil {
		panic(fmt.Sprintf("do: an invalid prefix got through: %v", err))
	}
	return s
}

// carve returns what takes the place of r: the ports around the asked ones with all sources, and the asked ones with the
// sources that are kept. Sources that are not addresses are peers in the team and stay.
func (w *rewriting) carve(r *cloud.Rule, n *nativeRule) []cloud.Rule {
	low, high, ok := ports(n.Ports)
	proto := map[string]traffic.Proto{"tcp": traffic.TCP, "udp": traffic.UDP}[strings.ToLower(n.Protocol)]
	if !ok || proto == 0 || n.Sources == nil {
		w.err = fmt.Errorf("rule %s is not what the API documents: %w", r.Ref.ID, providers.ErrInexpressible)
		return nil
	}
	low = max(low, 1)
	from, to := proto.Ports(low, high)
	var out []cloud.Rule
	next := from
	piece := func(first, last traffic.Service) {
		if first <= last {
			part := *n
			part.Ports = portRange(first.Port(), last.Port())
			out = append(out, w.rule(part, r))
		}
	}
	w.Drop.Intersect(traffic.Of(traffic.All().Sources(), from, to)).Each(func(_ *netipx.IPSet, first, last traffic.Service) bool {
		piece(next, first-1)
		next = last + 1
		kept := nativeRule{Protocol: n.Protocol, Ports: portRange(first.Port(), last.Port()), Action: n.Action, Sources: &godo.Sources{
			Tags: n.Sources.Tags, DropletIDs: n.Sources.DropletIDs, LoadBalancerUIDs: n.Sources.LoadBalancerUIDs, KubernetesIDs: n.Sources.KubernetesIDs,
		}}
		sources, doubt := (&translation{}).sources(n.Sources)
		if !traffic.IsEmptyIPs(doubt) {
			w.err = fmt.Errorf("rule %s has a source that is not an address: %w", r.Ref.ID, providers.ErrInexpressible)
		}
		kept.Sources.Addresses = addresses(traffic.IntersectIPs(sources, w.Keep.From(first)))
		if s := kept.Sources; len(s.Addresses)+len(s.Tags)+len(s.DropletIDs)+len(s.LoadBalancerUIDs)+len(s.KubernetesIDs) > 0 {
			out = append(out, w.rule(kept, r))
		}
		return true
	})
	piece(next, to)
	return out
}

// rule returns a new rule of the list. What it takes the place of says which load balancers it matches: those of the old
// rule, for a rule that keeps all private sources keeps the networks that balancers are in.
func (w *rewriting) rule(n nativeRule, was *cloud.Rule) cloud.Rule {
	if len(n.Sources.Addresses) > maxSources {
		w.err = fmt.Errorf("a rule would need %d of at most %d sources: %w", len(n.Sources.Addresses), maxSources, providers.ErrInexpressible)
	}
	text, err := json.Marshal(n)
	if err != nil {
		panic(fmt.Sprintf("do: a rule has no JSON form: %v", err)) // it is made of strings and numbers
	}
	var rule godo.InboundRule
	if err := json.Unmarshal(text, &rule); err != nil {
		panic(fmt.Sprintf("do: a rule does not come back: %v", err))
	}
	w.next++
	out := w.t.rule(w.List.Ref.ID, 0, &rule, text)
	out.Ref.ID = w.List.Ref.ID + "#new-" + strconv.Itoa(w.next)
	if was != nil {
		certain, _ := services(&rule)
		balancers := traffic.IPs(netip.MustParsePrefix("240.0.0.0/4"))
		out.Match = out.Match.Union(was.Match.Intersect(packets(balancers, certain)))
		out.Maybe = was.Maybe.Intersect(packets(traffic.All().Sources(), certain)).Subtract(out.Match)
		if !out.Maybe.IsEmpty() {
			out.Doubt, out.Cause, out.Hint = was.Doubt, was.Cause, was.Hint
		}
	}
	return out
}

func portRange(from, to uint16) string {
	if from == to {
		return strconv.Itoa(int(from))
	}
	return fmt.Sprintf("%d-%d", from, to)
}

// addresses returns src as the API takes it.
func addresses(src *netipx.IPSet) []string {
	var out []string
	for _, p := range src.Prefixes() {
		if p.IsSingleIP() {
			out = append(out, p.Addr().String())
		} else {
			out = append(out, p.String())
		}
	}
	return out
}

// scopeOf returns the scope that ref is in.
func scopeOf(ref cloud.Ref) cloud.Scope {
	return cloud.Scope{Provider: ref.Provider, Account: ref.Scope}
}

// Guard puts a firewall in front of a droplet that has none. It admits all that rules can name, in and out, but for drop:
// every protocol other than TCP, UDP and ICMP is lost.
func (p *Provider) Guard(e *cloud.Endpoint, was *cloud.List, drop, keep traffic.Set) (providers.Way, error) {
	id, err := strconv.Atoi(e.Ref.ID)
	if err != nil || e.Ref.Kind != "droplet" {
		return providers.Way{}, fmt.Errorf("a %s cannot stand behind a firewall: %w", e.Ref.Kind, providers.ErrInexpressible)
	}
	scope := scopeOf(e.Ref)
	ref := scope.Ref("firewall", "cloudaudit-"+strconv.Itoa(id))
	w := rewriting{Change: providers.Change{List: &cloud.List{Ref: ref}, Drop: drop, Keep: keep}, t: translation{scope: scope}}
	world := &godo.Sources{Addresses: []string{"0.0.0.0/0", "::/0"}}
	var rules []cloud.Rule
	for _, n := range []nativeRule{{"tcp", "0", world, ""}, {"udp", "0", world, ""}, {"icmp", "0", world, ""}} {
		rules = append(rules, w.rule(n, nil))
	}
	rules = append(rules, w.denies(traffic.All().Subtract(keep))...)
	if w.err != nil {
		return providers.Way{}, w.err
	}
	return providers.Way{
		Name: "a firewall of its own", Peak: len(rules) + 3,
		Edits: []cloud.Edit{{
			List: ref, New: rules, Guard: &cloud.Guard{Name: "cloudaudit-" + strconv.Itoa(id), Endpoints: []cloud.Ref{e.Ref}, Was: was},
		}},
	}, nil
}

// Commands returns e as doctl commands (https://docs.digitalocean.com/reference/doctl/reference/compute/firewall/).
func (p *Provider) Commands(e cloud.Edit) ([][]string, error) {
	var out [][]string
	fields := func(rules []cloud.Rule) (string, error) {
		var all []string
		for _, r := range rules {
			var n nativeRule
			if err := json.Unmarshal(r.Native, &n); err != nil {
				return "", fmt.Errorf("rule %s: %w", r.Ref.ID, err)
			}
			parts := []string{"protocol:" + n.Protocol, "ports:" + n.Ports}
			if n.Sources != nil {
				for _, a := range n.Sources.Addresses {
					parts = append(parts, "address:"+a)
				}
				for _, tag := range n.Sources.Tags {
					parts = append(parts, "tag:"+tag)
				}
				for _, d := range n.Sources.DropletIDs {
					parts = append(parts, "droplet_id:"+strconv.Itoa(d))
				}
				for _, uid := range n.Sources.LoadBalancerUIDs {
					parts = append(parts, "load_balancer_uid:"+uid)
				}
				for _, id := range n.Sources.KubernetesIDs {
					parts = append(parts, "kubernetes_id:"+id)
				}
			}
			if n.Action != "" {
				parts = append(parts, "action:"+n.Action)
			}
			all = append(all, strings.Join(parts, ","))
		}
		return strings.Join(all, " "), nil
	}
	added, err := fields(e.New)
	if err != nil {
		return nil, err
	}
	removed, err := fields(e.Old)
	if err != nil {
		return nil, err
	}
	firewall := []string{"doctl", "compute", "firewall"}
	switch {
	case e.Guard != nil && len(e.New) == 0:
		return [][]string{append(firewall, "delete", e.List.ID, "--force")}, nil
	case e.Guard != nil:
		ids := make([]string, 0, len(e.Guard.Endpoints))
		for _, ref := range e.Guard.Endpoints {
			ids = append(ids, ref.ID)
		}
		everywhere := "address:0.0.0.0/0,address:::/0"
		return [][]string{append(firewall, "create", "--name", e.Guard.Name, "--droplet-ids", strings.Join(ids, ","),
			"--inbound-rules", added, "--outbound-rules",
			"protocol:tcp,ports:all,"+everywhere+" protocol:udp,ports:all,"+everywhere+" protocol:icmp,"+everywhere)}, nil
	}
	if added != "" {
		out = append(out, append(slices.Clone(firewall), "add-rules", e.List.ID, "--inbound-rules", added))
	}
	if removed != "" {
		out = append(out, append(slices.Clone(firewall), "remove-rules", e.List.ID, "--inbound-rules", removed))
	}
	return out, nil
}
