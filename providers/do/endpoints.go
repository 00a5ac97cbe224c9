package do

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/digitalocean/godo"

	"github.com/cloudaudit/cloudaudit/cloud"
	"github.com/cloudaudit/cloudaudit/providers"
	"github.com/cloudaudit/cloudaudit/traffic"
)

// The stages that a verdict may name.
const (
	stageFirewall     = "firewall_default_deny"
	stageNoAddress    = "no_public_address"
	stagePlatform     = "do_network_block"
	stagePending      = "pending_changes"
	stageAttachment   = "attachment_unreadable"
	stageFirewalls    = "firewalls_unreadable"
	stageBalancer     = "load_balancer_firewall"
	stageOnBalancer   = "platform_block_on_lb_unverified"
	stagePassthrough  = "network_lb_passthrough"
	stageBehindGlobal = "global_lb_source_unverified"
)

// platformPort is the port that DigitalOcean keeps external networks away from, over TCP and UDP
// (https://docs.digitalocean.com/products/droplets/details/limits/).
const platformPort = 11211

// builder makes a snapshot of an inventory.
type builder struct {
	*inventory
	scope     cloud.Scope
	standIns  map[string]standIn
	lists     []lists // one each firewall of the inventory
	byDroplet map[int][]int
	byTag     map[string][]int
	pending   map[int]bool

	open     *cloud.List            // of a droplet behind no firewall
	platform cloud.Layer            // the block of platformPort
	doubts   map[string]cloud.Layer // by stage: masks behind which nothing is certain
	maybe    map[string]*cloud.List // by stage: what may be admitted besides
}

// snapshot describes v. All orders are fixed by ids, whatever the order of the API's answers.
func (v *inventory) snapshot(scope cloud.Scope) *cloud.Snapshot {
	slices.SortFunc(v.firewalls, func(a, b firewall) int { return strings.Compare(a.ID, b.ID) })
	slices.SortFunc(v.balancers, func(a, b loadBalancer) int { return strings.Compare(a.id, b.id) })
	b := &builder{
		inventory: v, scope: scope, byDroplet: map[int][]int{}, byTag: map[string][]int{}, pending: map[int]bool{},
		doubts: map[string]cloud.Layer{}, maybe: map[string]*cloud.List{},
	}
	b.addStubs()
	b.standIns = v.standIns()
	out := &cloud.Snapshot{Scope: scope, Gaps: v.gaps}

	hidden := map[string]bool{}
	t := translation{scope: scope, standIns: b.standIns}
	for i := range v.firewalls {
		f := &v.firewalls[i]
		l := t.firewall(f)
		b.lists = append(b.lists, l)
		out.Lists = append(out.Lists, l.whole)
		for _, id := range f.DropletIDs {
			b.byDroplet[id] = append(b.byDroplet[id], i)
		}
		for _, tag := range f.Tags {
			b.byTag[tag] = append(b.byTag[tag], i)
		}
		for _, p := range f.PendingChanges {
			b.pending[p.DropletID] = true
		}
		hidden["droplet:read"] = hidden["droplet:read"] || !f.showsIDs
		hidden["tag:read"] = hidden["tag:read"] || !f.showsTagged
	}
	for _, scope := range []string{"droplet:read", "tag:read"} {
		if hidden[scope] {
			out.Gaps = append(out.Gaps, cloud.Gap{
				Subject: scope, Cause: "GET /v2/firewalls: the answer does not show which " +
					map[string]string{"droplet:read": "droplets", "tag:read": "tags"}[scope] + " firewalls are attached to",
				Hint: "give the token the scope " + scope,
			})
		}
	}
	b.open = &cloud.List{Ref: scope.Ref("firewall", "none"), Name: "no firewall", Rules: []cloud.Rule{{
		Ref: scope.Ref("firewall-rule", "none"), Verdict: cloud.Allow, Match: traffic.All(), Implied: true,
		Text: "no firewall is attached, so everything is admitted",
	}}}
	b.platform = b.platformBlock()

	unreadable := ""
	switch {
	case v.partFirewalls:
		unreadable = stageFirewalls
	case hidden["droplet:read"] || hidden["tag:read"]:
		unreadable = stageAttachment
	}
	for _, id := range slices.Sorted(maps.Keys(v.droplets)) {
		d := v.droplets[id]
		hop := b.droplet(d, unreadable)
		out.Endpoints = append(out.Endpoints, b.direct(d, hop)...)
		for i := range v.balancers {
			if lb := &v.balancers[i]; v.leadsTo(lb, d) {
				out.Endpoints = append(out.Endpoints, b.behind(lb, d, hop)...)
			}
		}
	}
	return out
}

// addStubs adds the droplets that are known only because a balancer names them, where droplets could not be read.
func (b *builder) addStubs() {
	if !b.partDroplets {
		return
	}
	for _, lb := range b.balancers {
		for _, id := range lb.dropletIDs {
			if b.droplets[id] == nil {
				b.droplets[id] = &droplet{id: id, stub: true}
			}
		}
	}
}

// targets returns the droplets that a balancer forwards to, by id.
func (v *inventory) targets(lb *loadBalancer) []*droplet {
	var out []*droplet
	for _, id := range slices.Sorted(maps.Keys(v.droplets)) {
		if v.leadsTo(lb, v.droplets[id]) {
			out = append(out, v.droplets[id])
		}
	}
	return out
}

// leadsTo says whether lb forwards to d.
func (v *inventory) leadsTo(lb *loadBalancer, d *droplet) bool {
	if slices.Contains(lb.dropletIDs, d.id) {
		return true
	}
	return slices.ContainsFunc(lb.tags, func(tag string) bool { return slices.Contains(d.tags, tag) })
}

// droplet returns the hop into d: its firewalls, or what stands for them. unreadable is the stage because of which nothing
// is known of the attachments of any droplet, or empty.
func (b *builder) droplet(d *droplet, unreadable string) cloud.Hop {
	hop := cloud.Hop{Ref: b.scope.Ref("droplet", strconv.Itoa(d.id)), Name: "droplet " + d.label()}
	attached := slices.Clone(b.byDroplet[d.id])
	for _, tag := range d.tags {
		attached = append(attached, b.byTag[tag]...)
	}
	slices.Sort(attached)
	attached = slices.Compact(attached)

	var layer cloud.Layer
	layer.Name, layer.Kind = stageFirewall, cloud.Firewall
	for _, i := range attached {
		layer.Lists = append(layer.Lists, b.lists[i].deny)
	}
	for _, i := range attached {
		layer.Lists = append(layer.Lists, b.lists[i].allow)
	}
	doubt := unreadable
	switch {
	case doubt != "":
	case b.pending[d.id]:
		doubt = stagePending
	case d.stub && len(b.byTag) > 0:
		doubt = stageAttachment // by tag, perhaps
	}
	switch {
	case doubt != "":
		// The lists stay on the path, for the droplet is behind them or soon will be; but nothing is put down to them.
		mask, maybe := b.doubt(doubt)
		layer.Kind, layer.Lists = cloud.Mask, append([]*cloud.List{maybe}, layer.Lists...)
		hop.Layers = append(hop.Layers, mask)
	case len(attached) == 0:
		layer.Lists = []*cloud.List{b.open}
	}
	hop.Layers = append(hop.Layers, layer)
	return hop
}

// doubt returns a mask behind which nothing is certain, and a list that may admit anything: together they make every
// verdict unknown, whatever the rules at hand say.
func (b *builder) doubt(stage string) (cloud.Layer, *cloud.List) {
	if _, ok := b.doubts[stage]; !ok {
		hint := map[string]string{
			stagePending:    "DigitalOcean is still putting a firewall change into force on the droplet: scan again",
			stageAttachment: "give the token the scopes droplet:read and tag:read, without which attachments are not shown",
			stageFirewalls:  "give the token the scope firewall:read, or scan again if the API failed",
		}[stage]
		rule := cloud.Rule{
			Ref: b.scope.Ref("firewall-rule", stage), Verdict: cloud.Allow, Maybe: traffic.All(), Doubt: cloud.Unsized,
			Cause: stage, Hint: hint, Implied: true, Text: "what is in force is not known",
		}
		list := &cloud.List{Ref: b.scope.Ref("firewall", stage), Name: stage, Rules: []cloud.Rule{rule}}
		b.doubts[stage] = cloud.Layer{Name: stage, Kind: cloud.Mask, Lists: []*cloud.List{list}}
		b.maybe[stage] = list
	}
	return b.doubts[stage], b.maybe[stage]
}

// platformBlock is DigitalOcean's own block of memcached's port on public interfaces. It is assumed for IPv6 and reserved
// addresses too, for which it is not documented separately.
func (b *builder) platformBlock() cloud.Layer {
	var block traffic.Set
	for _, p := range []traffic.Proto{traffic.TCP, traffic.UDP} {
		block = block.Union(traffic.Of(traffic.Internet(), p.Port(platformPort), p.Port(platformPort)))
	}
	return cloud.Layer{Name: stagePlatform, Kind: cloud.Platform, Lists: []*cloud.List{{
		Ref: b.scope.Ref("platform", stagePlatform), Name: "DigitalOcean's block of port 11211", Rules: []cloud.Rule{
			{
				Ref: b.scope.Ref("platform-rule", stagePlatform), Verdict: cloud.Deny, Match: block,
				Text: "deny tcp and udp 11211 from external networks",
			},
			b.others(traffic.All()),
		},
	}}}
}

// others is the last rule of a list that lets everything else through.
func (b *builder) others(match traffic.Set) cloud.Rule {
	return cloud.Rule{Ref: b.scope.Ref("platform-rule", "others"), Verdict: cloud.Allow, Match: match, Text: "allow everything else"}
}

// direct returns the endpoints of d's own addresses: every public one, or else one that says that there is none.
func (b *builder) direct(d *droplet, hop cloud.Hop) []cloud.Endpoint {
	slices.SortFunc(d.public, netip.Addr.Compare)
	var out []cloud.Endpoint
	for _, addr := range slices.Compact(d.public) {
		e := b.endpoint(d)
		e.Family, e.Addr, e.Public = traffic.FamilyOf(addr), addr, true
		last := hop
		last.Layers = append(slices.Clone(hop.Layers), b.platform)
		e.Hops = []cloud.Hop{last}
		out = append(out, e)
	}
	if len(out) > 0 || d.stub {
		return out
	}
	e := b.endpoint(d)
	e.Family, e.Host = traffic.V4, d.label()
	if len(d.private) > 0 {
		addr := slices.MinFunc(d.private, netip.Addr.Compare)
		e.Family, e.Addr, e.Host = traffic.FamilyOf(addr), addr, ""
	}
	last := hop
	last.Layers = append([]cloud.Layer{{Name: stageNoAddress, Kind: cloud.Mask}}, hop.Layers...)
	e.Hops = []cloud.Hop{last}
	return append(out, e)
}

func (b *builder) endpoint(d *droplet) cloud.Endpoint {
	return cloud.Endpoint{Ref: b.scope.Ref("droplet", strconv.Itoa(d.id)), Name: d.name, NoProbe: slices.Contains(d.tags, providers.NoProbeTag)}
}

func (d *droplet) label() string { return cmp.Or(d.name, strconv.Itoa(d.id)) }

// behind returns the endpoints through which the internet reaches d by way of lb: its own addresses, and those of the
// global balancers in front of it.
func (b *builder) behind(lb *loadBalancer, d *droplet, last cloud.Hop) []cloud.Endpoint {
	var out []cloud.Endpoint
	add := func(front *loadBalancer, hops []cloud.Hop) {
		fronts := []netip.Addr{front.ip}
		if front.ipv6.IsValid() {
			fronts = append(fronts, front.ipv6)
		}
		for _, addr := range fronts {
			e := b.endpoint(d)
			e.Family, e.Addr, e.Public, e.Via, e.Hops = traffic.V4, addr, true, b.scope.Ref("load-balancer", front.id), hops
			if addr.IsValid() {
				e.Family = traffic.FamilyOf(addr)
			} else {
				e.Host = front.id // a new balancer, which gets its address in a moment
			}
			out = append(out, e)
		}
	}
	for _, forward := range forwards(lb.forwarding()) {
		hop := b.balancer(lb, forward)
		if !lb.internal {
			hop.Layers = append(b.balancerFirewall(lb), hop.Layers...)
			add(lb, []cloud.Hop{hop, last})
		}
	}
	for i := range b.balancers {
		global := &b.balancers[i]
		if global.internal || !slices.Contains(global.globalBalancer, lb.id) {
			continue
		}
		for _, outer := range forwards(global.forwarding()) {
			for _, inner := range forwards(lb.forwarding()) {
				first, second := b.balancer(global, outer), b.balancer(lb, inner)
				first.Layers = append(b.balancerFirewall(global), first.Layers...)
				if len(lb.allowed)+len(lb.kept) > 0 {
					second.Layers = append(second.Layers, b.behindGlobal())
				}
				add(global, []cloud.Hop{first, second, last})
			}
		}
	}
	return out
}

// forwarding returns the rules of lb; a global balancer takes HTTP and HTTPS to one port of its targets.
func (lb *loadBalancer) forwarding() []godo.ForwardingRule {
	if lb.globalTarget == 0 {
		return lb.rules
	}
	out := slices.Clone(lb.rules)
	for _, port := range []int{80, 443} {
		out = append(out, godo.ForwardingRule{EntryProtocol: "http", EntryPort: port, TargetProtocol: "http", TargetPort: lb.globalTarget})
	}
	return out
}

// forwards translates forwarding rules. Each value that is returned has a target at most once, for a hop is asked which
// front leads to a target, and every front is an exposure of its own.
func forwards(rules []godo.ForwardingRule) [][]cloud.Forward {
	var all []cloud.Forward
	for _, r := range rules {
		if r.EntryPort < 1 || r.EntryPort > 1<<16-1 || r.TargetPort < 1 || r.TargetPort > 1<<16-1 {
			continue
		}
		all = append(all, cloud.Forward{
			Front:  carrier(r.EntryProtocol).Port(uint16(r.EntryPort)),
			Target: carrier(r.TargetProtocol).Port(uint16(r.TargetPort)),
		})
	}
	slices.SortFunc(all, func(a, b cloud.Forward) int {
		return cmp.Or(cmp.Compare(a.Target, b.Target), cmp.Compare(a.Front, b.Front))
	})
	var out [][]cloud.Forward
	nth := 0
	for i, f := range slices.Compact(all) {
		if i > 0 && out[nth][len(out[nth])-1].Target == f.Target {
			nth++
		} else {
			nth = 0
		}
		if nth == len(out) {
			out = append(out, nil)
		}
		out[nth] = append(out[nth], f)
	}
	return out
}

// carrier returns the protocol below that of a forwarding rule: HTTP/3 and UDP travel in UDP, all others in TCP.
func carrier(protocol string) traffic.Proto {
	switch strings.ToLower(protocol) {
	case "udp", "http3":
		return traffic.UDP
	}
	return traffic.TCP
}

// balancer returns the hop through lb, which forwards and puts its own address in the place of the client's.
//
// Nobody documents whether the platform's block of memcached's port holds at a balancer, nor what a network balancer makes
// of it; what depends on that is left in doubt, unless no block is assumed.
func (b *builder) balancer(lb *loadBalancer, forward []cloud.Forward) cloud.Hop {
	hop := cloud.Hop{
		Ref: b.scope.Ref("load-balancer", lb.id), Name: "load balancer " + cmp.Or(lb.name, lb.id), Forward: forward,
		Source: []netip.Prefix{netip.PrefixFrom(b.standIns[lb.id].addr, 32)},
	}
	var doubtful traffic.Set
	stage, hint := stageOnBalancer, "look from outside whether the balancer answers on the port: DigitalOcean does not document it"
	if lb.passthrough {
		stage, hint = stagePassthrough, "look from outside whether the network balancer answers: what it makes of DigitalOcean's block is not documented"
	}
	for _, f := range forward {
		if f.Front.Port() == platformPort || lb.passthrough && f.Target.Port() == platformPort {
			doubtful = doubtful.Union(packets(traffic.All().Sources(), []interval{{f.Front, f.Front}}))
		}
	}
	if !doubtful.IsEmpty() {
		rule := b.others(traffic.All().Subtract(doubtful))
		rule.Maybe, rule.Doubt, rule.Cause, rule.Hint = doubtful, cloud.Unread, stage, hint
		rule.Text = "allow what DigitalOcean's block of port 11211 does not keep away"
		hop.Layers = append(hop.Layers, cloud.Layer{Name: stage, Kind: cloud.Platform, Lists: []*cloud.List{{
			Ref: b.scope.Ref("platform", lb.id+"/"+stage), Name: stage, Rules: []cloud.Rule{rule},
		}}})
	}
	return hop
}

// behindGlobal is the firewall of a balancer behind a global one, whose address it sees and nobody knows.
func (b *builder) behindGlobal() cloud.Layer {
	return cloud.Layer{Name: stageBehindGlobal, Kind: cloud.Filter, Lists: []*cloud.List{{
		Ref: b.scope.Ref("platform", stageBehindGlobal), Name: stageBehindGlobal, Rules: []cloud.Rule{{
			Ref: b.scope.Ref("platform-rule", stageBehindGlobal), Verdict: cloud.Allow, Maybe: traffic.All(), Doubt: cloud.Unread,
			Cause: stageBehindGlobal, Hint: "look from outside whether the global balancer's addresses pass the firewall of the balancer behind it",
		}},
	}}}
}

// balancerFirewall returns the layer of lb's own firewall, if it has one: what is denied, then what is allowed, which is
// everything where nothing is listed. That deny comes first is inferred; the API does not say.
func (b *builder) balancerFirewall(lb *loadBalancer) []cloud.Layer {
	if len(lb.allowed)+len(lb.kept) == 0 {
		return nil
	}
	list := &cloud.List{Ref: b.scope.Ref("load-balancer", lb.id), Name: lb.name}
	add := func(verdict cloud.Verdict, name string, entries []string) {
		for i, entry := range entries {
			r := cloud.Rule{
				Ref: b.scope.Ref("load-balancer-rule", fmt.Sprintf("%s/firewall.%s[%d]", lb.id, name, i)), Verdict: verdict, Text: name + " " + entry,
			}
			_, value, _ := strings.Cut(entry, ":")
			if p, ok := prefix(value); ok && (strings.HasPrefix(entry, "ip:") || strings.HasPrefix(entry, "cidr:")) {
				r.Match = packets(traffic.IPs(p), everything())
			} else {
				r.Maybe, r.Doubt, r.Cause = traffic.All(), cloud.Unread, "rule_not_understood"
				r.Hint = "look at the balancer's firewall in the control panel: an entry is not what the API documents"
			}
			list.Rules = append(list.Rules, r)
		}
	}
	add(cloud.Deny, "deny", lb.kept)
	add(cloud.Allow, "allow", lb.allowed)
	if len(lb.allowed) == 0 {
		list.Rules = append(list.Rules, b.others(traffic.All()))
	}
	return []cloud.Layer{{Name: stageBalancer, Kind: cloud.Filter, Lists: []*cloud.List{list}}}
}

// everything is every service.
func everything() []interval {
	from, _ := traffic.Proto(0).All()
	_, to := traffic.Proto(255).All()
	return []interval{{from, to}}
}
