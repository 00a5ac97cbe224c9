package do

import (
	"cmp"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/digitalocean/godo"
	"go4.org/netipx"

	"github.com/cloudaudit/cloudaudit/cloud"
	"github.com/cloudaudit/cloudaudit/traffic"
)

// A balancer speaks to its droplets from an address in their VPC that the API does not show. In packets it is therefore
// known by a stand-in from 240.0.0.0/4, which is reserved and belongs to no host (RFC 1112): a rule matches the stand-in if
// it names the balancer, or if its addresses hold all of the network that the balancer may speak from, and may match it
// if they hold a part.
type standIn struct {
	balancer string // its id
	addr     netip.Addr
	from     *netipx.IPSet // where the balancer's real address is
}

// privateUse is where the networks of a VPC may lie (RFC 1918), for want of a better answer.
func privateUse() *netipx.IPSet {
	return traffic.IPs(netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("172.16.0.0/12"), netip.MustParsePrefix("192.168.0.0/16"))
}

// standIns gives every balancer its stand-in, the same each time. Balancers are sorted by id.
func (v *inventory) standIns() map[string]standIn {
	out := map[string]standIn{}
	used := map[uint32]bool{}
	for i := range v.balancers {
		b := &v.balancers[i]
		h := fnv.New32a()
		_, _ = h.Write([]byte(b.id))
		n := h.Sum32() >> 4
		for used[n] {
			n = (n + 1) & (1<<28 - 1)
		}
		used[n] = true
		addr := netip.AddrFrom4([4]byte{240 | byte(n>>24), byte(n >> 16), byte(n >> 8), byte(n)})
		out[b.id] = standIn{b.id, addr, v.network(b)}
	}
	return out
}

// network returns where a balancer's private address is: in its VPC; if that is not listed, in the /20 around its droplets,
// the size that DigitalOcean gives a network by default; if the networks could not be read, anywhere in private use.
func (v *inventory) network(b *loadBalancer) *netipx.IPSet {
	if len(b.globalBalancer) > 0 || b.globalTarget > 0 {
		return traffic.IPs(netip.MustParsePrefix("0.0.0.0/0")) // global balancers stand outside of every VPC
	}
	targets := v.targets(b)
	vpc := b.vpc
	for _, d := range targets {
		if vpc == "" {
			vpc = d.vpc
		}
	}
	if p, ok := v.vpcs[vpc]; ok {
		return traffic.IPs(p)
	}
	if !v.partVPCs {
		for _, d := range targets {
			for _, a := range d.private {
				if a.Is4() {
					return traffic.IPs(netip.PrefixFrom(a, 20).Masked())
				}
			}
		}
	}
	return privateUse()
}

// translation turns firewalls into lists.
type translation struct {
	scope    cloud.Scope
	standIns map[string]standIn
}

// lists are one firewall as layers need it: deny rules of all firewalls come before allow rules of any. Both parts are
// there even without rules, for a fix may add some.
type lists struct {
	whole, deny, allow *cloud.List
}

// firewall translates f.
func (t *translation) firewall(f *firewall) lists {
	ref := t.scope.Ref("firewall", f.ID)
	list := func(rules []cloud.Rule) *cloud.List { return &cloud.List{Ref: ref, Name: f.Name, Rules: rules} }
	var denies, allows []cloud.Rule
	for i := range f.InboundRules {
		var native json.RawMessage
		if i < len(f.rules) {
			native = f.rules[i]
		}
		r := t.rule(f.ID, i, &f.InboundRules[i], native)
		if r.Verdict == cloud.Deny {
			denies = append(denies, r)
		} else {
			allows = append(allows, r)
		}
	}
	whole := list(slices.Concat(denies, allows))
	whole.Quota = &cloud.Quota{Used: len(f.InboundRules) + len(f.OutboundRules), Limit: maxRules, Of: "rules, inbound and outbound together"}
	whole.Owner = owner(f)
	deny, allow := list(denies), list(allows)
	deny.Part, allow.Part = cloud.Denies, cloud.Allows
	return lists{whole: whole, deny: deny, allow: allow}
}

// owner returns the Kubernetes cluster that made f, or nil: its firewalls are called k8s-<cluster>-worker and stand in front
// of the tag k8s:<cluster> (https://docs.digitalocean.com/products/kubernetes/details/managed/).
func owner(f *firewall) *cloud.Owner {
	cluster := ""
	for _, tag := range f.Tags {
		if id, ok := strings.CutPrefix(tag, "k8s:"); ok {
			cluster = id
		}
	}
	if id, ok := strings.CutPrefix(f.Name, "k8s-"); ok && cluster == "" {
		cluster = strings.TrimSuffix(strings.TrimSuffix(id, "-worker"), "-public-access")
	}
	if cluster == "" {
		return nil
	}
	return &cloud.Owner{
		By:      "the DigitalOcean Kubernetes cluster " + cluster,
		Instead: "make the Service of type ClusterIP or give it loadBalancerSourceRanges, and let no NodePort lead to memcached",
	}
}

// rule translates the nth inbound rule of a firewall. What of it is not understood is left in doubt.
func (t *translation) rule(firewall string, n int, r *godo.InboundRule, native json.RawMessage) cloud.Rule {
	out := cloud.Rule{Ref: t.scope.Ref("firewall-rule", firewall+"#"+strconv.Itoa(n)), Text: text(r), Native: native}
	sources, sourcesDoubt := t.sources(r.Sources)
	services, servicesDoubt := services(r)
	out.Match = packets(sources, services)
	out.Maybe = packets(sourcesDoubt, services).Union(packets(traffic.UnionIPs(sources, sourcesDoubt), servicesDoubt)).Subtract(out.Match)
	out.Cause, out.Hint = "rule_not_understood", "look at the rule in the control panel: a part of it is not what the API documents"
	switch strings.ToLower(string(r.Action)) {
	case "", "allow":
	case "deny":
		out.Verdict = cloud.Deny
	default: // of which it is not known whether it admits
		out.Maybe, out.Match = out.Match.Union(out.Maybe), traffic.Set{}
	}
	if out.Maybe.IsEmpty() {
		out.Cause, out.Hint = "", ""
		return out
	}
	out.Doubt = cloud.Unread
	if r.Sources != nil && len(services) > 0 && len(servicesDoubt) == 0 && t.onlyBalancers(sourcesDoubt) {
		out.Cause = "load_balancer_address_unknown"
		out.Hint = "the rule admits a part of the balancer's VPC: name the balancer as a source, or the whole network"
	}
	return out
}

// onlyBalancers says whether the doubt about sources is about balancers alone.
func (t *translation) onlyBalancers(doubt *netipx.IPSet) bool {
	var b netipx.IPSetBuilder
	b.AddSet(doubt)
	for _, s := range t.standIns {
		b.Remove(s.addr)
	}
	rest, err := b.IPSet()
	return err == nil && traffic.IsEmptyIPs(rest)
}

// interval is a range of services.
type interval struct{ from, to traffic.Service }

// packets returns the packets from sources to any of services.
func packets(sources *netipx.IPSet, services []interval) traffic.Set {
	var out traffic.Set
	for _, s := range services {
		out = out.Union(traffic.Of(sources, s.from, s.to))
	}
	return out
}

// services returns the services of a rule: those it is certainly about and, where protocol or ports are not what the API
// documents, those it may be about.
func services(r *godo.InboundRule) (certain, doubtful []interval) {
	var protocols []traffic.Proto
	switch strings.ToLower(r.Protocol) {
	case "tcp":
		protocols = []traffic.Proto{traffic.TCP}
	case "udp":
		protocols = []traffic.Proto{traffic.UDP}
	case "icmp": // has no ports, whatever the attribute says
		for _, p := range []traffic.Proto{traffic.ICMP, traffic.ICMPv6} {
			from, to := p.All()
			certain = append(certain, interval{from, to})
		}
		return certain, nil
	default:
		return nil, everything()
	}
	low, high, ok := ports(r.PortRange)
	for _, p := range protocols {
		from, to := p.Ports(low, high)
		if ok {
			certain = append(certain, interval{from, to})
		} else {
			doubtful = append(doubtful, interval{from, to})
		}
	}
	return certain, doubtful
}

// ports reads the ports of a rule: one port, a range, or all ports, which the API stores as "0" and accepts as "all". What
// it cannot read may be any port.
func ports(s string) (from, to uint16, ok bool) {
	s = strings.TrimSpace(s)
	if s == "0" || s == "" || strings.EqualFold(s, "all") {
		return 0, 1<<16 - 1, true
	}
	low, high, isRange := strings.Cut(s, "-")
	if !isRange {
		high = low
	}
	a, err1 := strconv.ParseUint(strings.TrimSpace(low), 10, 16)
	b, err2 := strconv.ParseUint(strings.TrimSpace(high), 10, 16)
	if err1 != nil || err2 != nil || b < a {
		return 0, 1<<16 - 1, false
	}
	return uint16(a), uint16(b), true
}

// sources returns the sources that a rule certainly matches and those that it may match. Of all kinds of sources only
// addresses can be hosts of the internet; tags, droplets and clusters are peers in the team.
func (t *translation) sources(s *godo.Sources) (certain, doubtful *netipx.IPSet) {
	if s == nil {
		return traffic.IPs(), traffic.IPs()
	}
	var addresses []netip.Prefix
	unreadable := false
	for _, a := range s.Addresses {
		p, ok := prefix(a)
		if !ok {
			unreadable = true
			continue
		}
		addresses = append(addresses, p)
	}
	certain, doubtful = traffic.IPs(addresses...), traffic.IPs()
	if unreadable {
		doubtful = traffic.IPs(netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0"))
	}
	var plus, minus, maybe []netip.Prefix
	for _, b := range t.standIns {
		one := netip.PrefixFrom(b.addr, 32)
		switch part := traffic.IntersectIPs(certain, b.from); {
		case slices.Contains(s.LoadBalancerUIDs, b.balancer), traffic.Subset(b.from, certain):
			plus = append(plus, one)
		case !traffic.IsEmptyIPs(part):
			minus, maybe = append(minus, one), append(maybe, one)
		default:
			minus = append(minus, one)
		}
	}
	if len(plus)+len(minus) > 0 {
		var b netipx.IPSetBuilder
		b.AddSet(certain)
		for _, p := range minus {
			b.RemovePrefix(p)
		}
		for _, p := range plus {
			b.AddPrefix(p)
		}
		if set, err := b.IPSet(); err == nil { // it never fails: all prefixes are valid
			certain = set
		}
	}
	return certain, traffic.UnionIPs(doubtful, traffic.IPs(maybe...))
}

// prefix reads an address with or without a prefix length; host bits do not matter.
func prefix(s string) (netip.Prefix, bool) {
	s = strings.TrimSpace(s)
	if strings.Contains(s, "/") {
		p, err := netip.ParsePrefix(s)
		return p.Masked(), err == nil && !p.Addr().Is4In6()
	}
	a, ok := address(s)
	if !ok {
		return netip.Prefix{}, false
	}
	return netip.PrefixFrom(a, a.BitLen()), true
}

// text returns the rule as the control panel shows it, in one line.
func text(r *godo.InboundRule) string {
	var from []string
	if s := r.Sources; s != nil {
		from = append(from, s.Addresses...)
		for _, tag := range s.Tags {
			from = append(from, "tag "+tag)
		}
		for _, id := range s.DropletIDs {
			from = append(from, fmt.Sprintf("droplet %d", id))
		}
		for _, id := range s.LoadBalancerUIDs {
			from = append(from, "load balancer "+id)
		}
		for _, id := range s.KubernetesIDs {
			from = append(from, "Kubernetes cluster "+id)
		}
	}
	if len(from) == 0 {
		from = []string{"nowhere"}
	}
	ports := r.PortRange
	if ports == "0" || ports == "" {
		ports = "all ports"
	}
	return strings.TrimSpace(fmt.Sprintf("%s %s %s from %s", cmp.Or(string(r.Action), "allow"), r.Protocol, ports, strings.Join(from, ", ")))
}
