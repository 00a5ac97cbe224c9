package gcp

import (
	"cmp"
	"context"
	"net/netip"
	"slices"

	"cloud.google.com/go/compute/apiv1/computepb"
	"google.golang.org/protobuf/proto"

	"github.com/cloudaudit/cloudaudit/cloud"
	"github.com/cloudaudit/cloudaudit/traffic"
)

// routing is where replies of a network's instances go, as far as it is the internet.
type routing struct {
	routes []route
	hint   string // the routes could not be read
}

// route is a route to internet addresses.
type route struct {
	name     string
	to       netip.Prefix
	priority uint32
	tags     []string // it is for instances with one of these; none: for all
	hop      hop
}

type hop uint8

const (
	gateway   hop = iota // the internet
	elsewhere            // an appliance, a tunnel: whether the reply reaches the client is decided there
	inside               // the network itself, or a peer: the client's address is one of its own
)

// readRoutes lists the routes of a project's networks.
func (r *reader) readRoutes(ctx context.Context, project string) {
	found := map[string]*routing{}
	client, err := r.clients.routes()
	if err == nil {
		it := client.List(ctx, &computepb.ListRoutesRequest{Project: project, MaxResults: proto.Uint32(pageSize)}, once)
		err = each(it.Next, func(m *computepb.Route) {
			to, err := netip.ParsePrefix(m.GetDestRange())
			if err != nil || traffic.IsEmptyIPs(traffic.IntersectIPs(traffic.IPs(to), traffic.Internet())) {
				return
			}
			n := path(m.GetNetwork())
			if found[n] == nil {
				found[n] = &routing{}
			}
			out := route{name: m.GetName(), to: to.Masked(), priority: m.GetPriority(), tags: m.GetTags(), hop: elsewhere}
			switch {
			case baseName(m.GetNextHopGateway()) == "default-internet-gateway":
				out.hop = gateway
			case m.GetNextHopNetwork() != "" || m.GetNextHopPeering() != "":
				out.hop = inside
			}
			found[n].routes = append(found[n].routes, out)
		})
	}
	var unread *routing
	if err != nil {
		g := gap("compute.routes.list", "projects/"+project, err)
		r.gap(g)
		unread = &routing{hint: g.Hint}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if unread != nil {
		r.routes["projects/"+project] = unread
		return
	}
	for n, rt := range found {
		// The longest prefix decides, then the smallest priority (https://cloud.google.com/vpc/docs/routes#routeselection).
		slices.SortFunc(rt.routes, func(a, b route) int {
			return cmp.Or(-cmp.Compare(a.to.Bits(), b.to.Bits()), cmp.Compare(a.priority, b.priority), cmp.Compare(a.hop, b.hop), cmp.Compare(a.name, b.name))
		})
		r.routes[n] = rt
	}
}

// returnRoute returns the layer that keeps replies from an external address in where no route leads back to the internet.
// A load balancer in front has return paths of its own (https://cloud.google.com/vpc/docs/routes#special_return_paths).
func (r *reader) returnRoute(vm *instance, network string) cloud.Layer {
	scope := cloud.Scope{Provider: Name, Account: projectOf(network)}
	key := "every route of " + network
	reply := &cloud.List{Ref: scope.Ref("routes", baseName(network)), Name: baseName(network)}
	if unread, ok := r.routes["projects/"+projectOf(network)]; ok {
		key += " unread"
		reply.Rules = []cloud.Rule{{
			Ref: scope.Ref("route", "unread"), Verdict: cloud.Allow, Maybe: traffic.All(), Doubt: cloud.Unread,
			Cause: "return_route", Hint: unread.hint, Implied: true, Text: "routes could not be read",
		}}
	} else if rt, ok := r.routes[network]; ok {
		for _, x := range rt.routes {
			if len(x.tags) > 0 && !meet(x.tags, vm.tags) {
				continue
			}
			key += " " + x.name
			set := traffic.Of(traffic.IPs(x.to), 0, lastService)
			rule := cloud.Rule{Ref: scope.Ref("route", x.name), Name: x.name, Text: x.to.String()}
			switch x.hop {
			case gateway:
				rule.Match = set
				reply.Rules = append(reply.Rules, rule)
			case inside:
				rule.Verdict, rule.Match = cloud.Deny, set
				reply.Rules = append(reply.Rules, rule)
			case elsewhere:
				rule.Maybe, rule.Doubt, rule.Cause = set, cloud.Unread, "return_route"
				rule.Hint = "route " + x.name + " sends replies to an appliance or tunnel: look there whether they reach the client"
				drop := rule
				drop.Verdict = cloud.Deny
				reply.Rules = append(reply.Rules, drop, rule)
			}
		}
	}
	return cloud.Layer{
		Name: "route", Kind: cloud.Mask, Lists: []*cloud.List{r.everything()}, Stateless: true, ReplyName: "return_route",
		Reply: []*cloud.List{r.returns.of(key, func() *cloud.List { return reply })},
	}
}

// everything is a list that admits every packet.
func (r *reader) everything() *cloud.List {
	return r.returns.of("everything", func() *cloud.List {
		ref := r.scope.Ref("routes", "in")
		return &cloud.List{Ref: ref, Rules: []cloud.Rule{{Ref: ref, Match: traffic.All(), Implied: true, Text: "every packet to the address"}}}
	})
}
