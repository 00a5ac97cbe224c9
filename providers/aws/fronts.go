package aws

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"go4.org/netipx"

	"github.com/cloudaudit/cloudaudit/cloud"
	"github.com/cloudaudit/cloudaudit/traffic"
)

// foot is where a balancer stands in a subnet: one of its interfaces, or what is known of it without.
type foot struct {
	subnet  string
	public  netip.Addr
	v6      netip.Addr
	sources []netip.Prefix // the addresses from which it speaks to targets that do not see the client's
	host    string         // if public is not known
}

// feet returns where l stands. Its interfaces say it best; a balancer without any, as some emulations have, is known by
// the addresses in its own description, or else by its subnets.
func (r *region) feet(l *balancer) []foot {
	var out []foot
	for i := range r.interfaces {
		n := &r.interfaces[i]
		if n.vpc != l.vpc || n.description != "ELB "+l.suffix() {
			continue
		}
		f := foot{subnet: n.subnet, host: l.dns}
		if len(n.v6) > 0 {
			f.v6 = n.v6[0]
		}
		for _, a := range n.addresses {
			f.sources = append(f.sources, single(a.private))
			if !f.public.IsValid() {
				f.public = a.public
			}
		}
		out = append(out, f)
	}
	if len(out) > 0 {
		return out
	}
	for _, n := range l.nodes {
		f := foot{subnet: n.subnet, public: n.public, host: l.dns}
		if n.zone != "" && l.kind == "network" {
			f.host = n.zone + "." + l.dns
		}
		switch cidr := r.subnets[n.subnet].cidr; {
		case n.private.IsValid():
			f.sources = []netip.Prefix{single(n.private)}
		case cidr.IsValid():
			f.sources = []netip.Prefix{cidr}
		default:
			f.sources = []netip.Prefix{netip.PrefixFrom(netip.IPv4Unspecified(), 0)}
		}
		out = append(out, f)
	}
	return out
}

func single(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }

// known says whether n is an interface of a balancer that was listed.
func (b *builder) known(n *iface) bool {
	return slices.ContainsFunc(b.r.balancers, func(l *balancer) bool { return l.vpc == n.vpc && n.description == "ELB "+l.suffix() })
}

// ref names a balancer.
func (b *builder) ref(l *balancer) cloud.Ref {
	return b.r.scope.Ref(l.kind+"-load-balancer", l.name)
}

// approach is a way from the internet to a place before the target: the hops so far, and the layers of the one that is
// being built, which forwards to the target.
type approach struct {
	family  traffic.Family
	addr    netip.Addr
	host    string
	via     cloud.Ref
	assumes []string
	hops    []cloud.Hop // finished
	last    cloud.Hop   // lacks what depends on the target: Forward and Source
	foot    foot
	subnet  string // where last stands; the network ACL of its own subnet does not filter what it sends there
}

// endpoint returns an endpoint of the approach.
func (a *approach) endpoint(e cloud.Endpoint, hops ...cloud.Hop) cloud.Endpoint {
	e.Family, e.Addr, e.Via, e.Public, e.Assumes = a.family, a.addr, a.via, true, a.assumes
	if !a.addr.IsValid() {
		e.Host = a.host
	}
	e.Hops = append(slices.Clone(a.hops), hops...)
	return e
}

// balancerEndpoints returns an endpoint for each way through a balancer that faces the internet: by address, listener and
// target.
func (b *builder) balancerEndpoints() []cloud.Endpoint {
	var out []cloud.Endpoint
	for _, l := range b.r.balancers {
		if !l.public || l.kind == "gateway" {
			continue
		}
		seen := map[string]bool{}
		for _, at := range b.r.feet(l) {
			for _, f := range []traffic.Family{traffic.V4, traffic.V6} {
				address := at.public
				if f == traffic.V6 {
					if address = at.v6; !address.IsValid() {
						continue
					}
				}
				a := b.approachTo(l, at, f)
				a.addr, a.host, a.via = address, at.host, b.ref(l)
				if !address.IsValid() {
					// Without addresses, feet that stand alike are one.
					key := at.host + fmt.Sprintf("%p %p %p", first(a.last.Layers[0].Lists), first(a.last.Layers[1].Lists), first(a.last.Layers[2].Lists))
					if seen[key] {
						continue
					}
					seen[key] = true
				}
				out = append(out, b.through(l, a)...)
			}
		}
	}
	return out
}

func first(lists []*cloud.List) *cloud.List {
	if len(lists) == 0 {
		return nil
	}
	return lists[0]
}

// approachTo returns the way from the internet to a balancer. Its first three layers are block, route and network ACL.
func (b *builder) approachTo(l *balancer, at foot, f traffic.Family) approach {
	before, after, assumes := b.gateLayers(at.subnet, l.vpc, f, false)
	layers := append(before, b.aclLayer(at.subnet, l.vpc))
	if len(l.groups) > 0 {
		layers = append(layers, b.groupLayer(l.groups))
	}
	inside := at.v6
	if f == traffic.V4 && len(at.sources) > 0 && at.sources[0].IsSingleIP() {
		inside = at.sources[0].Addr()
	}
	if inside.IsValid() {
		if target := b.edge(l.vpc, inside); target != "" {
			layers = append(layers, cloud.Layer{Name: "middlebox", Kind: cloud.Mask, Lists: b.doubtful(middlebox(target))})
		}
	}
	if f == traffic.V6 {
		layers = append(layers, cloud.Layer{Name: "load_balancer_ipv6", Kind: cloud.Mask, Lists: b.doubtful(doubtf(cloud.Unread, "load_balancer_ipv6",
			"how a balancer hands IPv6 clients on is not modelled: look at its listeners and targets"))})
	}
	return approach{family: f, assumes: assumes, foot: at, subnet: at.subnet, last: cloud.Hop{Ref: b.ref(l), Name: b.name(l), Layers: append(layers, after)}}
}

// name is what people call the balancer.
func (b *builder) name(l *balancer) string {
	name := l.kind + " load balancer " + l.name
	if l.kind == "application" {
		name += " (speaks HTTP to its targets)"
	}
	return name
}

// through returns the endpoints behind l for each of its listeners and their targets.
func (b *builder) through(l *balancer, a approach) []cloud.Endpoint {
	var out []cloud.Endpoint
	if !l.listenersRead {
		return []cloud.Endpoint{b.unread(l, a, nil, "elasticloadbalancing:DescribeListeners")}
	}
	for i := range l.listeners {
		v := &l.listeners[i]
		for _, t := range v.direct {
			out = append(out, b.behind(l, a, v, t, b.byInstance[t.id], false)...)
		}
		for _, id := range v.groups {
			g := b.r.targets[id]
			switch {
			case g == nil:
				if b.r.missing("elasticloadbalancing:DescribeTargetGroups") {
					out = append(out, b.unread(l, a, nil, "elasticloadbalancing:DescribeTargetGroups"))
				}
				continue
			case g.kind == "lambda":
				continue
			case !g.targetsRead:
				out = append(out, b.unread(l, a, v.forward(g.port), "elasticloadbalancing:DescribeTargetHealth"))
				continue
			}
			keeps := false
			if l.kind == "network" && !g.alwaysKeeps() && g.keeps == nil {
				for _, t := range g.targets {
					out = append(out, b.unread(l, a, v.forward(t.port), "elasticloadbalancing:DescribeTargetGroupAttributes"))
				}
				continue
			} else if l.kind == "network" {
				keeps = g.alwaysKeeps() || *g.keeps
			}
			for _, t := range g.targets {
				switch g.kind {
				case "alb":
					out = append(out, b.chained(l, a, v, t)...)
				case "instance":
					out = append(out, b.behind(l, a, v, t, b.byInstance[t.id], keeps)...)
				default:
					out = append(out, b.behind(l, a, v, t, b.byAddress[g.vpc+" "+t.id], keeps)...)
				}
			}
		}
	}
	return out
}

// forward returns the forwarding of v to a target's port.
func (v *listener) forward(target uint16) []cloud.Forward {
	var out []cloud.Forward
	for _, p := range v.protos {
		out = append(out, cloud.Forward{Front: p.Port(v.port), Target: p.Port(target)})
	}
	return out
}

// unread returns an endpoint in doubt for a balancer about which action was refused.
func (b *builder) unread(l *balancer, a approach, forward []cloud.Forward, action string) cloud.Endpoint {
	hop := a.last
	hop.Forward = forward
	return a.endpoint(cloud.Endpoint{Ref: b.ref(l), Name: l.name}, hop, cloud.Hop{
		Ref: b.ref(l), Name: "what " + l.name + " forwards to", Layers: []cloud.Layer{{
			Name: "load_balancer_target", Kind: cloud.Mask, Lists: b.doubtful(doubtf(cloud.Unread, "load_balancer_target", "grant "+action)),
		}},
	})
}

// behind returns the endpoint of a target behind l.
func (b *builder) behind(l *balancer, a approach, v *listener, t target, n *iface, keeps bool) []cloud.Endpoint {
	hop := a.last
	hop.Forward = v.forward(t.port)
	if n == nil {
		ref := b.r.scope.Ref("load-balancer-target", t.id)
		return []cloud.Endpoint{a.endpoint(cloud.Endpoint{Ref: ref, Name: t.id}, hop, cloud.Hop{
			Ref: ref, Name: "target " + t.id, Layers: []cloud.Layer{{
				Name: "load_balancer_target", Kind: cloud.Mask,
				Lists: b.doubtful(doubtf(cloud.Unread, "load_balancer_target", "the target "+t.id+" is no interface of this account and region: look at its own filters")),
			}},
		})}
	}
	if !keeps {
		hop.Source = a.foot.sources
	}
	var layers []cloud.Layer
	if n.subnet != a.subnet {
		layers = append(layers, b.aclLayer(n.subnet, n.vpc))
	}
	filter := b.groupLayer(n.groups)
	if !keeps && len(l.groups) > 0 && slices.ContainsFunc(hop.Source, func(p netip.Prefix) bool { return traffic.Internet().OverlapsPrefix(p) && p.Bits() > 0 }) {
		// References never match routable addresses here, lest they stand for hosts of the internet.
		filter.Lists = append(filter.Lists, b.doubtful(doubtf(cloud.Unread, "load_balancer_source",
			"the balancer speaks from addresses that are routable on the internet: look whether the target's groups refer to its groups"))...)
	}
	return []cloud.Endpoint{a.endpoint(b.endpoint(n, a.family), hop, b.hop(n, append(layers, filter)))}
}

// chained returns the endpoints behind an application balancer that is the target of a network balancer.
func (b *builder) chained(l *balancer, a approach, v *listener, t target) []cloud.Endpoint {
	i := slices.IndexFunc(b.r.balancers, func(next *balancer) bool { return next.arn == t.id })
	if i < 0 {
		return b.behind(l, a, v, t, nil, true)
	}
	hop := a.last
	hop.Forward = v.forward(t.port)
	return b.onward(b.r.balancers[i], a, hop)
}

// onward returns the endpoints behind a balancer that hop, the finished last hop of a, leads to.
func (b *builder) onward(l *balancer, a approach, hop cloud.Hop) []cloud.Endpoint {
	feet := b.r.feet(l)
	if len(feet) == 0 {
		return nil
	}
	next := a
	next.hops = append(slices.Clone(a.hops), hop)
	next.foot = feet[0]
	for _, f := range feet[1:] {
		next.foot.sources = append(slices.Clone(next.foot.sources), f.sources...)
	}
	next.subnet = "" // it stands in several
	next.last = cloud.Hop{Ref: b.ref(l), Name: b.name(l)}
	if len(l.groups) > 0 {
		next.last.Layers = append(next.last.Layers, b.groupLayer(l.groups))
	}
	return b.through(l, next)
}

// acceleratorEndpoints returns an endpoint for each way through an accelerator that ends in the region: by address, range
// of ports and endpoint.
//
// An accelerator reaches subnets that have no route to the internet, as long as an internet gateway is attached to the VPC,
// and what it delivers is filtered by no network ACL; replies are
// (https://docs.aws.amazon.com/global-accelerator/latest/dg/about-endpoints.sipp-caveats.html).
func (b *builder) acceleratorEndpoints() []cloud.Endpoint {
	var out []cloud.Endpoint
	for i := range b.r.front {
		p := &b.r.front[i]
		addresses := p.addresses
		if len(addresses) == 0 {
			addresses = []netip.Addr{{}}
		}
		ref := b.r.scope.Ref("accelerator", cmp.Or(p.name, p.arn[strings.LastIndexByte(p.arn, '/')+1:]))
		for _, address := range addresses {
			a := approach{family: traffic.V4, addr: address, host: p.dns, via: ref}
			listens, forwards := p.listens()
			plain := cloud.Hop{Ref: ref, Name: "accelerator " + p.name, Layers: []cloud.Layer{{
				Name: "accelerator_listener", Kind: cloud.Mask,
				Lists: []*cloud.List{{Ref: ref, Rules: []cloud.Rule{{Ref: b.r.scope.Ref("accelerator-listener", fmt.Sprintf("%s#%d-%d", ref.ID, p.from, p.to)), Match: listens}}}},
			}}}
			if !listens.IsEmpty() {
				a.last = plain
				out = append(out, b.accelerated(p, a)...)
			}
			if len(forwards) > 0 {
				a.last = cloud.Hop{Ref: ref, Name: plain.Name, Forward: forwards}
				out = append(out, b.accelerated(p, a)...)
			}
		}
	}
	return out
}

// listens returns what the listener takes to the same port of the endpoint, and what it takes to another.
func (p *acceleratorPath) listens() (same traffic.Set, other []cloud.Forward) {
	for _, proto := range p.protos {
		from, to := proto.Ports(p.from, p.to)
		same = same.Union(traffic.Of(traffic.Internet(), from, to))
		for _, o := range p.overrides {
			if o.front < p.from || o.front > p.to {
				continue
			}
			front := proto.Port(o.front)
			same = same.Subtract(traffic.Of(traffic.Internet(), front, front))
			other = append(other, cloud.Forward{Front: front, Target: proto.Port(o.target)})
		}
	}
	return same, other
}

// accelerated returns the endpoints behind one way through an accelerator.
func (b *builder) accelerated(p *acceleratorPath, a approach) []cloud.Endpoint {
	if i := slices.IndexFunc(b.r.balancers, func(l *balancer) bool { return l.arn == p.endpoint }); i >= 0 {
		l := b.r.balancers[i]
		feet := b.r.feet(l)
		if len(feet) == 0 {
			return nil
		}
		hop, assumes := b.entrance(a.last, feet[0].subnet, l.vpc)
		a.assumes = assumes
		if !p.keeps {
			hop.Source = feet[0].sources
		}
		return b.onward(l, a, hop)
	}
	n := b.byInstance[p.endpoint]
	if n == nil {
		for i := range b.r.interfaces {
			if p.endpoint != "" && slices.ContainsFunc(b.r.interfaces[i].addresses, func(x address) bool { return x.allocation == p.endpoint }) {
				n = &b.r.interfaces[i]
			}
		}
		why := doubtf(cloud.Unread, "accelerator_endpoint", "the accelerator's endpoint "+p.endpoint+" is not in what was read of this account and region: look at its own filters")
		e := cloud.Endpoint{Ref: b.r.scope.Ref("accelerator-endpoint", p.endpoint), Name: p.endpoint}
		if n != nil {
			why = doubtf(cloud.Unread, "accelerator_source", "an accelerator speaks to elastic IPs from addresses of its own: look whether the groups admit them")
			e = b.endpoint(n, a.family)
		}
		return []cloud.Endpoint{a.endpoint(e, a.last, cloud.Hop{
			Ref: e.Ref, Name: "endpoint " + p.endpoint, Layers: []cloud.Layer{{Name: why.cause, Kind: cloud.Mask, Lists: b.doubtful(why)}},
		})}
	}
	hop, assumes := b.entrance(a.last, n.subnet, n.vpc)
	a.assumes = assumes
	if !p.keeps {
		hop.Source = []netip.Prefix{b.r.subnets[n.subnet].cidr}
		if !hop.Source[0].IsValid() {
			hop.Source[0] = netip.PrefixFrom(netip.IPv4Unspecified(), 0)
		}
	}
	acl := b.aclLayer(n.subnet, n.vpc)
	acl.Name, acl.Lists = "nacl_out", b.open()
	return []cloud.Endpoint{a.endpoint(b.endpoint(n, a.family), hop, b.hop(n, []cloud.Layer{acl, b.groupLayer(n.groups)}))}
}

// entrance adds to an accelerator's hop what a VPC needs to be entered through it.
func (b *builder) entrance(hop cloud.Hop, subnet, vpc string) (cloud.Hop, []string) {
	block, assumes := b.blockLayer(subnet, vpc)
	gateway := cloud.Layer{Name: "internet_gateway", Kind: cloud.Mask}
	attached := b.r.shared(vpc)
	for _, at := range b.r.gateways {
		attached = attached || at == vpc
	}
	switch {
	case attached:
		gateway.Lists = b.open()
	case b.r.missing("ec2:DescribeInternetGateways"):
		gateway.Lists = b.doubtful(doubtf(cloud.Unread, "internet_gateway_unreadable", "grant ec2:DescribeInternetGateways"))
	}
	hop.Layers = append(slices.Clone(hop.Layers), block, gateway)
	return hop, assumes
}

// behindFronts returns the groups of the interfaces that balancers and accelerators forward to, on ports that will be
// asked about.
func (r *region) behindFronts() map[string]bool {
	out := map[string]bool{}
	b := newBuilder(r)
	add := func(n *iface, port uint16) {
		if n == nil || len(r.ports) > 0 && !slices.Contains(r.ports, port) {
			return
		}
		for _, g := range n.groups {
			out[g] = true
		}
	}
	for _, l := range r.balancers {
		for _, v := range l.listeners {
			for _, t := range v.direct {
				add(b.byInstance[t.id], t.port)
			}
			for _, id := range v.groups {
				g := r.targets[id]
				if g == nil {
					continue
				}
				for _, t := range g.targets {
					add(b.byInstance[t.id], t.port)
					add(b.byAddress[g.vpc+" "+t.id], t.port)
				}
			}
		}
	}
	for _, p := range r.front {
		if n := b.byInstance[p.endpoint]; n != nil {
			for _, g := range n.groups {
				out[g] = true
			}
		}
	}
	return out
}

// speakers returns the addresses from which balancers with the group speak to their targets.
func (r *region) speakers(into map[string]*netipx.IPSetBuilder) {
	for _, l := range r.balancers {
		if len(l.groups) == 0 {
			continue
		}
		for _, f := range r.feet(l) {
			for _, p := range f.sources {
				if p.Bits() == 0 {
					continue
				}
				for _, g := range l.groups {
					if into[g] == nil {
						into[g] = &netipx.IPSetBuilder{}
					}
					into[g].AddPrefix(p)
				}
			}
		}
	}
}
