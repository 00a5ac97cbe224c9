package gcp

import (
	"cmp"
	"context"
	"slices"
	"strings"

	compute "cloud.google.com/go/compute/apiv1"
	"cloud.google.com/go/compute/apiv1/computepb"
	"google.golang.org/protobuf/proto"
)

// behind resolves what forwarding rules lead to. Every list is asked for at most once, and only if something leads there.
type behind struct {
	r         *reader
	instances memo[string, listed[map[string]targetInstance]]
	pools     memo[string, listed[map[string]targetPool]]
	proxies   memo[string, listed[map[string]string]] // by project and kind: proxy to backend service or URL map
	urlMaps   memo[string, listed[map[string][]string]]
	services  memo[string, listed[map[string]backendService]]
	ports     memo[string, listed[map[string][]namedPort]] // by path of group
	members   memo[string, listed[[]string]]
	endpoints memo[string, listed[[]endpointOf]]
	groups    memo[string, listed[map[string]endpointGroup]]
	subnets   memo[string, listed[[]proxySubnet]]
}

// listed is the answer to a list call; hint says why there is none.
type listed[T any] struct {
	value T
	hint  string
}

type (
	targetInstance struct{ instance, network, policy string }
	targetPool     struct {
		instances []string
		backup    string
		policy    string
	}
	backendService struct {
		network, policy, portName string
		groups                    []string
	}
	namedPort struct {
		name string
		port uint16
	}
	endpointGroup struct {
		kind        string
		defaultPort uint16
	}
	endpointOf struct {
		instance string
		port     uint16
		address  string
	}
	proxySubnet struct{ network, region, ranges string }
)

// aggregate asks for an aggregated list, and records as gaps what it does not have.
func aggregate[P any](b *behind, permission, project string, open func() (func() (P, error), func() any, error), take func(P) (string, *computepb.Warning)) string {
	next, response, err := open()
	if err == nil {
		var missing []unreached
		missing, err = aggregated(next, response, take)
		b.r.miss(permission, project, missing)
		if err == nil && len(missing) > 0 {
			return "read again when " + missing[0].scope + " is back"
		}
	}
	if err != nil {
		g := gap(permission, "projects/"+project, err)
		b.r.gap(g)
		return g.Hint
	}
	return ""
}

// resolve fills in what is behind f.
func (b *behind) resolve(ctx context.Context, f *front) {
	project := projectOf(f.target + f.backendService)
	switch {
	case strings.Contains(f.target, "/targetInstances/"):
		all := b.targetInstances(ctx, project)
		t, ok := all.value[f.target]
		if !ok {
			f.lose(all.hint, f.target)
			return
		}
		f.securityPolicy = t.policy
		b.add(f, t.instance, t.network, 0, "")
	case strings.Contains(f.target, "/targetPools/"):
		b.pool(ctx, f, f.target, project)
	case f.proxy:
		b.proxied(ctx, f, project)
	case f.backendService != "":
		b.service(ctx, f, f.backendService)
	default:
		f.lose("look at what the forwarding rule leads to", f.target)
	}
}

// lose records that what is behind f, or a part of it, could not be read.
func (f *front) lose(hint, what string) {
	f.unread = what
	if f.hint = hint; hint == "" {
		f.hint = what + " was not found: read again"
	}
}

// add puts the interface of an instance in network behind f; without a network, its first.
func (b *behind) add(f *front, link, network string, port uint16, address string) {
	vm, ok := b.r.byPath[path(link)]
	if !ok {
		f.behind = append(f.behind, backend{lost: path(link), port: port})
		return
	}
	at := 0
	if network != "" {
		at = max(0, slices.IndexFunc(vm.nics, func(n nic) bool { return n.network == path(network) }))
	}
	if len(vm.nics) == 0 {
		return
	}
	f.behind = append(f.behind, backend{vm: vm, nic: at, port: port, addr: parseAddr(address)})
}

// pool puts the instances of a target pool behind f, and those of its backup.
func (b *behind) pool(ctx context.Context, f *front, link, project string) {
	all := b.targetPools(ctx, project)
	seen := map[string]bool{}
	for link != "" && !seen[link] {
		seen[link] = true
		p, ok := all.value[link]
		if !ok {
			f.lose(all.hint, link)
			return
		}
		if p.policy != "" {
			f.securityPolicy = p.policy
		}
		for _, vm := range p.instances {
			b.add(f, vm, "", 0, "")
		}
		link = p.backup
	}
}

// proxied puts behind f what its proxy connects to.
func (b *behind) proxied(ctx context.Context, f *front, project string) {
	kind := baseName(strings.TrimSuffix(f.target, "/"+baseName(f.target)))
	all := b.targetProxies(ctx, project, kind)
	to, ok := all.value[f.target]
	if !ok {
		f.lose(all.hint, f.target)
		return
	}
	f.from = proxyRanges()
	services := []string{to}
	if strings.Contains(to, "/urlMaps/") {
		maps := b.allURLMaps(ctx, projectOf(to))
		if services, ok = maps.value[to]; !ok {
			f.lose(maps.hint, to)
			return
		}
	}
	for _, s := range services {
		b.service(ctx, f, s)
	}
}

// service puts the backends of a backend service behind f.
func (b *behind) service(ctx context.Context, f *front, link string) {
	if strings.Contains(link, "/backendBuckets/") {
		return
	}
	all := b.backendServices(ctx, projectOf(link))
	s, ok := all.value[link]
	if !ok {
		f.lose(all.hint, link)
		return
	}
	first := len(f.behind)
	defer func() {
		for i := first; i < len(f.behind); i++ {
			f.behind[i].securityPolicy = s.policy
		}
	}()
	if f.proxy && f.region != "" {
		b.fromSubnet(ctx, f)
	}
	for _, group := range s.groups {
		if strings.Contains(group, "/networkEndpointGroups/") {
			b.endpointGroup(ctx, f, group, s.network)
			continue
		}
		members := b.instancesIn(ctx, group)
		if members.hint != "" {
			f.lose(members.hint, group)
		}
		ports := []uint16{0}
		if f.proxy {
			ports = nil
			named := b.namedPorts(ctx, projectOf(group))
			if _, known := named.value[group]; !known {
				f.lose(named.hint, group)
			}
			for _, p := range named.value[group] {
				if p.name == s.portName {
					ports = append(ports, p.port)
				}
			}
		}
		for _, vm := range members.value {
			for _, port := range ports {
				b.add(f, vm, s.network, port, "")
			}
		}
	}
}

// fromSubnet finds where a regional proxy connects from: the proxy-only subnet of its network and region. Which of the
// network's the proxy uses is not shown by the proxy, so those of the region's networks are all taken.
func (b *behind) fromSubnet(ctx context.Context, f *front) {
	f.from = nil
	projects := map[string]bool{b.r.project: true}
	for _, vm := range b.r.instances {
		for _, n := range vm.nics {
			if vm.region == f.region {
				projects[projectOf(n.network)] = true
			}
		}
	}
	for project := range projects {
		all := b.proxySubnets(ctx, project)
		if all.hint != "" {
			f.lose(all.hint, "proxy-only subnets of "+project)
		}
		for _, s := range all.value {
			if s.region != f.region {
				continue
			}
			if ips, ok := addresses([]string{s.ranges}); ok {
				f.from = append(f.from, ips.Prefixes()...)
			}
		}
	}
	slices.SortFunc(f.from, comparePrefixes)
	f.from = slices.Compact(f.from)
	if len(f.from) == 0 {
		f.lose("look for the proxy-only subnet of "+f.region, "where the proxy of "+f.name+" connects from")
	}
}

// endpointGroup puts the members of a network endpoint group behind f. Groups that hold no instances, such as Cloud Run
// services and addresses outside Google Cloud, are behind no firewall that is read here.
func (b *behind) endpointGroup(ctx context.Context, f *front, link, network string) {
	all := b.endpointGroups(ctx, projectOf(link))
	g, ok := all.value[link]
	if !ok {
		f.lose(all.hint, link)
		return
	}
	if g.kind != "GCE_VM_IP" && g.kind != "GCE_VM_IP_PORT" {
		return
	}
	members := b.endpointsIn(ctx, link)
	if members.hint != "" {
		f.lose(members.hint, link)
	}
	for _, m := range members.value {
		port := m.port
		if port == 0 {
			port = g.defaultPort
		}
		if f.proxy && port == 0 {
			continue
		}
		if !f.proxy {
			port = 0
		}
		b.add(f, m.instance, network, port, m.address)
	}
}

func (b *behind) targetInstances(ctx context.Context, project string) listed[map[string]targetInstance] {
	return b.instances.of(project, func() listed[map[string]targetInstance] {
		out := listed[map[string]targetInstance]{value: map[string]targetInstance{}}
		out.hint = aggregate(b, "compute.targetInstances.list", project, func() (func() (compute.TargetInstancesScopedListPair, error), func() any, error) {
			client, err := b.r.clients.targetInstances()
			if err != nil {
				return nil, nil, err
			}
			it := client.AggregatedList(ctx, &computepb.AggregatedListTargetInstancesRequest{Project: project, MaxResults: proto.Uint32(pageSize)}, once)
			return it.Next, func() any { return it.Response }, nil
		}, func(p compute.TargetInstancesScopedListPair) (string, *computepb.Warning) {
			for _, m := range p.Value.GetTargetInstances() {
				out.value[path(m.GetSelfLink())] = targetInstance{m.GetInstance(), m.GetNetwork(), m.GetSecurityPolicy()}
			}
			return p.Key, p.Value.GetWarning()
		})
		return out
	})
}

func (b *behind) targetPools(ctx context.Context, project string) listed[map[string]targetPool] {
	return b.pools.of(project, func() listed[map[string]targetPool] {
		out := listed[map[string]targetPool]{value: map[string]targetPool{}}
		out.hint = aggregate(b, "compute.targetPools.list", project, func() (func() (compute.TargetPoolsScopedListPair, error), func() any, error) {
			client, err := b.r.clients.targetPools()
			if err != nil {
				return nil, nil, err
			}
			it := client.AggregatedList(ctx, &computepb.AggregatedListTargetPoolsRequest{Project: project, MaxResults: proto.Uint32(pageSize)}, once)
			return it.Next, func() any { return it.Response }, nil
		}, func(p compute.TargetPoolsScopedListPair) (string, *computepb.Warning) {
			for _, m := range p.Value.GetTargetPools() {
				out.value[path(m.GetSelfLink())] = targetPool{m.GetInstances(), path(m.GetBackupPool()), m.GetSecurityPolicy()}
			}
			return p.Key, p.Value.GetWarning()
		})
		return out
	})
}

func (b *behind) backendServices(ctx context.Context, project string) listed[map[string]backendService] {
	return b.services.of(project, func() listed[map[string]backendService] {
		out := listed[map[string]backendService]{value: map[string]backendService{}}
		out.hint = aggregate(b, "compute.backendServices.list", project, func() (func() (compute.BackendServicesScopedListPair, error), func() any, error) {
			client, err := b.r.clients.backendServices()
			if err != nil {
				return nil, nil, err
			}
			it := client.AggregatedList(ctx, &computepb.AggregatedListBackendServicesRequest{Project: project, MaxResults: proto.Uint32(pageSize)}, once)
			return it.Next, func() any { return it.Response }, nil
		}, func(p compute.BackendServicesScopedListPair) (string, *computepb.Warning) {
			for _, m := range p.Value.GetBackendServices() {
				s := backendService{network: m.GetNetwork(), policy: cmp.Or(m.GetSecurityPolicy(), m.GetEdgeSecurityPolicy()), portName: m.GetPortName()}
				for _, g := range m.GetBackends() {
					s.groups = append(s.groups, path(g.GetGroup()))
				}
				out.value[path(m.GetSelfLink())] = s
			}
			return p.Key, p.Value.GetWarning()
		})
		return out
	})
}

func (b *behind) namedPorts(ctx context.Context, project string) listed[map[string][]namedPort] {
	return b.ports.of(project, func() listed[map[string][]namedPort] {
		out := listed[map[string][]namedPort]{value: map[string][]namedPort{}}
		out.hint = aggregate(b, "compute.instanceGroups.list", project, func() (func() (compute.InstanceGroupsScopedListPair, error), func() any, error) {
			client, err := b.r.clients.instanceGroups()
			if err != nil {
				return nil, nil, err
			}
			it := client.AggregatedList(ctx, &computepb.AggregatedListInstanceGroupsRequest{Project: project, MaxResults: proto.Uint32(pageSize)}, once)
			return it.Next, func() any { return it.Response }, nil
		}, func(p compute.InstanceGroupsScopedListPair) (string, *computepb.Warning) {
			for _, m := range p.Value.GetInstanceGroups() {
				ports := []namedPort{}
				for _, n := range m.GetNamedPorts() {
					ports = append(ports, namedPort{n.GetName(), uint16(n.GetPort())})
				}
				out.value[path(m.GetSelfLink())] = ports
			}
			return p.Key, p.Value.GetWarning()
		})
		return out
	})
}

func (b *behind) endpointGroups(ctx context.Context, project string) listed[map[string]endpointGroup] {
	return b.groups.of(project, func() listed[map[string]endpointGroup] {
		out := listed[map[string]endpointGroup]{value: map[string]endpointGroup{}}
		out.hint = aggregate(b, "compute.networkEndpointGroups.list", project, func() (func() (compute.NetworkEndpointGroupsScopedListPair, error), func() any, error) {
			client, err := b.r.clients.endpointGroups()
			if err != nil {
				return nil, nil, err
			}
			it := client.AggregatedList(ctx, &computepb.AggregatedListNetworkEndpointGroupsRequest{Project: project, MaxResults: proto.Uint32(pageSize)}, once)
			return it.Next, func() any { return it.Response }, nil
		}, func(p compute.NetworkEndpointGroupsScopedListPair) (string, *computepb.Warning) {
			for _, m := range p.Value.GetNetworkEndpointGroups() {
				out.value[path(m.GetSelfLink())] = endpointGroup{m.GetNetworkEndpointType(), uint16(m.GetDefaultPort())}
			}
			return p.Key, p.Value.GetWarning()
		})
		return out
	})
}

func (b *behind) proxySubnets(ctx context.Context, project string) listed[[]proxySubnet] {
	return b.subnets.of(project, func() listed[[]proxySubnet] {
		var out listed[[]proxySubnet]
		out.hint = aggregate(b, "compute.subnetworks.list", project, func() (func() (compute.SubnetworksScopedListPair, error), func() any, error) {
			client, err := b.r.clients.subnetworks()
			if err != nil {
				return nil, nil, err
			}
			it := client.AggregatedList(ctx, &computepb.AggregatedListSubnetworksRequest{Project: project, MaxResults: proto.Uint32(pageSize)}, once)
			return it.Next, func() any { return it.Response }, nil
		}, func(p compute.SubnetworksScopedListPair) (string, *computepb.Warning) {
			for _, m := range p.Value.GetSubnetworks() {
				if m.GetPurpose() == "REGIONAL_MANAGED_PROXY" {
					out.value = append(out.value, proxySubnet{path(m.GetNetwork()), baseName(m.GetRegion()), m.GetIpCidrRange()})
				}
			}
			return p.Key, p.Value.GetWarning()
		})
		return out
	})
}

// instancesIn lists the instances of a zonal or regional instance group.
func (b *behind) instancesIn(ctx context.Context, group string) listed[[]string] {
	return b.members.of(group, func() listed[[]string] {
		var out listed[[]string]
		project, name := projectOf(group), baseName(group)
		take := func(m *computepb.InstanceWithNamedPorts) { out.value = append(out.value, m.GetInstance()) }
		err := func() error {
			if zone := part(group, "zones"); zone != "" {
				client, err := b.r.clients.instanceGroups()
				if err != nil {
					return err
				}
				return each(client.ListInstances(ctx, &computepb.ListInstancesInstanceGroupsRequest{
					Project: project, Zone: zone, InstanceGroup: name, MaxResults: proto.Uint32(pageSize),
					InstanceGroupsListInstancesRequestResource: &computepb.InstanceGroupsListInstancesRequest{},
				}, once).Next, take)
			}
			client, err := b.r.clients.regionGroups()
			if err != nil {
				return err
			}
			return each(client.ListInstances(ctx, &computepb.ListInstancesRegionInstanceGroupsRequest{
				Project: project, Region: part(group, "regions"), InstanceGroup: name, MaxResults: proto.Uint32(pageSize),
				RegionInstanceGroupsListInstancesRequestResource: &computepb.RegionInstanceGroupsListInstancesRequest{},
			}, once).Next, take)
		}()
		if err != nil {
			g := gap("compute.instanceGroups.list", group, err)
			b.r.gap(g)
			out.hint = g.Hint
		}
		return out
	})
}

// endpointsIn lists the members of a zonal network endpoint group.
func (b *behind) endpointsIn(ctx context.Context, group string) listed[[]endpointOf] {
	return b.endpoints.of(group, func() listed[[]endpointOf] {
		var out listed[[]endpointOf]
		client, err := b.r.clients.endpointGroups()
		if err == nil {
			err = each(client.ListNetworkEndpoints(ctx, &computepb.ListNetworkEndpointsNetworkEndpointGroupsRequest{
				Project: projectOf(group), Zone: part(group, "zones"), NetworkEndpointGroup: baseName(group), MaxResults: proto.Uint32(pageSize),
				NetworkEndpointGroupsListEndpointsRequestResource: &computepb.NetworkEndpointGroupsListEndpointsRequest{},
			}, once).Next, func(m *computepb.NetworkEndpointWithHealthStatus) {
				e := m.GetNetworkEndpoint()
				link := e.GetInstance()
				if !strings.Contains(link, "/") { // a name, in the group's zone
					link = "projects/" + projectOf(group) + "/zones/" + part(group, "zones") + "/instances/" + link
				}
				out.value = append(out.value, endpointOf{link, uint16(e.GetPort()), e.GetIpAddress()})
			})
		}
		if err != nil {
			g := gap("compute.networkEndpointGroups.get", group, err)
			b.r.gap(g)
			out.hint = g.Hint
		}
		return out
	})
}
