package gce

import (
	"cmp"
	"slices"
	"strings"

	"cloud.google.com/go/compute/apiv1/computepb"
	"google.golang.org/protobuf/proto"
)

func listForwardingRules(c *call) {
	p, ok := c.project()
	if !ok {
		return
	}
	c.aggregate(&computepb.ForwardingRuleAggregatedList{}, "forwardingRules", len(p.ForwardingRules),
		func(i int) string { return where("", p.ForwardingRules[i].Region) },
		func(i int) proto.Message { return p.forwardingRuleMessage(p.ForwardingRules[i]) })
}

func listGlobalForwardingRules(c *call) {
	p, ok := c.project()
	if !ok {
		return
	}
	var global []ForwardingRule
	for _, fr := range p.ForwardingRules {
		if fr.Region == "" {
			global = append(global, fr)
		}
	}
	c.list(&computepb.ForwardingRuleList{}, len(global),
		func(i int) proto.Message { return p.forwardingRuleMessage(global[i]) })
}

func (p *Project) forwardingRuleMessage(fr ForwardingRule) *computepb.ForwardingRule {
	link := p.link(where("", fr.Region) + "/forwardingRules/" + fr.Name)
	m := &computepb.ForwardingRule{
		Kind: proto.String("compute#forwardingRule"), Id: proto.Uint64(number(link)), Name: proto.String(fr.Name),
		SelfLink: proto.String(link), IPAddress: str(fr.IPAddress), IPProtocol: str(fr.IPProtocol),
		LoadBalancingScheme: str(fr.LoadBalancingScheme), Ports: fr.Ports, PortRange: str(fr.PortRange),
		SourceIpRanges: fr.SourceIPRanges, Target: str(p.link(fr.Target)), BackendService: str(p.link(fr.BackendService)),
		IpVersion: proto.String("IPV4"), NetworkTier: proto.String("PREMIUM"),
	}
	if fr.AllPorts {
		m.AllPorts = proto.Bool(true)
	}
	if strings.Contains(fr.IPAddress, ":") {
		m.IpVersion = proto.String("IPV6")
	}
	if fr.Region != "" {
		m.Region = proto.String(p.link("regions/" + fr.Region))
	}
	return m
}

func listTargetInstances(c *call) {
	p, ok := c.project()
	if !ok {
		return
	}
	c.aggregate(&computepb.TargetInstanceAggregatedList{}, "targetInstances", len(p.TargetInstances),
		func(i int) string { return "zones/" + p.TargetInstances[i].Zone },
		func(i int) proto.Message {
			t := p.TargetInstances[i]
			link := p.link("zones/" + t.Zone + "/targetInstances/" + t.Name)
			m := &computepb.TargetInstance{
				Kind: proto.String("compute#targetInstance"), Id: proto.Uint64(number(link)), Name: proto.String(t.Name),
				SelfLink: proto.String(link), Zone: proto.String(p.link("zones/" + t.Zone)), NatPolicy: proto.String("NO_NAT"),
				Instance: proto.String(p.instanceLink(t.Instance)), SecurityPolicy: str(p.link(t.SecurityPolicy)),
			}
			if t.Network != "" {
				m.Network = proto.String(linkPrefix + p.network(t.Network))
			}
			return m
		})
}

// instanceLink returns the link of an instance of the scene, by its name or partial link.
func (p *Project) instanceLink(name string) string {
	if vm, ok := p.instance(name); ok {
		name = "zones/" + vm.Zone + "/instances/" + vm.Name
	}
	return p.link(name)
}

func listTargetPools(c *call) {
	p, ok := c.project()
	if !ok {
		return
	}
	c.aggregate(&computepb.TargetPoolAggregatedList{}, "targetPools", len(p.TargetPools),
		func(i int) string { return "regions/" + p.TargetPools[i].Region },
		func(i int) proto.Message {
			t := p.TargetPools[i]
			link := p.link("regions/" + t.Region + "/targetPools/" + t.Name)
			m := &computepb.TargetPool{
				Kind: proto.String("compute#targetPool"), Id: proto.Uint64(number(link)), Name: proto.String(t.Name),
				SelfLink: proto.String(link), Region: proto.String(p.link("regions/" + t.Region)),
				BackupPool: str(p.link(t.BackupPool)), SecurityPolicy: str(p.link(t.SecurityPolicy)),
			}
			for _, name := range t.Instances {
				m.Instances = append(m.Instances, p.instanceLink(name))
			}
			return m
		})
}

// proxies returns the target proxies of one kind.
func (p *Project) proxies(kind string) []TargetProxy {
	var out []TargetProxy
	for _, t := range p.TargetProxies {
		if t.Kind == kind {
			out = append(out, t)
		}
	}
	return out
}

func (p *Project) proxyLink(t TargetProxy) string {
	return p.link(where("", t.Region) + "/" + t.Kind + "/" + t.Name)
}

func listTargetTCPProxies(c *call) {
	p, ok := c.project()
	if !ok {
		return
	}
	all := p.proxies("targetTcpProxies")
	c.aggregate(&computepb.TargetTcpProxyAggregatedList{}, "targetTcpProxies", len(all),
		func(i int) string { return where("", all[i].Region) },
		func(i int) proto.Message {
			return &computepb.TargetTcpProxy{
				Kind: proto.String("compute#targetTcpProxy"), Id: proto.Uint64(number(p.proxyLink(all[i]))),
				Name: proto.String(all[i].Name), SelfLink: proto.String(p.proxyLink(all[i])),
				Service: str(p.link(all[i].Service)), ProxyHeader: proto.String("NONE"),
			}
		})
}

func listTargetSSLProxies(c *call) {
	p, ok := c.project()
	if !ok {
		return
	}
	all := p.proxies("targetSslProxies")
	c.list(&computepb.TargetSslProxyList{}, len(all), func(i int) proto.Message {
		return &computepb.TargetSslProxy{
			Kind: proto.String("compute#targetSslProxy"), Id: proto.Uint64(number(p.proxyLink(all[i]))),
			Name: proto.String(all[i].Name), SelfLink: proto.String(p.proxyLink(all[i])),
			Service: str(p.link(all[i].Service)), ProxyHeader: proto.String("NONE"),
		}
	})
}

func listTargetHTTPProxies(c *call) {
	p, ok := c.project()
	if !ok {
		return
	}
	all := p.proxies("targetHttpProxies")
	c.aggregate(&computepb.TargetHttpProxyAggregatedList{}, "targetHttpProxies", len(all),
		func(i int) string { return where("", all[i].Region) },
		func(i int) proto.Message {
			return &computepb.TargetHttpProxy{
				Kind: proto.String("compute#targetHttpProxy"), Id: proto.Uint64(number(p.proxyLink(all[i]))),
				Name: proto.String(all[i].Name), SelfLink: proto.String(p.proxyLink(all[i])),
				UrlMap: str(p.link(all[i].URLMap)),
			}
		})
}

func listTargetHTTPSProxies(c *call) {
	p, ok := c.project()
	if !ok {
		return
	}
	all := p.proxies("targetHttpsProxies")
	c.aggregate(&computepb.TargetHttpsProxyAggregatedList{}, "targetHttpsProxies", len(all),
		func(i int) string { return where("", all[i].Region) },
		func(i int) proto.Message {
			return &computepb.TargetHttpsProxy{
				Kind: proto.String("compute#targetHttpsProxy"), Id: proto.Uint64(number(p.proxyLink(all[i]))),
				Name: proto.String(all[i].Name), SelfLink: proto.String(p.proxyLink(all[i])),
				UrlMap: str(p.link(all[i].URLMap)),
			}
		})
}

func listURLMaps(c *call) {
	p, ok := c.project()
	if !ok {
		return
	}
	c.aggregate(&computepb.UrlMapsAggregatedList{}, "urlMaps", len(p.URLMaps),
		func(i int) string { return where("", p.URLMaps[i].Region) },
		func(i int) proto.Message {
			u := p.URLMaps[i]
			link := p.link(where("", u.Region) + "/urlMaps/" + u.Name)
			m := &computepb.UrlMap{
				Kind: proto.String("compute#urlMap"), Id: proto.Uint64(number(link)), Name: proto.String(u.Name),
				SelfLink: proto.String(link), DefaultService: str(p.link(u.DefaultService)),
			}
			if len(u.Services) > 0 {
				pm := &computepb.PathMatcher{Name: proto.String("paths"), DefaultService: str(p.link(u.DefaultService))}
				for _, s := range u.Services {
					pm.PathRules = append(pm.PathRules, &computepb.PathRule{Paths: []string{"/*"}, Service: proto.String(p.link(s))})
				}
				m.PathMatchers = []*computepb.PathMatcher{pm}
				m.HostRules = []*computepb.HostRule{{Hosts: []string{"*"}, PathMatcher: proto.String("paths")}}
			}
			return m
		})
}

func listBackendServices(c *call) {
	p, ok := c.project()
	if !ok {
		return
	}
	c.aggregate(&computepb.BackendServiceAggregatedList{}, "backendServices", len(p.BackendServices),
		func(i int) string { return where("", p.BackendServices[i].Region) },
		func(i int) proto.Message {
			b := p.BackendServices[i]
			link := p.link(where("", b.Region) + "/backendServices/" + b.Name)
			m := &computepb.BackendService{
				Kind: proto.String("compute#backendService"), Id: proto.Uint64(number(link)), Name: proto.String(b.Name),
				SelfLink: proto.String(link), Protocol: str(b.Protocol), PortName: str(b.PortName),
				LoadBalancingScheme: str(b.LoadBalancingScheme), SecurityPolicy: str(p.link(b.SecurityPolicy)),
				EdgeSecurityPolicy: str(p.link(b.EdgeSecurityPolicy)),
			}
			if b.Network != "" {
				m.Network = proto.String(linkPrefix + p.network(b.Network))
			}
			for _, g := range b.Backends {
				m.Backends = append(m.Backends, &computepb.Backend{Group: proto.String(p.link(g))})
			}
			return m
		})
}

func listInstanceGroups(c *call) {
	p, ok := c.project()
	if !ok {
		return
	}
	c.aggregate(&computepb.InstanceGroupAggregatedList{}, "instanceGroups", len(p.InstanceGroups),
		func(i int) string { return where(p.InstanceGroups[i].Zone, p.InstanceGroups[i].Region) },
		func(i int) proto.Message {
			g := p.InstanceGroups[i]
			link := p.link(where(g.Zone, g.Region) + "/instanceGroups/" + g.Name)
			return &computepb.InstanceGroup{
				Kind: proto.String("compute#instanceGroup"), Id: proto.Uint64(number(link)), Name: proto.String(g.Name),
				SelfLink: proto.String(link), Network: proto.String(linkPrefix + p.network(g.Network)),
				NamedPorts: namedPorts(g.NamedPorts), Size: proto.Int32(int32(len(g.Instances))),
			}
		})
}

func namedPorts(ports map[string]int32) []*computepb.NamedPort {
	var out []*computepb.NamedPort
	for name, port := range ports {
		out = append(out, &computepb.NamedPort{Name: proto.String(name), Port: proto.Int32(port)})
	}
	slices.SortFunc(out, func(a, b *computepb.NamedPort) int { return cmp.Compare(a.GetName(), b.GetName()) })
	return out
}

func listGroupInstances(c *call) {
	p, ok := c.project()
	if !ok {
		return
	}
	for _, g := range p.InstanceGroups {
		if g.Name != c.vars["group"] || where(g.Zone, g.Region) != where(c.vars["zone"], c.vars["region"]) {
			continue
		}
		var list proto.Message = &computepb.InstanceGroupsListInstances{}
		if c.vars["region"] != "" {
			list = &computepb.RegionInstanceGroupsListInstances{}
		}
		c.list(list, len(g.Instances), func(i int) proto.Message {
			return &computepb.InstanceWithNamedPorts{
				Instance: proto.String(p.instanceLink(g.Instances[i])), Status: proto.String("RUNNING"),
				NamedPorts: namedPorts(g.NamedPorts),
			}
		})
		return
	}
	c.notFound("instanceGroups/" + c.vars["group"])
}

func listNetworkEndpointGroups(c *call) {
	p, ok := c.project()
	if !ok {
		return
	}
	all := p.NetworkEndpointGroups
	c.aggregate(&computepb.NetworkEndpointGroupAggregatedList{}, "networkEndpointGroups", len(all),
		func(i int) string { return where(all[i].Zone, all[i].Region) },
		func(i int) proto.Message {
			g := all[i]
			link := p.link(where(g.Zone, g.Region) + "/networkEndpointGroups/" + g.Name)
			m := &computepb.NetworkEndpointGroup{
				Kind: proto.String("compute#networkEndpointGroup"), Id: proto.Uint64(number(link)), Name: proto.String(g.Name),
				SelfLink: proto.String(link), NetworkEndpointType: str(g.Type), Size: proto.Int32(int32(len(g.Endpoints))),
			}
			if g.Network != "" {
				m.Network = proto.String(linkPrefix + p.network(g.Network))
			}
			if g.DefaultPort != 0 {
				m.DefaultPort = proto.Int32(g.DefaultPort)
			}
			return m
		})
}

func listNetworkEndpoints(c *call) {
	p, ok := c.project()
	if !ok {
		return
	}
	for _, g := range p.NetworkEndpointGroups {
		if g.Name != c.vars["group"] || where(g.Zone, g.Region) != where(c.vars["zone"], c.vars["region"]) {
			continue
		}
		c.list(&computepb.NetworkEndpointGroupsListNetworkEndpoints{}, len(g.Endpoints), func(i int) proto.Message {
			e := g.Endpoints[i]
			m := &computepb.NetworkEndpoint{IpAddress: str(e.IPAddress)}
			if e.Instance != "" {
				m.Instance = proto.String(p.instanceLink(e.Instance))
			}
			if e.Port != 0 {
				m.Port = proto.Int32(e.Port)
			}
			return &computepb.NetworkEndpointWithHealthStatus{NetworkEndpoint: m}
		})
		return
	}
	c.notFound("networkEndpointGroups/" + c.vars["group"])
}
