package aws

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"go4.org/netipx"

	"github.com/cloudaudit/cloudaudit/cloud"
	"github.com/cloudaudit/cloudaudit/providers"
	"github.com/cloudaudit/cloudaudit/traffic"
)

// originTag is the tag of a rule that a fix made, with the id of the rule that it was cut from.
const originTag = "cloudaudit:rule"

// mostTags is how many tags a resource may have (https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/Using_Tags.html).
const mostTags = 50

// instead is what can be done about a rule for all protocols, of which a group's rules cannot say "all but these ports".
const instead = "To lose less: add a rule for each further protocol that is used, such as 47 (GRE), 50 (ESP), 51 (AH) or 132 (SCTP), before " +
	"this; put the rules into a second group on the same interfaces; deny the ports in the network ACL of a subnet without " +
	"NAT gateways, balancers and functions, whose replies it would cut off; or make memcached listen on 127.0.0.1 (-l) and not on UDP (-U 0)."

// rewriting gathers the edits of one change of a security group.
type rewriting struct {
	providers.Change
	region  *region
	inPlace bool // a rule of IPv6 none of whose ports remain takes the first private source that is kept, as one of IPv4 does
	local   bool // link-local sources are kept too
	covered traffic.Set
	next    int // numbers new rules
	count   perFamily
}

// perFamily is a number of rules by the address family that they count for.
type perFamily struct{ v4, v6 int }

// Rewrite adds what has to stay as rules of their own and then shrinks the rule in place, so that its id, description and
// tags live on; it takes a rule away only if nothing of it remains. Rules are of one source each, so that nothing else of
// the group is touched.
//
// Clouds that speak like AWS may not change the source of a rule of IPv6; there it is made anew. If all that takes more
// rules than a group may have, link-local sources, which no router forwards, are not kept.
func (p *Provider) Rewrite(c providers.Change) ([]providers.Way, error) {
	if c.List.Ref.Kind == "lightsail-firewall" {
		return rewritePorts(c)
	}
	if c.List.Ref.Kind != "security-group" {
		return nil, fmt.Errorf("a %s is not changed: %w", c.List.Ref.Kind, providers.ErrInexpressible)
	}
	var out []providers.Way
	var failed error
	for _, local := range []bool{true, false} {
		for _, inPlace := range []bool{true, false} {
			w := rewriting{Change: c, region: &region{scope: scopeOf(c.List.Ref)}, inPlace: inPlace, local: local}
			way, err := w.way()
			if err != nil {
				failed = cmp.Or(failed, err)
				continue
			}
			if !slices.ContainsFunc(out, func(other providers.Way) bool { return other.Name == way.Name }) {
				out = append(out, way)
			}
		}
		if len(out) > 0 {
			return out, nil
		}
	}
	return nil, failed
}

// scopeOf returns the scope that ref is in.
func scopeOf(ref cloud.Ref) cloud.Scope {
	account, region, _ := strings.Cut(ref.Scope, "/")
	return cloud.Scope{Provider: ref.Provider, Account: account, Region: region}
}

// way returns the edits, rule by rule.
func (w *rewriting) way() (providers.Way, error) {
	way := providers.Way{Name: "narrowing the rules"}
	for i := range w.List.Rules {
		r := &w.List.Rules[i]
		n, err := nativeOf(r)
		if err != nil {
			return way, err
		}
		w.count.add(n, 1)
		if n.prefix().IsValid() && !slices.ContainsFunc(w.Rules, func(c cloud.Rule) bool { return c.Ref == r.Ref }) {
			w.covered = w.covered.Union(r.Match)
		}
	}
	used, limit := max(w.count.v4, w.count.v6), defaultRules
	if q := w.List.Quota; q != nil {
		// What a prefix list counts for is known to the quota alone.
		w.count.v4, w.count.v6, limit = w.count.v4+q.Used-used, w.count.v6+q.Used-used, q.Limit
	}
	way.Peak = max(w.count.v4, w.count.v6)
	for i := range w.Rules {
		r := &w.Rules[i]
		n, err := nativeOf(r)
		if err == nil {
			err = w.editable(r, n)
		}
		if err != nil {
			return way, err
		}
		pieces := slices.DeleteFunc(w.pieces(n), func(piece nativeRule) bool {
			match := w.rule(&piece, "").Match
			if match.Subtract(w.covered).IsEmpty() {
				return true
			}
			w.covered = w.covered.Union(match)
			return false
		})
		second := cloud.Edit{List: w.List.Ref, Old: []cloud.Rule{*r}}
		if len(pieces) > 0 && (pieces[0].prefix() == n.prefix() || w.inPlace || n.CidrIPv6 == "") {
			second.New = []cloud.Rule{w.rule(&pieces[0], r.Ref.ID)}
			pieces = pieces[1:]
		} else if len(pieces) > 0 {
			way.Name = "making rules of IPv6 anew"
		}
		if len(pieces) > 0 {
			first := cloud.Edit{List: w.List.Ref}
			for k := range pieces {
				piece := &pieces[k]
				w.next++
				piece.Tags = siblingTags(n.Tags, r.Ref.ID)
				first.New = append(first.New, w.rule(piece, w.List.Ref.ID+"#new-"+strconv.Itoa(w.next)))
				w.count.add(piece, 1)
			}
			way.Edits = append(way.Edits, first)
		}
		way.Peak = max(way.Peak, w.count.v4, w.count.v6)
		way.Edits = append(way.Edits, second)
		if len(second.New) == 0 {
			w.count.add(n, -1)
		}
	}
	if slices.ContainsFunc(w.Rules, func(r cloud.Rule) bool {
		n, err := nativeOf(&r)
		return err == nil && n.IPProtocol == "-1"
	}) {
		way.Instead = instead
	}
	if !w.local {
		from, to, _ := allServices()
		way.Trifle, way.Why = traffic.Of(linkLocal(), from, to), "link-local sources, which no router forwards (RFC 3927, RFC 4291)"
	}
	if way.Peak > limit {
		return way, fmt.Errorf("it takes %d of at most %d %s: keep fewer private networks, or ask AWS for a higher quota: %w",
			way.Peak, limit, "inbound rules of one address family", providers.ErrInexpressible)
	}
	return way, nil
}

// add counts n rules like v.
func (c *perFamily) add(v *nativeRule, n int) {
	switch p := v.prefix(); {
	case p.IsValid() && p.Addr().Is4():
		c.v4 += n
	case p.IsValid():
		c.v6 += n
	default:
		c.v4, c.v6 = c.v4+n, c.v6+n
	}
}

// linkLocal returns the addresses of RFC 3927 and RFC 4291, section 2.5.6.
func linkLocal() *netipx.IPSet {
	return traffic.IPs(netip.MustParsePrefix("169.254.0.0/16"), netip.MustParsePrefix("fe80::/10"))
}

// nativeOf returns what the API says of r.
func nativeOf(r *cloud.Rule) (*nativeRule, error) {
	var n nativeRule
	if r.Native == nil || json.Unmarshal(r.Native, &n) != nil {
		return nil, fmt.Errorf("rule %s was read without its id: grant ec2:DescribeSecurityGroupRules: %w", r.Ref.ID, providers.ErrInexpressible)
	}
	return &n, nil
}

// prefix returns the network that is n's source; the zero prefix if its source is something else.
func (n *nativeRule) prefix() netip.Prefix {
	p, err := netip.ParsePrefix(n.CidrIPv4 + n.CidrIPv6)
	if err != nil {
		return netip.Prefix{}
	}
	return p.Masked()
}

// editable says why r must not be changed, or nil.
func (w *rewriting) editable(r *cloud.Rule, n *nativeRule) error {
	why := ""
	switch account := w.region.scope.Account; {
	case n.GroupOwnerID != "" && n.GroupOwnerID != account:
		why = fmt.Sprintf("the group belongs to account %s, which alone can change it", n.GroupOwnerID)
	case n.PrefixListID != "":
		why = fmt.Sprintf("the source of rule %s is the prefix list %s, which others use too: take the internet out of the list, or put rules of your own in the rule's place", r.Ref.ID, n.PrefixListID)
	case n.ReferencedGroupID != "":
		why = fmt.Sprintf("the source of rule %s is the group %s: look at who its members are", r.Ref.ID, n.ReferencedGroupID)
	case !n.prefix().IsValid():
		why = fmt.Sprintf("rule %s has a source of a kind that is not known", r.Ref.ID)
	case r.Match.IsEmpty():
		why = fmt.Sprintf("rule %s has no ports", r.Ref.ID)
	default:
		return nil
	}
	return fmt.Errorf("%s: %w", why, providers.ErrInexpressible)
}

// siblingTags returns the tags of a rule that is cut from the rule id with tags.
func siblingTags(tags map[string]string, id string) map[string]string {
	out := map[string]string{}
	maps.Copy(out, tags)
	maps.DeleteFunc(out, func(key, _ string) bool { return strings.HasPrefix(key, "aws:") }) // nobody but AWS may set them
	if len(out) < mostTags {
		out[originTag] = id
	}
	return out
}

// rule returns n as a rule of the list with an id.
func (w *rewriting) rule(n *nativeRule, id string) cloud.Rule {
	v := rule{id: id, protocol: n.IPProtocol, from: n.FromPort, to: n.ToPort, cidr: n.prefix(), description: n.Description}
	// Plain strings and numbers always encode.
	v.native, _ = json.Marshal(n)
	return w.region.translated(id, &v)
}

// pieces returns what has to stay of n: the ports around the asked ones from all of its source, and then the asked ones
// from the private part of it. All protocols become TCP, UDP and ICMP from all of the source, and all from the private part.
func (w *rewriting) pieces(n *nativeRule) []nativeRule {
	source := traffic.IPs(n.prefix())
	var ports, private []nativeRule
	cut := func(proto traffic.Proto, name string, low, high uint16, each func(kept *netipx.IPSet, from, to int32)) {
		from, to := proto.Ports(low, high)
		next := from
		piece := func(first, last traffic.Service) {
			if first <= last {
				v := *n
				v.IPProtocol, v.FromPort, v.ToPort = name, new(int32), new(int32)
				*v.FromPort, *v.ToPort = int32(first.Port()), int32(last.Port())
				ports = append(ports, v)
			}
		}
		w.Drop.Intersect(traffic.Of(source, from, to)).Each(func(_ *netipx.IPSet, first, last traffic.Service) bool {
			piece(next, first-1)
			next = last + 1
			w.Keep.Intersect(traffic.Of(source, first, last)).Each(func(kept *netipx.IPSet, first, last traffic.Service) bool {
				each(w.kept(kept), int32(first.Port()), int32(last.Port()))
				return true
			})
			return true
		})
		if next <= to {
			piece(next, to)
		}
	}
	from := func(p netip.Prefix) nativeRule {
		v := *n
		v.CidrIPv4, v.CidrIPv6 = "", ""
		if p.Addr().Is4() {
			v.CidrIPv4 = p.String()
		} else {
			v.CidrIPv6 = p.String()
		}
		return v
	}
	number, _ := protocol(n.IPProtocol)
	if number >= 0 {
		cut(traffic.Proto(number), n.IPProtocol, uint16(*n.FromPort), uint16(*n.ToPort), func(kept *netipx.IPSet, first, last int32) {
			for _, p := range kept.Prefixes() {
				v := from(p)
				v.FromPort, v.ToPort = &first, &last
				private = append(private, v)
			}
		})
		return append(ports, private...)
	}
	stays := source
	dropped := false
	for _, proto := range []traffic.Proto{traffic.TCP, traffic.UDP} {
		kept := traffic.IPs()
		cut(proto, proto.String(), 0, 65535, func(k *netipx.IPSet, _, _ int32) { kept = traffic.UnionIPs(kept, k) })
		if low, high := proto.All(); !w.Drop.Intersect(traffic.Of(source, low, high)).IsEmpty() {
			stays, dropped = traffic.IntersectIPs(stays, kept), true
		}
	}
	icmp := *n
	icmp.IPProtocol, icmp.FromPort, icmp.ToPort = "icmp", new(int32), new(int32)
	if n.CidrIPv6 != "" {
		icmp.IPProtocol = "icmpv6"
	}
	*icmp.FromPort, *icmp.ToPort = -1, -1
	ports = append(ports, icmp)
	if dropped {
		for _, p := range stays.Prefixes() {
			private = append(private, from(p))
		}
	}
	return append(ports, private...)
}

// kept returns the part of sources to make rules for.
func (w *rewriting) kept(sources *netipx.IPSet) *netipx.IPSet {
	if w.local {
		return sources
	}
	var b netipx.IPSetBuilder
	b.AddSet(sources)
	b.RemoveSet(linkLocal())
	return set(&b)
}

// Guard wraps ErrInexpressible: on AWS nothing is without a firewall.
func (p *Provider) Guard(e *cloud.Endpoint, _ *cloud.List, _, _ traffic.Set) (providers.Way, error) {
	return providers.Way{}, fmt.Errorf("%s %s always has a firewall: %w", e.Ref.Kind, e.Ref.ID, providers.ErrInexpressible)
}
