package aws

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/cloudaudit/cloudaudit/cloud"
	"github.com/cloudaudit/cloudaudit/traffic"
)

// doubt is why something is not certain. The zero doubt is none.
type doubt struct {
	kind        cloud.Doubt
	cause, hint string
}

func doubtf(kind cloud.Doubt, cause, hint string) doubt { return doubt{kind, cause, hint} }

// builder makes the layers in front of interfaces. Layers that are alike have the same lists, so that they are judged once.
type builder struct {
	r *region

	everything []*cloud.List
	doubts     map[doubt][]*cloud.List
	lists      map[string]*cloud.List // by security group
	acls       map[string][2][]*cloud.List
	ways       map[string]way
	byInstance map[string]*iface // the primary interface
	byAddress  map[string]*iface // by VPC and private address

	aclOfSubnet, aclOfVpc     map[string]string
	tableOfSubnet, tableOfVpc map[string]*routeTable
	edges                     map[string][]*routeTable // tables of internet gateways, by VPC
}

func newBuilder(r *region) *builder {
	b := &builder{
		r: r, doubts: map[doubt][]*cloud.List{}, lists: map[string]*cloud.List{}, acls: map[string][2][]*cloud.List{}, ways: map[string]way{},
		byInstance: map[string]*iface{}, byAddress: map[string]*iface{},
		aclOfSubnet: map[string]string{}, aclOfVpc: map[string]string{},
		tableOfSubnet: map[string]*routeTable{}, tableOfVpc: map[string]*routeTable{}, edges: map[string][]*routeTable{},
	}
	for id, a := range r.acls {
		for _, s := range a.subnets {
			b.aclOfSubnet[s] = id
		}
		if a.standard {
			b.aclOfVpc[a.vpc] = id
		}
	}
	for i := range r.tables {
		t := &r.tables[i]
		for _, s := range t.subnets {
			b.tableOfSubnet[s] = t
		}
		if t.main {
			b.tableOfVpc[t.vpc] = t
		}
		if slices.ContainsFunc(t.gateways, func(id string) bool { return strings.HasPrefix(id, "igw-") }) {
			b.edges[t.vpc] = append(b.edges[t.vpc], t)
		}
	}
	for i := range r.interfaces {
		n := &r.interfaces[i]
		if n.instance != "" {
			if was := b.byInstance[n.instance]; was == nil || n.device < was.device {
				b.byInstance[n.instance] = n
			}
		}
		for _, a := range n.addresses {
			b.byAddress[n.vpc+" "+a.private.String()] = n
		}
		for _, a := range n.v6 {
			b.byAddress[n.vpc+" "+a.String()] = n
		}
	}
	return b
}

// open returns lists that admit everything.
func (b *builder) open() []*cloud.List {
	if b.everything == nil {
		ref := b.r.scope.Ref("network", "open")
		b.everything = []*cloud.List{{Ref: ref, Rules: []cloud.Rule{{Ref: ref, Match: traffic.All()}}}}
	}
	return b.everything
}

// doubtful returns lists that may admit everything.
func (b *builder) doubtful(d doubt) []*cloud.List {
	lists, ok := b.doubts[d]
	if !ok {
		ref := b.r.scope.Ref("network", d.cause)
		lists = []*cloud.List{{Ref: ref, Rules: []cloud.Rule{{Ref: ref, Maybe: traffic.All(), Doubt: d.kind, Cause: d.cause, Hint: d.hint}}}}
		b.doubts[d] = lists
	}
	return lists
}

// groupList returns the list of a security group. A group that is named and was not listed may admit anything.
func (b *builder) groupList(id string) *cloud.List {
	if l, ok := b.lists[id]; ok {
		return l
	}
	l := &cloud.List{Ref: b.r.scope.Ref("security-group", id)}
	b.lists[id] = l
	g := b.r.groups[id]
	if g == nil {
		l.Rules = []cloud.Rule{{
			Ref: b.r.scope.Ref("security-group-rule", id+"#unread"), Maybe: traffic.All(), Doubt: cloud.Unsized,
			Cause: "security_group_unreadable", Hint: "the rules of " + id + " could not be read: grant ec2:DescribeSecurityGroups, or ask its owner",
		}}
		return l
	}
	l.Name, l.Owner, l.Quota = g.name, ownerOf(g), b.r.quota(g)
	for i := range g.rules {
		v := &g.rules[i]
		l.Rules = append(l.Rules, b.r.translated(cmp.Or(v.id, fmt.Sprintf("%s#%d", id, i)), v))
	}
	return l
}

// translated returns v as a rule with the id.
func (r *region) translated(id string, v *rule) cloud.Rule {
	match, maybe, why := r.sources(v)
	from, to, certain := v.services()
	out := cloud.Rule{
		Ref:   r.scope.Ref("security-group-rule", id),
		Name:  v.description,
		Match: traffic.Of(match, from, to), Maybe: traffic.Of(maybe, from, to),
		Text: r.text(v), Native: v.native,
	}
	if !certain {
		out.Maybe, out.Match = out.Maybe.Union(out.Match), traffic.Set{}
		if why.cause == "" {
			why = doubtf(cloud.Unread, "security_group_rule_unreadable", "this rule has no ports: look at it in the console")
		}
	}
	if !out.Maybe.IsEmpty() {
		out.Doubt, out.Cause, out.Hint = why.kind, why.cause, why.hint
	}
	return out
}

// groupLayer returns the layer of an interface's or balancer's security groups.
func (b *builder) groupLayer(ids []string) cloud.Layer {
	layer := cloud.Layer{Name: "security_group", Kind: cloud.Firewall}
	for _, id := range ids {
		layer.Lists = append(layer.Lists, b.groupList(id))
	}
	return layer
}

// aclLayer returns the layer of a subnet's network ACL.
func (b *builder) aclLayer(subnet, vpc string) cloud.Layer {
	layer := cloud.Layer{Name: "nacl_in", Kind: cloud.Filter, Stateless: true, ReplyName: "nacl_out"}
	a, ok := b.acl(subnet, vpc)
	if !ok {
		unread := b.doubtful(doubtf(cloud.Unread, "network_acl_unreadable", "grant ec2:DescribeNetworkAcls"))
		layer.Lists, layer.Reply = unread, unread
		return layer
	}
	lists, ok := b.acls[a.id]
	if !ok {
		in, out := b.r.aclLists(a)
		lists = [2][]*cloud.List{{in}, {out}}
		b.acls[a.id] = lists
	}
	layer.Lists, layer.Reply = lists[0], lists[1]
	return layer
}

// way is how a subnet is connected to the internet, as the lists of two layers: whether it is at all, and where replies
// can go.
type way struct{ in, out []*cloud.List }

// wayOf returns the way of a subnet for a family.
func (b *builder) wayOf(subnet, vpc string, f traffic.Family, carrier bool) way {
	t, ok := b.table(subnet, vpc)
	if !ok {
		unread := b.doubtful(doubtf(cloud.Unread, "route_table_unreadable", "grant ec2:DescribeRouteTables"))
		return way{in: unread, out: b.open()}
	}
	key := fmt.Sprint(t.id, " ", vpc, " ", f, carrier)
	if w, ok := b.ways[key]; ok {
		return w
	}
	to := b.r.routing(t, vpc, f, carrier)
	from, until, _ := allServices()
	ref := b.r.scope.Ref("route-table", t.id)
	list := func(name string, match, maybe traffic.Set) []*cloud.List {
		v := cloud.Rule{Ref: b.r.scope.Ref("route", t.id+name), Match: match, Maybe: maybe}
		if !maybe.IsEmpty() {
			v.Doubt, v.Cause, v.Hint = to.doubt.kind, to.doubt.cause, to.doubt.hint
		}
		return []*cloud.List{{Ref: ref, Rules: []cloud.Rule{v}}}
	}
	open, opaque := traffic.Of(to.open, from, until), traffic.Of(to.opaque, from, until)
	var w way
	switch {
	case !open.IsEmpty():
		w.in = b.open()
	case !opaque.IsEmpty():
		w.in = list("#in", traffic.Set{}, opaque)
	}
	w.out = list("#out", open, opaque)
	b.ways[key] = w
	return w
}

// gateLayers returns the layers between the internet and a subnet that are not rules: block and route; the reply layer
// belongs behind the others, so that a network ACL that keeps replies in is named before it.
func (b *builder) gateLayers(subnet, vpc string, f traffic.Family, carrier bool) (before []cloud.Layer, after cloud.Layer, assumes []string) {
	block, assumes := b.blockLayer(subnet, vpc)
	w := b.wayOf(subnet, vpc, f, carrier)
	before = []cloud.Layer{block, {Name: "route", Kind: cloud.Mask, Lists: w.in}}
	after = cloud.Layer{Name: "return_route", Kind: cloud.Mask, Lists: b.open(), Stateless: true, ReplyName: "return_route", Reply: w.out}
	return before, after, assumes
}

// hop returns the last hop, the interface itself, with the given layers.
func (b *builder) hop(n *iface, layers []cloud.Layer) cloud.Hop {
	return cloud.Hop{Ref: b.r.scope.Ref("network-interface", n.id), Name: "network interface " + n.id, Layers: layers}
}

// endpoint returns an endpoint of an interface, without its address and hops.
func (b *builder) endpoint(n *iface, f traffic.Family) cloud.Endpoint {
	return cloud.Endpoint{
		Ref:  b.r.scope.Ref("network-interface", n.id),
		Name: cmp.Or(n.name, b.r.instances[n.instance], n.description), Instance: n.instance, Family: f,
		NoProbe: n.noProbe || b.r.noProbe[n.instance],
	}
}

// interfaceEndpoints returns an endpoint for every public address of every interface, and one, which is not public, for an
// interface that has none. Interfaces of load balancers are left out: nothing listens there but listeners, which have
// endpoints of their own.
func (b *builder) interfaceEndpoints() []cloud.Endpoint {
	var out []cloud.Endpoint
	for i := range b.r.interfaces {
		n := &b.r.interfaces[i]
		if b.ofBalancer(n) {
			out = append(out, b.unreadBalancer(n)...)
			continue
		}
		public := false
		for _, a := range n.addresses {
			switch {
			case a.public.IsValid():
				public = true
				out = append(out, b.direct(n, a.public, a.private, netip.Prefix{}, false))
			case a.carrier.IsValid():
				public = true
				out = append(out, b.direct(n, a.carrier, a.private, netip.Prefix{}, true))
			}
		}
		for _, a := range n.v6 {
			public = true
			out = append(out, b.direct(n, a, a, netip.Prefix{}, false))
		}
		for _, p := range n.prefixes {
			public = true
			out = append(out, b.direct(n, p.Addr(), p.Addr(), p, false))
		}
		if !public && n.primary().IsValid() {
			e := b.endpoint(n, traffic.V4)
			e.Addr = n.primary()
			e.Hops = []cloud.Hop{b.hop(n, []cloud.Layer{{Name: "no_public_address", Kind: cloud.Mask}, b.groupLayer(n.groups)})}
			out = append(out, e)
		}
	}
	return out
}

// direct returns the endpoint of an address that the internet gateway serves.
func (b *builder) direct(n *iface, at, inside netip.Addr, prefix netip.Prefix, carrier bool) cloud.Endpoint {
	f := traffic.FamilyOf(at)
	e := b.endpoint(n, f)
	e.Addr, e.Prefix = at, prefix
	// What AWS binds to an interface as its public address is one. IPv6 addresses are public, but for those of private ranges.
	e.Public = f == traffic.V4 || !at.IsPrivate() && !at.IsLinkLocalUnicast()
	var layers []cloud.Layer
	if n.denyIgw {
		layers = append(layers, cloud.Layer{Name: "deny_all_igw_traffic", Kind: cloud.Mask})
	}
	if !e.Public {
		layers = append(layers, cloud.Layer{Name: "no_public_address", Kind: cloud.Mask})
	}
	before, after, assumes := b.gateLayers(n.subnet, n.vpc, f, carrier)
	e.Assumes = assumes
	layers = append(layers, before...)
	layers = append(layers, b.aclLayer(n.subnet, n.vpc), b.groupLayer(n.groups))
	if target := b.edge(n.vpc, inside); target != "" {
		layers = append(layers, cloud.Layer{Name: "middlebox", Kind: cloud.Mask, Lists: b.doubtful(middlebox(target))})
	}
	e.Hops = []cloud.Hop{b.hop(n, append(layers, after))}
	return e
}

// ofBalancer says whether the interface is a node of a load balancer.
func (b *builder) ofBalancer(n *iface) bool {
	return n.owner == b.r.scope.Account && strings.HasPrefix(n.description, "ELB ") &&
		(n.requester == "amazon-elb" || n.kind == "network_load_balancer" || n.kind == "gateway_load_balancer")
}

// unreadBalancer returns endpoints in doubt for the public addresses of a load balancer that could not be listed.
func (b *builder) unreadBalancer(n *iface) []cloud.Endpoint {
	if b.known(n) || !b.r.missing("elasticloadbalancing:DescribeLoadBalancers") {
		return nil
	}
	var out []cloud.Endpoint
	for _, a := range n.addresses {
		if !a.public.IsValid() {
			continue
		}
		e := b.endpoint(n, traffic.V4)
		e.Addr, e.Public = a.public, true
		e.Hops = []cloud.Hop{b.hop(n, []cloud.Layer{{
			Name: "load_balancer", Kind: cloud.Mask,
			Lists: b.doubtful(doubtf(cloud.Unread, "load_balancer_unreadable", "grant elasticloadbalancing:DescribeLoadBalancers")),
		}})}
		out = append(out, e)
	}
	return out
}
