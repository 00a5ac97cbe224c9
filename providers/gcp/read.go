package gcp

import (
	"cmp"
	"context"
	"crypto/sha256"
	"slices"
	"strings"
	"sync"

	"cloud.google.com/go/compute/apiv1/computepb"
	"github.com/hashicorp/go-hclog"
	"go4.org/netipx"
	"golang.org/x/sync/errgroup"
	"google.golang.org/protobuf/proto"

	"github.com/cloudaudit/cloudaudit/cloud"
)

// reader reads one project.
//
// On a healthy cloud it sends these requests, each once for each page of 500:
//
//   - always: the instances, the networks and the forwarding rules of the project. A project without instances is asked for
//     them a second time without the field mask, for an empty answer is not believed with one.
//   - for each network and region in use: its effective firewall.
//   - for each network in use that is another project's: that network.
//   - for each project whose network has an interface with an external address: its routes.
//   - if a network of the project is not in use: the VPC rules of the project.
//   - for external forwarding rules: each kind of resource that one of them leads to, in each project that it is in, and each
//     group of instances or endpoints.
//   - for each address group that a rule names: that group.
//   - for each network policy that has its association's priority in common with another of its network: that policy.
//   - where a rule is for secure tags: the effective firewall of each interface that packets from the internet may get to.
//
// Nothing else depends on how many instances, rules or networks there are.
type reader struct {
	provider *Provider
	clients  *clients
	log      hclog.Logger
	scope    cloud.Scope
	project  string

	mu       sync.Mutex
	gaps     map[cloud.Gap]bool
	shared   map[string]string
	interned map[string]*list
	groups   map[string]func() (*netipx.IPSet, bool)
	listed   map[string]func() ([]*computepb.Firewall, error)
	picked   map[selection]*cloud.List
	lists    map[*list]bool

	off       bool // the Compute Engine API was never enabled
	instances []*instance
	byPath    map[string]*instance
	orders    map[string]enforcement // by path of network; without an entry unknown
	own       []string               // paths of the project's networks
	views     map[place]*view
	perNIC    map[nicKey]*view
	tags      map[nicKey]*boundTags
	routes    map[string]*routing // by path of network

	returns      memo[string, *cloud.List]
	associations memo[string, listed[map[string]string]] // of a network policy, by path of network

	fronts       []*front
	frontsUnread map[string]string // by region, or "global", or "" for all: why its forwarding rules could not be read
	found        []cloud.Endpoint
}

// place is a network in a region.
type place struct{ network, region string }

// nicKey is an interface.
type nicKey struct {
	vm  *instance
	nic int
}

func newReader(p *Provider, c *clients, scope cloud.Scope) *reader {
	return &reader{
		provider: p, clients: c, scope: scope, project: scope.Account, log: p.log.With("project", scope.Account),
		gaps: map[cloud.Gap]bool{}, shared: map[string]string{}, interned: map[string]*list{},
		groups: map[string]func() (*netipx.IPSet, bool){}, picked: map[selection]*cloud.List{}, listed: map[string]func() ([]*computepb.Firewall, error){}, lists: map[*list]bool{},
		byPath: map[string]*instance{}, orders: map[string]enforcement{}, views: map[place]*view{},
		perNIC: map[nicKey]*view{}, tags: map[nicKey]*boundTags{}, routes: map[string]*routing{},
		frontsUnread: map[string]string{},
	}
}

// share returns one string for all equal ones. Only the goroutine that lists instances calls it.
func (r *reader) share(s string) string {
	if was, ok := r.shared[s]; ok {
		return was
	}
	s = strings.Clone(s)
	r.shared[s] = s
	return s
}

// gap records what could not be read, unless the context ended, for then nothing is recorded at all.
func (r *reader) gap(g cloud.Gap) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.gaps[g] = true
}

// miss records the scopes that a list could not include.
func (r *reader) miss(permission, project string, missing []unreached) {
	for _, m := range missing {
		r.gap(cloud.Gap{
			Subject: permission, Cause: "projects/" + project + "/" + m.scope + ": " + m.why,
			Hint: "read again when the zone or region is back (https://status.cloud.google.com)",
		})
	}
}

// read reads everything. Its error is that of the context; all other failures are gaps.
func (r *reader) read(ctx context.Context) error {
	r.first(ctx)
	if err := ctx.Err(); err != nil || r.off {
		return err
	}
	r.second(ctx)
	if err := ctx.Err(); err != nil {
		return err
	}
	r.third(ctx)
	if err := ctx.Err(); err != nil {
		return err
	}
	r.endpoints()
	return nil
}

// first asks for what needs nothing else to be known.
func (r *reader) first(ctx context.Context) {
	var g errgroup.Group
	var networksErr error
	g.Go(func() error {
		vms, missing, err := r.instancesOf(ctx)
		if err != nil {
			r.off = switchedOff(err)
			r.gap(gap("compute.instances.list", "projects/"+r.project, err))
		}
		r.miss("compute.instances.list", r.project, missing)
		slices.SortFunc(vms, func(a, b *instance) int { return cmp.Or(cmp.Compare(a.zone, b.zone), cmp.Compare(a.name, b.name)) })
		r.instances = vms
		for _, vm := range vms {
			r.byPath[vm.path] = vm
		}
		return nil
	})
	g.Go(func() error {
		networksErr = r.listNetworks(ctx)
		return nil
	})
	g.Go(func() error {
		r.listForwardingRules(ctx)
		return nil
	})
	_ = g.Wait()
	if r.off {
		r.gaps = map[cloud.Gap]bool{} // a project without the API has no network, and nothing to read
		return
	}
	if networksErr != nil {
		r.gap(gap("compute.networks.list", "projects/"+r.project, networksErr))
	}
}

func (r *reader) listNetworks(ctx context.Context) error {
	client, err := r.clients.networks()
	if err != nil {
		return err
	}
	it := client.List(ctx, &computepb.ListNetworksRequest{Project: r.project, MaxResults: proto.Uint32(pageSize)}, once)
	err = each(it.Next, func(n *computepb.Network) {
		p := path(n.GetSelfLink())
		r.own = append(r.own, p)
		r.orders[p] = orderOf(n)
	})
	slices.Sort(r.own)
	return err
}

func orderOf(n *computepb.Network) enforcement {
	switch n.GetNetworkFirewallPolicyEnforcementOrder() {
	case "", "AFTER_CLASSIC_FIREWALL":
		return afterClassic
	case "BEFORE_CLASSIC_FIREWALL":
		return beforeClassic
	}
	return unknownOrder
}

// second asks what filters the networks in use, and what is behind the forwarding rules.
func (r *reader) second(ctx context.Context) {
	places := map[place]bool{}
	used := map[string]bool{}
	routed := map[string]bool{}
	for _, vm := range r.instances {
		for _, n := range vm.nics {
			places[place{n.network, vm.region}] = true
			used[n.network] = true
			if len(n.external) > 0 && !vm.stopped() {
				routed[projectOf(n.network)] = true
			}
		}
	}
	r.readOrders(ctx, used)

	var g errgroup.Group
	g.SetLimit(cap(r.provider.transport.inFlight))
	for p := range places {
		g.Go(func() error {
			r.readPlace(ctx, p)
			return nil
		})
	}
	for p := range routed {
		g.Go(func() error {
			r.readRoutes(ctx, p)
			return nil
		})
	}
	if slices.ContainsFunc(r.own, func(n string) bool { return !used[n] }) {
		g.Go(func() error {
			r.readUnused(ctx, used)
			return nil
		})
	}
	g.Go(func() error {
		r.readBehind(ctx)
		return nil
	})
	_ = g.Wait()
}

// readOrders asks for the networks that the list of the project's own does not have: those of a Shared VPC host project.
func (r *reader) readOrders(ctx context.Context, used map[string]bool) {
	var foreign []string
	for network := range used {
		if _, known := r.orders[network]; !known {
			foreign = append(foreign, network)
		}
	}
	var g errgroup.Group
	g.SetLimit(cap(r.provider.transport.inFlight))
	for _, network := range foreign {
		g.Go(func() error {
			client, err := r.clients.networks()
			if err == nil {
				var n *computepb.Network
				n, err = client.Get(ctx, &computepb.GetNetworkRequest{Project: projectOf(network), Network: baseName(network)}, once)
				if err == nil {
					r.mu.Lock()
					r.orders[network] = orderOf(n)
					r.mu.Unlock()
					return nil
				}
			}
			r.gap(gap("compute.networks.get", network, err))
			return nil
		})
	}
	_ = g.Wait()
}

// order returns the enforcement order of a network.
func (r *reader) order(network string) enforcement {
	r.mu.Lock()
	defer r.mu.Unlock()
	if o, ok := r.orders[network]; ok {
		return o
	}
	return unknownOrder
}

// readPlace asks what filters a network in a region. Google knows at once if it may be asked; else what can be had is taken,
// and the gap says that it is not all.
func (r *reader) readPlace(ctx context.Context, p place) {
	client, err := r.clients.regionPolicies()
	if err == nil {
		var answer *computepb.RegionNetworkFirewallPoliciesGetEffectiveFirewallsResponse
		answer, err = client.GetEffectiveFirewalls(ctx, &computepb.GetEffectiveFirewallsRegionNetworkFirewallPolicyRequest{
			Project: projectOf(p.network), Region: p.region, Network: p.network,
		}, once)
		if err == nil {
			lists, ties := r.ties(ctx, p, r.translate(ctx, p, answer.GetFirewalls(), policiesOf(answer.GetFirewallPolicys())))
			r.see(p, newView(lists, r.order(p.network), ties))
			return
		}
	}
	g := gap("compute.networks.getRegionEffectiveFirewalls", p.network+" in "+p.region, err)
	r.gap(g)
	r.see(p, r.withoutRegion(ctx, p, g.Hint))
}

// withoutRegion returns what filters a network without its regional policies.
func (r *reader) withoutRegion(ctx context.Context, p place, hint string) *view {
	regional := unreadList(r.scope, regionalPolicy, "regional firewall policies of "+baseName(p.network)+" in "+p.region, hint)
	networks, err := r.clients.networks()
	if err == nil {
		var answer *computepb.NetworksGetEffectiveFirewallsResponse
		answer, err = networks.GetEffectiveFirewalls(ctx, &computepb.GetEffectiveFirewallsNetworkRequest{
			Project: projectOf(p.network), Network: baseName(p.network),
		}, once)
		if err == nil {
			lists, ties := r.ties(ctx, p, r.translate(ctx, p, answer.GetFirewalls(), policiesOf(answer.GetFirewallPolicys())))
			return newView(append(lists, regional), r.order(p.network), ties)
		}
	}
	r.gap(gap("compute.networks.getEffectiveFirewalls", p.network, err))
	return nil // each interface is asked by itself
}

// vpcOnly returns what filters a network as far as its VPC rules go.
func (r *reader) vpcOnly(ctx context.Context, network string) *view {
	above := unreadList(r.scope, hierarchical, "firewall policies above "+baseName(network),
		"grant compute.networks.getRegionEffectiveFirewalls on projects/"+projectOf(network))
	project := projectOf(network)
	r.mu.Lock()
	listed, ok := r.listed[project]
	if !ok {
		listed = sync.OnceValues(func() ([]*computepb.Firewall, error) { return r.listFirewalls(ctx, project) })
		r.listed[project] = listed
	}
	r.mu.Unlock()
	rules, err := listed()
	if err != nil {
		r.gap(gap("compute.firewalls.list", "projects/"+project, err))
		return newView([]*list{above}, afterClassic, nil)
	}
	return newView([]*list{above, r.intern(firewalls(network, rules), rules)}, afterClassic, nil)
}

func (r *reader) listFirewalls(ctx context.Context, project string) ([]*computepb.Firewall, error) {
	client, err := r.clients.firewalls()
	if err != nil {
		return nil, err
	}
	var rules []*computepb.Firewall
	it := client.List(ctx, &computepb.ListFirewallsRequest{Project: project, MaxResults: proto.Uint32(pageSize)}, once)
	err = each(it.Next, func(f *computepb.Firewall) { rules = append(rules, f) })
	return rules, err
}

// readUnused reads the VPC rules of networks that no interface is in: they are in front of nothing today.
func (r *reader) readUnused(ctx context.Context, used map[string]bool) {
	rules, err := r.listFirewalls(ctx, r.project)
	if err != nil {
		r.gap(gap("compute.firewalls.list", "projects/"+r.project, err))
		return
	}
	for _, network := range r.own {
		if !used[network] {
			l := firewalls(network, rules)
			r.mu.Lock()
			r.lists[l] = true
			r.mu.Unlock()
		}
	}
}

// policiesOf returns policies of one of the three types as what they have in common.
func policiesOf[P effectivePolicy](policies []P) []effectivePolicy {
	out := make([]effectivePolicy, 0, len(policies))
	for _, p := range policies {
		out = append(out, p)
	}
	return out
}

// translate returns the lists of an effective-firewall answer. Equal lists, such as an organization's policy, which every
// network has, are one value.
func (r *reader) translate(ctx context.Context, p place, vpc []*computepb.Firewall, policies []effectivePolicy) []*list {
	var out []*list
	for _, f := range vpc {
		if !sameNetwork(path(f.GetNetwork()), p.network) {
			r.gap(cloud.Gap{
				Subject: "compute.networks.getRegionEffectiveFirewalls", Hint: "report this with the answer of Google Cloud",
				Cause: p.network + ": the answer has rule " + f.GetName() + " of another network",
			})
		}
	}
	out = append(out, r.intern(firewalls(p.network, vpc), vpc))
	for _, m := range policies {
		key := digest(m.GetRules(), projectOf(p.network), p.region, m.GetType(), m.GetName(), m.GetDisplayName(), string(rune(m.GetPriority())))
		r.mu.Lock()
		l := r.interned[key]
		r.mu.Unlock()
		if l == nil {
			l = r.keep(key, policy(ctx, projectOf(p.network), p.region, m, r.group))
		}
		out = append(out, l)
	}
	return out
}

// intern returns the one list made of rules.
func (r *reader) intern(l *list, rules []*computepb.Firewall) *list {
	return r.keep(digest(rules, l.ref.String()), l)
}

// keep returns the list that was first kept under key.
func (r *reader) keep(key string, l *list) *list {
	r.mu.Lock()
	defer r.mu.Unlock()
	if was, ok := r.interned[key]; ok {
		return was
	}
	if owner := sharedBy(l, r.project); l.owner == nil && owner != nil {
		l.owner = owner
		l.finish()
	}
	r.interned[key] = l
	return l
}

// digest identifies messages and what is said with them.
func digest[M proto.Message](messages []M, more ...string) string {
	h := sha256.New()
	for _, s := range more {
		_, _ = h.Write([]byte(s + "\x00"))
	}
	for _, m := range messages {
		data, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
		if err != nil {
			data = []byte(err.Error())
		}
		_, _ = h.Write(data)
	}
	return string(h.Sum(nil))
}

// see records what filters a place; nil means that its interfaces have to be asked for one by one.
func (r *reader) see(p place, v *view) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.views[p] = v
	r.note(v)
}

// note takes the lists of v into the snapshot. The caller holds r.mu.
func (r *reader) note(v *view) {
	if v == nil {
		return
	}
	for _, l := range v.lists {
		if !l.unread() {
			r.lists[l] = true
		}
	}
}

// group resolves an address group, each once.
func (r *reader) group(ctx context.Context, link string) (*netipx.IPSet, bool) {
	name := groupName(link)
	r.mu.Lock()
	resolve, ok := r.groups[name]
	if !ok {
		resolve = sync.OnceValues(func() (*netipx.IPSet, bool) { return r.readGroup(ctx, name) })
		r.groups[name] = resolve
	}
	r.mu.Unlock()
	return resolve()
}

func (r *reader) readGroup(ctx context.Context, name string) (*netipx.IPSet, bool) {
	const permission = "networksecurity.addressGroups.get"
	service, err := r.clients.addressGroups()
	if err != nil {
		r.gap(gap(permission, name, err))
		return nil, false
	}
	var items []string
	if strings.HasPrefix(name, "organizations/") {
		g, err := service.Organizations.Locations.AddressGroups.Get(name).Context(ctx).Do()
		if err != nil {
			r.gap(gap(permission, name, err))
			return nil, false
		}
		items = g.Items
	} else {
		g, err := service.Projects.Locations.AddressGroups.Get(name).Context(ctx).Do()
		if err != nil {
			r.gap(gap(permission, name, err))
			return nil, false
		}
		items = g.Items
	}
	ips, ok := addresses(items)
	if !ok {
		r.gap(cloud.Gap{Subject: permission, Cause: name + ": has an item that is not an address range", Hint: "look at the group"})
	}
	return ips, ok
}

// snapshot returns what was read.
func (r *reader) snapshot() *cloud.Snapshot {
	s := &cloud.Snapshot{Scope: r.scope, Endpoints: r.found}
	byRef := map[cloud.Ref]*cloud.List{}
	seen := map[cloud.Ref]map[cloud.Ref]bool{}
	for _, l := range sortedLists(r.lists) {
		was, ok := byRef[l.ref]
		if !ok {
			byRef[l.ref] = l.full
			s.Lists = append(s.Lists, l.full)
			continue
		}
		// Two readings of one list differ: it changed in between, or Google left out what does not concern an instance.
		if seen[l.ref] == nil {
			seen[l.ref] = map[cloud.Ref]bool{}
			merged := &cloud.List{Ref: was.Ref, Name: was.Name, Owner: was.Owner, Rules: slices.Clone(was.Rules)}
			for _, rule := range was.Rules {
				seen[l.ref][rule.Ref] = true
			}
			byRef[l.ref] = merged
			s.Lists[slices.Index(s.Lists, was)] = merged
		}
		for _, rule := range l.full.Rules {
			if !seen[l.ref][rule.Ref] {
				seen[l.ref][rule.Ref] = true
				byRef[l.ref].Rules = append(byRef[l.ref].Rules, rule)
			}
		}
	}
	for g := range r.gaps {
		s.Gaps = append(s.Gaps, g)
	}
	slices.SortFunc(s.Gaps, func(a, b cloud.Gap) int {
		return cmp.Or(cmp.Compare(a.Subject, b.Subject), cmp.Compare(a.Cause, b.Cause), cmp.Compare(a.Hint, b.Hint))
	})
	return s
}

// sortedLists returns lists in a fixed order: by ref, and equal ones by their rules.
func sortedLists(set map[*list]bool) []*list {
	out := make([]*list, 0, len(set))
	for l := range set {
		out = append(out, l)
	}
	text := func(l *list) string {
		var b strings.Builder
		for i := range l.rules {
			b.WriteString(l.rules[i].Ref.ID + " " + l.rules[i].Text + "\n")
		}
		return b.String()
	}
	slices.SortFunc(out, func(a, b *list) int {
		if c := a.ref.Compare(b.ref); c != 0 {
			return c
		}
		return cmp.Or(-cmp.Compare(len(a.rules), len(b.rules)), cmp.Compare(text(a), text(b)))
	})
	return out
}
