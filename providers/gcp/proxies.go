package gcp

import (
	"cmp"
	"context"
	"net/netip"

	compute "cloud.google.com/go/compute/apiv1"
	"cloud.google.com/go/compute/apiv1/computepb"
	"google.golang.org/protobuf/proto"
)

// targetProxies lists the proxies of one kind, with the backend service or URL map that each one connects to.
func (b *behind) targetProxies(ctx context.Context, project, kind string) listed[map[string]string] {
	return b.proxies.of(project+"/"+kind, func() listed[map[string]string] {
		out := listed[map[string]string]{value: map[string]string{}}
		switch kind {
		case "targetTcpProxies":
			out.hint = aggregate(b, "compute.targetTcpProxies.list", project, func() (func() (compute.TargetTcpProxiesScopedListPair, error), func() any, error) {
				client, err := b.r.clients.tcpProxies()
				if err != nil {
					return nil, nil, err
				}
				it := client.AggregatedList(ctx, &computepb.AggregatedListTargetTcpProxiesRequest{Project: project, MaxResults: proto.Uint32(pageSize)}, once)
				return it.Next, func() any { return it.Response }, nil
			}, func(p compute.TargetTcpProxiesScopedListPair) (string, *computepb.Warning) {
				for _, m := range p.Value.GetTargetTcpProxies() {
					out.value[path(m.GetSelfLink())] = path(m.GetService())
				}
				return p.Key, p.Value.GetWarning()
			})
		case "targetSslProxies":
			client, err := b.r.clients.sslProxies()
			if err == nil {
				err = each(client.List(ctx, &computepb.ListTargetSslProxiesRequest{Project: project, MaxResults: proto.Uint32(pageSize)}, once).Next,
					func(m *computepb.TargetSslProxy) { out.value[path(m.GetSelfLink())] = path(m.GetService()) })
			}
			if err != nil {
				g := gap("compute.targetSslProxies.list", "projects/"+project, err)
				b.r.gap(g)
				out.hint = g.Hint
			}
		case "targetHttpProxies":
			out.hint = aggregate(b, "compute.targetHttpProxies.list", project, func() (func() (compute.TargetHttpProxiesScopedListPair, error), func() any, error) {
				client, err := b.r.clients.httpProxies()
				if err != nil {
					return nil, nil, err
				}
				it := client.AggregatedList(ctx, &computepb.AggregatedListTargetHttpProxiesRequest{Project: project, MaxResults: proto.Uint32(pageSize)}, once)
				return it.Next, func() any { return it.Response }, nil
			}, func(p compute.TargetHttpProxiesScopedListPair) (string, *computepb.Warning) {
				for _, m := range p.Value.GetTargetHttpProxies() {
					out.value[path(m.GetSelfLink())] = path(m.GetUrlMap())
				}
				return p.Key, p.Value.GetWarning()
			})
		case "targetHttpsProxies":
			out.hint = aggregate(b, "compute.targetHttpsProxies.list", project, func() (func() (compute.TargetHttpsProxiesScopedListPair, error), func() any, error) {
				client, err := b.r.clients.httpsProxies()
				if err != nil {
					return nil, nil, err
				}
				it := client.AggregatedList(ctx, &computepb.AggregatedListTargetHttpsProxiesRequest{Project: project, MaxResults: proto.Uint32(pageSize)}, once)
				return it.Next, func() any { return it.Response }, nil
			}, func(p compute.TargetHttpsProxiesScopedListPair) (string, *computepb.Warning) {
				for _, m := range p.Value.GetTargetHttpsProxies() {
					out.value[path(m.GetSelfLink())] = path(m.GetUrlMap())
				}
				return p.Key, p.Value.GetWarning()
			})
		default:
			out.hint = "look at what the " + kind + " of the project lead to: they are of a kind that is not known here"
		}
		return out
	})
}

// allURLMaps lists the URL maps of a project, with every backend service that each one may send a request to. HTTP is no
// obstacle: a request's body reaches the port behind it, and memcached takes commands from its lines.
func (b *behind) allURLMaps(ctx context.Context, project string) listed[map[string][]string] {
	return b.urlMaps.of(project, func() listed[map[string][]string] {
		out := listed[map[string][]string]{value: map[string][]string{}}
		out.hint = aggregate(b, "compute.urlMaps.list", project, func() (func() (compute.UrlMapsScopedListPair, error), func() any, error) {
			client, err := b.r.clients.urlMaps()
			if err != nil {
				return nil, nil, err
			}
			it := client.AggregatedList(ctx, &computepb.AggregatedListUrlMapsRequest{Project: project, MaxResults: proto.Uint32(pageSize)}, once)
			return it.Next, func() any { return it.Response }, nil
		}, func(p compute.UrlMapsScopedListPair) (string, *computepb.Warning) {
			for _, m := range p.Value.GetUrlMaps() {
				out.value[path(m.GetSelfLink())] = servicesOf(m)
			}
			return p.Key, p.Value.GetWarning()
		})
		return out
	})
}

// servicesOf returns every backend service that a URL map names.
func servicesOf(m *computepb.UrlMap) []string {
	var out []string
	seen := map[string]bool{"": true}
	add := func(link string) {
		if link = path(link); !seen[link] {
			seen[link] = true
			out = append(out, link)
		}
	}
	weighted := func(a *computepb.HttpRouteAction) {
		for _, w := range a.GetWeightedBackendServices() {
			add(w.GetBackendService())
		}
	}
	add(m.GetDefaultService())
	weighted(m.GetDefaultRouteAction())
	for _, pm := range m.GetPathMatchers() {
		add(pm.GetDefaultService())
		weighted(pm.GetDefaultRouteAction())
		for _, rule := range pm.GetPathRules() {
			add(rule.GetService())
			weighted(rule.GetRouteAction())
		}
		for _, rule := range pm.GetRouteRules() {
			add(rule.GetService())
			weighted(rule.GetRouteAction())
		}
	}
	return out
}

func comparePrefixes(a, b netip.Prefix) int {
	return cmp.Or(a.Addr().Compare(b.Addr()), cmp.Compare(a.Bits(), b.Bits()))
}
