package gcp

import (
	"cmp"
	"context"
	"net/netip"
	"slices"
	"strings"

	compute "cloud.google.com/go/compute/apiv1"
	"cloud.google.com/go/compute/apiv1/computepb"
	"go4.org/netipx"
	"golang.org/x/sync/errgroup"
	"google.golang.org/protobuf/proto"

	"github.com/cloudaudit/cloudaudit/traffic"
)

// front is an external forwarding rule: an address at which packets arrive for what is behind it.
type front struct {
	name, region   string // region is empty for a global one
	addr           netip.Addr
	services       [][2]traffic.Service
	sources        *netipx.IPSet // the clients it is for; nil: all
	sourcesUnread  bool
	target         string // path of a target instance, pool or proxy
	backendService string // path
	securityPolicy string // of Cloud Armor, in front of all that is behind

	proxy  bool
	from   []netip.Prefix // where a proxy's own connections come from
	behind []backend
	unread string // what is behind could not be read, for this reason
	hint   string
}

// backend is an interface behind a front.
type backend struct {
	vm   *instance
	nic  int
	port uint16 // that a proxy connects to
	addr netip.Addr
	// securityPolicy is the Cloud Armor policy of the backend service that it is in.
	securityPolicy string
	// lost names an instance that is not among those that were read.
	lost string
}

// proxyRanges are where Google's front ends connect from
// (https://cloud.google.com/load-balancing/docs/https#firewall-rules).
func proxyRanges() []netip.Prefix {
	return []netip.Prefix{netip.MustParsePrefix("35.191.0.0/16"), netip.MustParsePrefix("130.211.0.0/22")}
}

// listForwardingRules lists the external forwarding rules of the project, global ones included.
func (r *reader) listForwardingRules(ctx context.Context) {
	const permission = "compute.forwardingRules.list"
	client, err := r.clients.forwardingRules()
	var missing []unreached
	if err == nil {
		it := client.AggregatedList(ctx, &computepb.AggregatedListForwardingRulesRequest{
			Project: r.project, MaxResults: proto.Uint32(pageSize),
		}, once)
		missing, err = aggregated(it.Next, func() any { return it.Response },
			func(p compute.ForwardingRulesScopedListPair) (string, *computepb.Warning) {
				for _, m := range p.Value.GetForwardingRules() {
					if f, ok := frontOf(m); ok {
						r.fronts = append(r.fronts, f)
					}
				}
				return p.Key, p.Value.GetWarning()
			})
	}
	if err != nil {
		g := gap(permission, "projects/"+r.project, err)
		r.gap(g)
		r.frontsUnread[""] = g.Hint
	}
	r.miss(permission, r.project, missing)
	for _, m := range missing {
		if strings.HasPrefix(m.scope, "zones/") {
			continue
		}
		r.frontsUnread[strings.TrimPrefix(m.scope, "regions/")] = m.scope + " is unreachable: read again"
	}
	slices.SortFunc(r.fronts, func(a, b *front) int { return cmp.Or(cmp.Compare(a.region, b.region), cmp.Compare(a.name, b.name)) })
}

// frontOf keeps what is used of an external forwarding rule that leads to instances.
func frontOf(m *computepb.ForwardingRule) (*front, bool) {
	switch m.GetLoadBalancingScheme() {
	case "EXTERNAL", "EXTERNAL_MANAGED", "EXTERNAL_PASSTHROUGH", "":
	case "INTERNAL", "INTERNAL_MANAGED", "INTERNAL_SELF_MANAGED", "INVALID":
		return nil, false
	}
	target := path(m.GetTarget())
	if strings.Contains(target, "/targetVpnGateways/") || strings.Contains(m.GetTarget(), "/serviceAttachments/") {
		return nil, false
	}
	f := &front{
		name: m.GetName(), region: baseName(m.GetRegion()), addr: parseAddr(m.GetIPAddress()),
		target: target, backendService: path(m.GetBackendService()), proxy: strings.Contains(target, "Proxies/"),
	}
	if !f.addr.IsValid() || target == "" && f.backendService == "" {
		return nil, false
	}
	var s services
	ports := slices.Clone(m.GetPorts())
	if m.GetPortRange() != "" {
		ports = append(ports, m.GetPortRange())
	}
	if m.GetAllPorts() {
		ports = nil
	}
	switch protocol := m.GetIPProtocol(); protocol {
	case "L3_DEFAULT", "":
		s.add("all", nil)
	default:
		s.add(protocol, ports)
	}
	f.services = append(s.known, s.doubtful...)
	if ranges := m.GetSourceIpRanges(); len(ranges) > 0 {
		var ok bool
		f.sources, ok = addresses(ranges)
		f.sourcesUnread = !ok
	}
	return f, true
}

// carries returns the packets that f takes from anywhere.
func (f *front) carries() traffic.Set {
	var out traffic.Set
	for _, s := range f.services {
		out = out.Union(traffic.Of(everywhere(), s[0], s[1]))
	}
	return out
}

// readBehind finds the interfaces behind every front.
func (r *reader) readBehind(ctx context.Context) {
	b := &behind{r: r}
	var g errgroup.Group
	g.SetLimit(cap(r.provider.transport.inFlight))
	for _, f := range r.fronts {
		g.Go(func() error {
			b.resolve(ctx, f)
			slices.SortFunc(f.behind, func(a, b backend) int {
				return cmp.Or(cmp.Compare(a.key(), b.key()), cmp.Compare(a.port, b.port), cmp.Compare(a.securityPolicy, b.securityPolicy))
			})
			f.behind = slices.CompactFunc(f.behind, func(a, b backend) bool { return a == b })
			return nil
		})
	}
	_ = g.Wait()
}

func (b backend) key() string {
	if b.vm == nil {
		return b.lost
	}
	return b.vm.path + "/" + b.vm.nics[b.nic].name
}
