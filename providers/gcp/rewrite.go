package gcp

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"go4.org/netipx"
	"google.golang.org/protobuf/proto"

	"github.com/cloudaudit/cloudaudit/cloud"
	"github.com/cloudaudit/cloudaudit/providers"
	"github.com/cloudaudit/cloudaudit/traffic"
)

// maxRanges is how many source ranges a rule may have, of a network and of a policy
// (https://cloud.google.com/firewall/docs/quotas#limits).
const maxRanges = 5000

// lastPriority is the greatest priority of a rule of a policy but for the four that every policy ends with.
const lastPriority = 2147483547

// rewriting gathers the edits of one change.
type rewriting struct {
	providers.Change
	asked map[string][]uint16 // ports by protocol, ascending
	taken map[string]bool     // names of a network's rules, priorities of a policy's
	skip  int                 // priorities to pass over, because rules that do not show may have them
	edits []cloud.Edit
	sorts map[string]bool // what was made: "deny rules", "narrowing"
}

// Rewrite narrows the sources of rules about nothing but asked ports, in place. For all others it offers deny rules: of the
// same priority in a network, where deny wins among equals
// (https://cloud.google.com/firewall/docs/firewalls#priority_order_for_firewall_rules), and of a smaller one in a policy,
// whose rules each have their own. Their sources are the internet and not everybody, so that nothing else is lost. Where that
// finds no room, it cuts the ports out of the rule and puts a rule for the sources that are kept beside it.
func (p *Provider) Rewrite(c providers.Change) ([]providers.Way, error) {
	if c.List.Ref.Kind != networkKind && c.List.Ref.Kind != policyKind {
		return nil, fmt.Errorf("%s is a %s, which a project cannot change: ask whose it is: %w",
			c.List.Name, strings.ReplaceAll(c.List.Ref.Kind, "-", " "), providers.ErrInexpressible)
	}
	var out []providers.Way
	var failed error
	try := func(deny bool, skip int) (denied bool) {
		w := newRewriting(c, skip)
		if err := w.rewrite(deny); err != nil {
			if failed == nil {
				failed = err
			}
			return false
		}
		denied = w.sorts["deny rules"]
		if len(w.edits) > 0 && (denied || deny || len(out) == 0 || w.sorts["cutting the ports out"]) {
			out = append(out, providers.Way{Name: strings.Join(sorted(w.sorts), ", "), Edits: w.edits})
		}
		return denied
	}
	if try(true, 0) && c.List.Ref.Kind == policyKind {
		try(true, 1)
	}
	try(false, 0)
	if len(out) == 0 {
		if failed == nil {
			failed = fmt.Errorf("nothing of the rules can be taken away: %w", providers.ErrInexpressible)
		}
		return nil, failed
	}
	return out, nil
}

func sorted(set map[string]bool) []string {
	var out []string
	for s := range set {
		out = append(out, s)
	}
	slices.Sort(out)
	return out
}

func newRewriting(c providers.Change, skip int) *rewriting {
	w := &rewriting{Change: c, asked: map[string][]uint16{}, taken: map[string]bool{}, skip: skip, sorts: map[string]bool{}}
	c.Drop.Each(func(_ *netipx.IPSet, from, to traffic.Service) bool {
		for svc := from; svc <= to; svc++ {
			w.asked[svc.Proto().String()] = append(w.asked[svc.Proto().String()], svc.Port())
		}
		return true
	})
	for i := range c.List.Rules {
		_, id, ok := strings.Cut(c.List.Rules[i].Ref.ID, "/")
		if !ok {
			id = c.List.Rules[i].Ref.ID
		}
		w.taken[id] = true
	}
	return w
}

// rewrite makes the edits for every rule.
func (w *rewriting) rewrite(deny bool) error {
	for i := range w.Rules {
		r := &w.Rules[i]
		d, err := draftOf(w.List.Ref, r)
		if err != nil {
			return err
		}
		done, err := w.narrow(r, d)
		if err == nil && !done && deny {
			err = w.deny(r, d, w.Spares[i])
		} else if err == nil && !done {
			err = w.carve(r, d)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// add adds a rule that takes its place beside r.
func (w *rewriting) add(r *cloud.Rule, d draft) error {
	if n := len(d.ranges()); n > maxRanges {
		return fmt.Errorf("a rule would need %d of at most %d source ranges: %w", n, maxRanges, providers.ErrInexpressible)
	}
	rule, err := d.rule(w.List.Ref)
	if err != nil {
		return err
	}
	w.edits = append(w.edits, cloud.Edit{List: w.List.Ref, New: []cloud.Rule{rule}, At: r.Ref})
	return nil
}

// change replaces r by d in place.
func (w *rewriting) change(r *cloud.Rule, d draft) error {
	rule, err := d.rule(w.List.Ref)
	if err != nil {
		return err
	}
	w.edits = append(w.edits, cloud.Edit{List: w.List.Ref, Old: []cloud.Rule{*r}, New: []cloud.Rule{rule}})
	return nil
}

// narrow leaves r the sources that are kept, if it is about nothing but asked ports. It is false if that cannot be said.
func (w *rewriting) narrow(r *cloud.Rule, d draft) (bool, error) {
	if left, ok := without(d.entries(), w.asked); !ok || len(left) > 0 || d.byName() || !r.Maybe.IsEmpty() {
		return false, nil
	}
	parts := bySources(r.Match.Intersect(w.Keep))
	if len(parts) != 1 || len(bySources(r.Match)) != 1 {
		return false, nil // no source is left, which would mean everybody, or not the same for every port
	}
	if !slices.Equal(parts[0].services, servicesIn(r.Match)) {
		return false, nil
	}
	w.sorts["narrowing"] = true
	out := d.clone()
	out.setRanges(texts(parts[0].sources))
	return true, w.change(r, out)
}

// deny adds rules that deny what r must no longer admit.
func (w *rewriting) deny(r *cloud.Rule, d draft, spare traffic.Set) error {
	gone := r.Match.Union(r.Maybe).Subtract(w.Keep).Subtract(spare)
	for _, part := range bySources(gone) {
		for _, sources := range families(readable(part.sources)) {
			out := d.beside(cloud.Deny, entriesOf(part.services), texts(sources))
			out.describe("Keeps the internet from " + ports(part.services) + ", which " + label(w.List.Ref, r) + " admits. Made by cloudaudit.")
			if err := w.name(out, r, "deny", -1); err != nil {
				return err
			}
			w.sorts["deny rules"] = true
			if rule, err := out.rule(w.List.Ref); err == nil && w.List.Find(&rule) >= 0 {
				continue // there already: its removal, on undo, would take it away
			}
			if err := w.add(r, out); err != nil {
				return err
			}
		}
	}
	return nil
}

// carve cuts the asked ports out of r, after it has put a rule for the sources that are kept beside it.
func (w *rewriting) carve(r *cloud.Rule, d draft) error {
	left, ok := without(d.entries(), w.asked)
	switch {
	case !ok:
		return fmt.Errorf("%s is for more protocols than a rule can list without the port: %w", label(w.List.Ref, r), providers.ErrInexpressible)
	case len(left) == 0:
		return fmt.Errorf("nothing would be left of %s, and it is not deleted: %w", label(w.List.Ref, r), providers.ErrInexpressible)
	case d.byName() || !r.Maybe.IsEmpty():
		return fmt.Errorf("%s has a source that is not an address: %w", label(w.List.Ref, r), providers.ErrInexpressible)
	}
	w.sorts["cutting the ports out"] = true
	var asked traffic.Set
	for name, ports := range w.asked {
		for _, port := range ports {
			svc := map[string]traffic.Proto{"tcp": traffic.TCP, "udp": traffic.UDP}[name].Port(port)
			asked = asked.Union(traffic.Of(everywhere(), svc, svc))
		}
	}
	parts := bySources(r.Match.Intersect(asked).Intersect(w.Keep))
	if len(parts) == 0 && d.byInstance() {
		parts = []share{{traffic.IPs(), servicesIn(r.Match.Intersect(asked))}}
	}
	for _, part := range parts {
		out := d.beside(cloud.Allow, entriesOf(part.services), texts(part.sources))
		out.describe("Who keeps access to " + ports(part.services) + ", which " + label(w.List.Ref, r) + " admitted to all. Made by cloudaudit.")
		if err := w.name(out, r, "keep", 1); err != nil {
			return err
		}
		if err := w.add(r, out); err != nil {
			return err
		}
	}
	out := d.clone()
	out.setEntries(cloud.Allow, left)
	return w.change(r, out)
}

// name gives d, which stands beside r, a name, or in a policy a priority: the first that is free before r, or after it and
// before any other rule.
func (w *rewriting) name(d draft, r *cloud.Rule, what string, step int64) error {
	if d.vpc != nil {
		text := w.List.Ref.String() + string(native(d.vpc))
		for n := 0; ; n++ {
			sum := sha256.Sum256([]byte(text + strings.Repeat("+", n)))
			base := strings.TrimRight(cut(r.Name, 63-len("cloudaudit-keep--")-8), "-")
			name := "cloudaudit-" + what + "-" + base + "-" + hex.EncodeToString(sum[:4])
			d.vpc.Name = proto.String(name)
			if rule, err := d.rule(w.List.Ref); err != nil || !w.taken[name] || w.List.Find(&rule) >= 0 {
				w.taken[name] = true
				return err
			}
		}
	}
	skip := w.skip
	for at := int64(d.policy.GetPriority()) + step; at >= 0 && at <= lastPriority; at += step {
		id := strconv.FormatInt(at, 10)
		switch {
		case w.taken[id] && step > 0:
			return fmt.Errorf("policy %s has no free priority between %s and the next: %w", w.List.Name, label(w.List.Ref, r), providers.ErrInexpressible)
		case w.taken[id]:
		case skip > 0:
			skip--
		default:
			w.taken[id] = true
			d.policy.Priority = proto.Int32(int32(at))
			return nil
		}
	}
	return fmt.Errorf("policy %s has no free priority before %s: %w", w.List.Name, label(w.List.Ref, r), providers.ErrInexpressible)
}

// cut returns the first n bytes of s, which is ASCII in a name.
func cut(s string, n int) string { return s[:min(n, len(s))] }

// label names a rule for people.
func label(list cloud.Ref, r *cloud.Rule) string {
	if list.Kind == policyKind {
		_, priority, _ := strings.Cut(r.Ref.ID, "/")
		return "rule " + priority
	}
	return r.Ref.ID
}

// share is packets whose services all have the same sources.
type share struct {
	sources  *netipx.IPSet
	services [][2]traffic.Service
}

// bySources takes a set apart.
func bySources(s traffic.Set) []share {
	var out []share
	s.Each(func(src *netipx.IPSet, from, to traffic.Service) bool {
		i := slices.IndexFunc(out, func(s share) bool { return s.sources.Equal(src) })
		if i < 0 {
			i = len(out)
			out = append(out, share{sources: src})
		}
		out[i].services = append(out[i].services, [2]traffic.Service{from, to})
		return true
	})
	return out
}

// servicesIn returns the services of a set.
func servicesIn(s traffic.Set) [][2]traffic.Service {
	var out [][2]traffic.Service
	for _, p := range bySources(traffic.Of(everywhere(), 0, lastService).Intersect(s)) {
		out = append(out, p.services...)
	}
	return out
}

// entriesOf returns services as a rule lists them.
func entriesOf(services [][2]traffic.Service) []entry {
	var out []entry
	for _, s := range services {
		name := s[0].Proto().String()
		i := slices.IndexFunc(out, func(e entry) bool { return e.protocol == name })
		if i < 0 {
			i = len(out)
			out = append(out, entry{protocol: name})
		}
		out[i].ports = append(out[i].ports, ports16(int(s[0].Port()), int(s[1].Port())))
	}
	return out
}

// ports returns services in words.
func ports(services [][2]traffic.Service) string {
	var out []string
	for _, e := range entriesOf(services) {
		out = append(out, e.protocol+" "+strings.Join(e.ports, " "))
	}
	return strings.Join(out, " and ")
}

// readable returns src with, of IPv6, only what is assigned for the internet (2000::/3) and private networks (fc00::/7), so
// that a rule stays readable.
func readable(src *netipx.IPSet) *netipx.IPSet {
	return traffic.IntersectIPs(src, traffic.IPs(
		netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("2000::/3"), netip.MustParsePrefix("fc00::/7")))
}

// families takes src apart, for a rule is of IPv4 or of IPv6.
func families(src *netipx.IPSet) []*netipx.IPSet {
	var out []*netipx.IPSet
	for _, all := range []string{"0.0.0.0/0", "::/0"} {
		if part := traffic.IntersectIPs(src, traffic.IPs(netip.MustParsePrefix(all))); !traffic.IsEmptyIPs(part) {
			out = append(out, part)
		}
	}
	return out
}

// texts returns src as ranges.
func texts(src *netipx.IPSet) []string {
	var out []string
	for _, p := range src.Prefixes() {
		out = append(out, p.String())
	}
	return out
}

// Guard returns an error: every network has firewall rules, if only the implied ones, which deny.
func (p *Provider) Guard(*cloud.Endpoint, *cloud.List, traffic.Set, traffic.Set) (providers.Way, error) {
	return providers.Way{}, fmt.Errorf("every network of Google Cloud has firewall rules: %w", providers.ErrInexpressible)
}

// Commands returns e as gcloud commands (https://cloud.google.com/sdk/gcloud/reference/compute/firewall-rules,
// https://cloud.google.com/sdk/gcloud/reference/compute/network-firewall-policies/rules).
func (p *Provider) Commands(e cloud.Edit) ([][]string, error) {
	if len(e.New) > 1 || len(e.Old) > 1 || len(e.New)+len(e.Old) == 0 {
		return nil, errors.New("one command changes one rule")
	}
	var was, is draft
	var err error
	if len(e.Old) > 0 {
		if was, err = draftOf(e.List, &e.Old[0]); err != nil {
			return nil, err
		}
	}
	if len(e.New) > 0 {
		if is, err = draftOf(e.List, &e.New[0]); err != nil {
			return nil, err
		}
	}
	for _, name := range []string{was.vpc.GetName(), is.vpc.GetName()} {
		if strings.HasPrefix(name, "-") {
			return nil, fmt.Errorf("%q is no name of a firewall rule", name)
		}
	}
	return [][]string{command(e.List, was, is)}, nil
}
