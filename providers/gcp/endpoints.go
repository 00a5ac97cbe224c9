package gcp

import (
	"cmp"
	"net/netip"

	"github.com/cloudaudit/cloudaudit/cloud"
	"github.com/cloudaudit/cloudaudit/traffic"
)

// endpoints makes the endpoints of the project: for every interface its addresses on the internet, or the lack of any, and
// then for every forwarding rule what is behind it.
func (r *reader) endpoints() {
	for _, vm := range r.instances {
		for i := range vm.nics {
			r.interfaceEndpoints(nicKey{vm, i})
		}
	}
	for _, f := range r.fronts {
		r.frontEndpoints(f)
	}
}

// interfaceEndpoints adds the endpoints of one interface.
func (r *reader) interfaceEndpoints(key nicKey) {
	vm, n := key.vm, &key.vm.nics[key.nic]
	external := n.external
	if vm.stopped() {
		external = nil
	}
	for _, x := range external {
		destinations := []netip.Addr{x.addr}
		if x.addr.Is4() {
			// The address is translated before the firewall: it sees the internal one.
			destinations = []netip.Addr{n.internal, x.addr}
		}
		e := r.endpoint(key, x.addr)
		e.Public = true
		var layers []cloud.Layer
		if x.securityPolicy != "" {
			layers = append(layers, r.cloudArmor(x.securityPolicy))
		}
		layers = append(layers, r.firewall(key, subject{destinations: destinations}), r.returnRoute(vm, n.network))
		e.Hops = []cloud.Hop{{Ref: e.Ref, Name: "instance " + vm.name, Layers: layers}}
		r.found = append(r.found, e)
	}
	if len(external) > 0 {
		return
	}
	e := r.endpoint(key, n.internal)
	if !n.internal.IsValid() {
		e.Host = n.name + "." + vm.name
	}
	e.Hops = []cloud.Hop{{Ref: e.Ref, Name: "instance " + vm.name, Layers: []cloud.Layer{
		r.noAddress(vm), r.firewall(key, subject{destinations: []netip.Addr{n.internal}}),
	}}}
	r.found = append(r.found, e)
}

// endpoint returns an endpoint of an interface, still without a path.
func (r *reader) endpoint(key nicKey, addr netip.Addr) cloud.Endpoint {
	vm := key.vm
	e := cloud.Endpoint{
		Ref:  r.scope.Ref("network-interface", vm.zone+"/"+vm.name+"/"+vm.nics[key.nic].name),
		Name: vm.name, Instance: vm.name, Addr: addr, Family: traffic.V4, NoProbe: vm.noProbe,
	}
	if addr.IsValid() {
		e.Family = traffic.FamilyOf(addr)
	}
	return e
}

// noAddress returns the layer that keeps the internet from an interface without an address on it. If forwarding rules could
// not be read, one may lead there.
func (r *reader) noAddress(vm *instance) cloud.Layer {
	if vm.stopped() {
		return cloud.Layer{Name: "instance_stopped", Kind: cloud.Mask}
	}
	l := cloud.Layer{Name: "no_public_address", Kind: cloud.Mask}
	for _, where := range []string{"", "global", vm.region} {
		if hint, unread := r.frontsUnread[where]; unread {
			l.Lists = []*cloud.List{r.doubt("forwarding_rules_unread", "forwarding rules could not be read: one may lead here", hint)}
			break
		}
	}
	return l
}

// cloudArmor returns the layer of a Cloud Armor policy at the edge of the network, which is not read here.
func (r *reader) cloudArmor(policy string) cloud.Layer {
	return cloud.Layer{Name: "cloud_armor", Kind: cloud.Filter, Lists: []*cloud.List{
		r.doubt("cloud_armor", "Cloud Armor policy "+baseName(policy), "look at what the Cloud Armor policy "+baseName(policy)+" lets through"),
	}}
}

// doubt returns a list of one rule that may let through anything and may drop anything.
func (r *reader) doubt(cause, text, hint string) *cloud.List {
	return r.returns.of("doubt "+cause+" "+text+" "+hint, func() *cloud.List {
		ref := r.scope.Ref("stage", cause)
		return &cloud.List{Ref: ref, Name: text, Rules: []cloud.Rule{{
			Ref: ref, Maybe: traffic.All(), Doubt: cloud.Unread, Cause: cause, Hint: hint, Implied: true, Text: text,
		}}}
	})
}

// frontEndpoints adds the endpoints behind a forwarding rule.
func (r *reader) frontEndpoints(f *front) {
	scope := r.scope
	scope.Region = f.region
	via := scope.Ref("forwarding-rule", f.name)
	carries := f.carries()
	// Google's own messages name an interface once; a proxy may connect to several of its ports, which is one endpoint.
	for i := 0; i < len(f.behind); {
		b := f.behind[i]
		var ports []uint16
		policy := f.securityPolicy
		for ; i < len(f.behind) && f.behind[i].key() == b.key(); i++ {
			ports = append(ports, f.behind[i].port)
			policy = cmp.Or(policy, f.behind[i].securityPolicy)
		}
		if b.vm == nil {
			r.found = append(r.found, r.lost(f, via, b.lost, "instance "+baseName(b.lost)+" could not be read",
				"grant compute.instances.list on projects/"+projectOf(b.lost)))
			continue
		}
		if b.vm.stopped() {
			continue
		}
		key := nicKey{b.vm, b.nic}
		e := r.endpoint(key, f.addr)
		e.Public, e.Via = true, via
		in := cloud.Hop{Ref: via, Name: "forwarding rule " + f.name, Layers: f.layers(r, via, policy)}
		s := subject{destinations: []netip.Addr{f.addr, b.vm.nics[b.nic].internal}, carries: &carries}
		if f.proxy {
			in.Forward, in.Source = f.forward(ports), f.from
			to := traffic.Set{}
			for _, p := range ports {
				to = to.Union(traffic.Of(everywhere(), traffic.TCP.Port(p), traffic.TCP.Port(p)))
			}
			inside := b.vm.nics[b.nic].internal
			if b.addr.IsValid() {
				inside = b.addr
			}
			s = subject{destinations: []netip.Addr{inside}, carries: &to, proxied: true}
		}
		e.Hops = []cloud.Hop{in, {Ref: e.Ref, Name: "instance " + b.vm.name, Layers: []cloud.Layer{r.firewall(key, s)}}}
		r.found = append(r.found, e)
	}
	if f.unread != "" {
		r.found = append(r.found, r.lost(f, via, "", "what is behind "+f.name+" could not be read", f.hint))
	}
}

// lost returns the endpoint that stands for what is behind a forwarding rule and could not be read.
func (r *reader) lost(f *front, via cloud.Ref, instance, text, hint string) cloud.Endpoint {
	e := cloud.Endpoint{Ref: via, Name: f.name, Family: traffic.FamilyOf(f.addr), Addr: f.addr, Public: true, Via: via}
	if instance != "" {
		e.Ref, e.Name, e.Instance = r.scope.Ref("instance", instance), baseName(instance), baseName(instance)
	}
	layers := append(f.layers(r, via, f.securityPolicy), cloud.Layer{Name: undecided, Kind: cloud.Filter, Lists: []*cloud.List{r.doubt(undecided, text, hint)}})
	e.Hops = []cloud.Hop{{Ref: via, Name: "forwarding rule " + f.name, Layers: layers}}
	return e
}

// layers returns what a packet meets at a forwarding rule: an edge policy, and what the rule carries at all.
func (f *front) layers(r *reader, via cloud.Ref, policy string) []cloud.Layer {
	var out []cloud.Layer
	if policy != "" {
		out = append(out, r.cloudArmor(policy))
	}
	carried := f.carries()
	rule := cloud.Rule{Ref: via, Name: f.name, Implied: true, Text: "what the forwarding rule carries"}
	switch {
	case f.sourcesUnread:
		rule.Maybe, rule.Doubt, rule.Cause = carried, cloud.Unread, undecided
		rule.Hint = "forwarding rule " + f.name + " has a source range that is not understood: look at it"
	case f.sources != nil:
		rule.Match = carried.Intersect(traffic.Of(f.sources, 0, lastService))
	default:
		rule.Match = carried
	}
	list := r.returns.of("front "+via.String(), func() *cloud.List {
		return &cloud.List{Ref: via, Name: f.name, Rules: []cloud.Rule{rule}}
	})
	return append(out, cloud.Layer{Name: "forwarding_rule", Kind: cloud.Mask, Lists: []*cloud.List{list}})
}

// forward maps the ports of a proxy's front to those that it connects to: a proxy takes any of its own ports there. One
// front port stands for a range, for all of them lead to the same.
func (f *front) forward(ports []uint16) []cloud.Forward {
	var out []cloud.Forward
	for _, s := range f.services {
		if s[0].Proto() != traffic.TCP {
			continue
		}
		for _, p := range ports {
			out = append(out, cloud.Forward{Front: s[0], Target: traffic.TCP.Port(p)})
		}
	}
	if out == nil {
		out = []cloud.Forward{} // nothing goes further
	}
	return out
}
