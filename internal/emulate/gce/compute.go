package gce

import (
	"fmt"
	"net/http"
	"strconv"

	"cloud.google.com/go/compute/apiv1/computepb"
	"google.golang.org/protobuf/proto"
)

// computeOperations are the methods of Compute Engine v1 that are served, with the permissions that Google documents for
// them (https://cloud.google.com/compute/docs/reference/rest/v1).
var computeOperations = []operation{
	op("GET", "projects/{project}", "compute.projects.get", getProject),
	op("GET", "projects/{project}/getXpnHost", "compute.projects.get", getXpnHost),
	op("GET", "projects/{project}/aggregated/instances", "compute.instances.list", listInstances),
	op("GET", "projects/{project}/global/networks", "compute.networks.list", listNetworks),
	op("GET", "projects/{project}/global/networks/{network}", "compute.networks.get", getNetwork),
	op("GET", "projects/{project}/global/firewalls", "compute.firewalls.list", listFirewalls),
	op("POST", "projects/{project}/global/firewalls", "compute.firewalls.create", insertFirewall),
	op("PATCH", "projects/{project}/global/firewalls/{firewall}", "compute.firewalls.update", changeFirewall),
	op("PUT", "projects/{project}/global/firewalls/{firewall}", "compute.firewalls.update", changeFirewall),
	op("DELETE", "projects/{project}/global/firewalls/{firewall}", "compute.firewalls.delete", deleteFirewall),
	op("POST", "projects/{project}/global/firewallPolicies/{policy}/addRule", "compute.firewallPolicies.update", changeRule),
	op("POST", "projects/{project}/global/firewallPolicies/{policy}/patchRule", "compute.firewallPolicies.update", changeRule),
	op("POST", "projects/{project}/global/firewallPolicies/{policy}/removeRule", "compute.firewallPolicies.update", changeRule),
	op("POST", "projects/{project}/regions/{region}/firewallPolicies/{policy}/addRule", "compute.firewallPolicies.update", changeRule),
	op("POST", "projects/{project}/regions/{region}/firewallPolicies/{policy}/patchRule", "compute.firewallPolicies.update", changeRule),
	op("POST", "projects/{project}/regions/{region}/firewallPolicies/{policy}/removeRule", "compute.firewallPolicies.update", changeRule),
	op("POST", "locations/global/firewallPolicies/{policy}/addRule", "compute.firewallPolicies.update", changeRule),
	op("POST", "locations/global/firewallPolicies/{policy}/patchRule", "compute.firewallPolicies.update", changeRule),
	op("POST", "locations/global/firewallPolicies/{policy}/removeRule", "compute.firewallPolicies.update", changeRule),
	op("GET", "projects/{project}/global/operations/{operation}", "compute.globalOperations.get", getOperation),
	op("GET", "projects/{project}/regions/{region}/operations/{operation}", "compute.regionOperations.get", getOperation),
	op("GET", "locations/global/operations/{operation}", "compute.globalOperations.get", getOperation),
	op("GET", "projects/{project}/global/routes", "compute.routes.list", listRoutes),
	op("GET", "projects/{project}/global/networks/{network}/getEffectiveFirewalls",
		"compute.networks.getEffectiveFirewalls", networkFirewalls),
	op("GET", "projects/{project}/regions/{region}/firewallPolicies/getEffectiveFirewalls",
		"compute.networks.getRegionEffectiveFirewalls", regionFirewalls),
	op("GET", "projects/{project}/global/firewallPolicies/{policy}", "compute.firewallPolicies.get", getPolicy),
	op("GET", "projects/{project}/regions/{region}/firewallPolicies/{policy}", "compute.firewallPolicies.get", getPolicy),
	op("GET", "projects/{project}/zones/{zone}/instances/{instance}/getEffectiveFirewalls",
		"compute.instances.getEffectiveFirewalls", instanceFirewalls),
	op("GET", "projects/{project}/aggregated/subnetworks", "compute.subnetworks.list", listSubnetworks),
	op("GET", "projects/{project}/aggregated/forwardingRules", "compute.forwardingRules.list", listForwardingRules),
	op("GET", "projects/{project}/global/forwardingRules", "compute.globalForwardingRules.list", listGlobalForwardingRules),
	op("GET", "projects/{project}/aggregated/targetInstances", "compute.targetInstances.list", listTargetInstances),
	op("GET", "projects/{project}/aggregated/targetPools", "compute.targetPools.list", listTargetPools),
	op("GET", "projects/{project}/aggregated/targetTcpProxies", "compute.targetTcpProxies.list", listTargetTCPProxies),
	op("GET", "projects/{project}/global/targetSslProxies", "compute.targetSslProxies.list", listTargetSSLProxies),
	op("GET", "projects/{project}/aggregated/targetHttpProxies", "compute.targetHttpProxies.list", listTargetHTTPProxies),
	op("GET", "projects/{project}/aggregated/targetHttpsProxies", "compute.targetHttpsProxies.list", listTargetHTTPSProxies),
	op("GET", "projects/{project}/aggregated/urlMaps", "compute.urlMaps.list", listURLMaps),
	op("GET", "projects/{project}/aggregated/backendServices", "compute.backendServices.list", listBackendServices),
	op("GET", "projects/{project}/aggregated/instanceGroups", "compute.instanceGroups.list", listInstanceGroups),
	op("POST", "projects/{project}/zones/{zone}/instanceGroups/{group}/listInstances",
		"compute.instanceGroups.list", listGroupInstances),
	op("POST", "projects/{project}/regions/{region}/instanceGroups/{group}/listInstances",
		"compute.instanceGroups.list", listGroupInstances),
	op("GET", "projects/{project}/aggregated/networkEndpointGroups",
		"compute.networkEndpointGroups.list", listNetworkEndpointGroups),
	op("POST", "projects/{project}/zones/{zone}/networkEndpointGroups/{group}/listNetworkEndpoints",
		"compute.networkEndpointGroups.get", listNetworkEndpoints),
	op("POST", "projects/{project}/regions/{region}/networkEndpointGroups/{group}/listNetworkEndpoints",
		"compute.networkEndpointGroups.get", listNetworkEndpoints),
	op("POST", "projects/{project}/global/networkEndpointGroups/{group}/listNetworkEndpoints",
		"compute.globalNetworkEndpointGroups.get", listNetworkEndpoints),
}

func getProject(c *call) {
	if p, ok := c.project(); ok {
		c.answer(projectMessage(c.world, p))
	}
}

func getXpnHost(c *call) {
	p, ok := c.project()
	if !ok {
		return
	}
	host, ok := c.world.find(p.Host)
	if !ok {
		c.answer(&computepb.Project{Kind: proto.String("compute#project")})
		return
	}
	c.answer(projectMessage(c.world, host))
}

func projectMessage(w *World, p *Project) proto.Message {
	status := "UNSPECIFIED_XPN_PROJECT_STATUS"
	for _, other := range w.Projects {
		if other.Host == p.ID {
			status = "HOST"
		}
	}
	return &computepb.Project{
		Kind: proto.String("compute#project"), Id: proto.Uint64(p.Number), Name: proto.String(p.ID),
		SelfLink: proto.String(linkPrefix + "projects/" + p.ID), XpnProjectStatus: proto.String(status),
	}
}

func listInstances(c *call) {
	p, ok := c.project()
	if !ok {
		return
	}
	c.aggregate(&computepb.InstanceAggregatedList{}, "instances", len(p.Instances),
		func(i int) string { return "zones/" + p.Instances[i].Zone },
		func(i int) proto.Message { return p.instanceMessage(p.Instances[i]) })
}

func (p *Project) instanceMessage(vm Instance) *computepb.Instance {
	link := p.link("zones/" + vm.Zone + "/instances/" + vm.Name)
	m := &computepb.Instance{
		Kind: proto.String("compute#instance"), Id: proto.Uint64(number(link)), Name: proto.String(vm.Name),
		SelfLink: proto.String(link), Zone: proto.String(p.link("zones/" + vm.Zone)), Status: proto.String(vm.Status),
		MachineType: proto.String(p.link("zones/" + vm.Zone + "/machineTypes/e2-small")),
		Tags:        &computepb.Tags{Items: vm.Tags}, Labels: vm.Labels,
	}
	for _, email := range vm.ServiceAccounts {
		m.ServiceAccounts = append(m.ServiceAccounts, &computepb.ServiceAccount{
			Email: proto.String(email), Scopes: []string{"https://www.googleapis.com/auth/cloud-platform"},
		})
	}
	for i, nic := range vm.NetworkInterfaces {
		if nic.Name == "" {
			nic.Name = "nic" + strconv.Itoa(i)
		}
		n := &computepb.NetworkInterface{
			Kind: proto.String("compute#networkInterface"), Name: proto.String(nic.Name),
			Network: proto.String(linkPrefix + p.network(nic.Network)), NetworkIP: str(nic.NetworkIP),
			StackType: str(nic.StackType), Ipv6AccessType: str(nic.IPv6AccessType),
		}
		for _, ac := range nic.AccessConfigs {
			n.AccessConfigs = append(n.AccessConfigs, &computepb.AccessConfig{
				Kind: proto.String("compute#accessConfig"), Name: proto.String("External NAT"), Type: str(ac.Type),
				NatIP: str(ac.NatIP), NetworkTier: proto.String("PREMIUM"), SecurityPolicy: str(p.link(ac.SecurityPolicy)),
			})
		}
		for _, ac := range nic.IPv6AccessConfigs {
			n.Ipv6AccessConfigs = append(n.Ipv6AccessConfigs, &computepb.AccessConfig{
				Kind: proto.String("compute#accessConfig"), Name: proto.String("External IPv6"), Type: str(ac.Type),
				ExternalIpv6: str(ac.ExternalIPv6), ExternalIpv6PrefixLength: proto.Int32(ac.ExternalIPv6PrefixLength),
				NetworkTier: proto.String("PREMIUM"), SecurityPolicy: str(p.link(ac.SecurityPolicy)),
			})
		}
		m.NetworkInterfaces = append(m.NetworkInterfaces, n)
	}
	return m
}

func listNetworks(c *call) {
	p, ok := c.project()
	if !ok {
		return
	}
	c.list(&computepb.NetworkList{}, len(p.Networks), func(i int) proto.Message { return p.networkMessage(p.Networks[i]) })
}

func getNetwork(c *call) {
	if p, n, ok := c.network(); ok {
		c.answer(p.networkMessage(n))
	}
}

// network returns the network that the request names, or answers that there is none.
func (c *call) network() (*Project, Network, bool) {
	p, ok := c.project()
	if !ok {
		return nil, Network{}, false
	}
	for _, n := range p.Networks {
		if n.Name == c.vars["network"] {
			return p, n, true
		}
	}
	c.notFound(fmt.Sprintf("projects/%s/global/networks/%s", p.ID, c.vars["network"]))
	return nil, Network{}, false
}

func (c *call) notFound(resource string) {
	computeError(c.w, http.StatusNotFound, "notFound", "The resource '"+resource+"' was not found")
}

func (p *Project) networkMessage(n Network) proto.Message {
	link := linkPrefix + p.network(n.Name)
	order := n.EnforcementOrder
	if order == "" {
		order = "AFTER_CLASSIC_FIREWALL"
	}
	return &computepb.Network{
		Kind: proto.String("compute#network"), Id: proto.Uint64(number(link)), Name: proto.String(n.Name),
		SelfLink: proto.String(link), AutoCreateSubnetworks: proto.Bool(false),
		NetworkFirewallPolicyEnforcementOrder: proto.String(order),
	}
}

func listFirewalls(c *call) {
	p, ok := c.project()
	if !ok {
		return
	}
	c.list(&computepb.FirewallList{}, len(p.Firewalls), func(i int) proto.Message { return p.firewallMessage(p.Firewalls[i]) })
}

func (p *Project) firewallMessage(f Firewall) *computepb.Firewall {
	link := p.link("global/firewalls/" + f.Name)
	m := &computepb.Firewall{
		Kind: proto.String("compute#firewall"), Id: proto.Uint64(number(link)), Name: proto.String(f.Name),
		SelfLink: proto.String(link), Network: proto.String(linkPrefix + p.network(f.Network)),
		Description: str(f.Description), Direction: proto.String("INGRESS"), Priority: proto.Int32(1000),
		Disabled: proto.Bool(f.Disabled), SourceRanges: f.SourceRanges, DestinationRanges: f.DestinationRanges,
		SourceTags: f.SourceTags, SourceServiceAccounts: f.SourceServiceAccounts, TargetTags: f.TargetTags,
		TargetServiceAccounts: f.TargetServiceAccounts,
		LogConfig:             &computepb.FirewallLogConfig{Enable: proto.Bool(f.LogConfig.Enable), Metadata: str(f.LogConfig.Metadata)},
	}
	if f.Direction != "" {
		m.Direction = proto.String(f.Direction)
	}
	if f.Priority != nil {
		m.Priority = proto.Int32(*f.Priority)
	}
	for _, a := range f.Allowed {
		m.Allowed = append(m.Allowed, &computepb.Allowed{IPProtocol: str(a.IPProtocol), Ports: a.Ports})
	}
	for _, d := range f.Denied {
		m.Denied = append(m.Denied, &computepb.Denied{IPProtocol: str(d.IPProtocol), Ports: d.Ports})
	}
	return m
}

func listRoutes(c *call) {
	p, ok := c.project()
	if !ok {
		return
	}
	c.list(&computepb.RouteList{}, len(p.Routes), func(i int) proto.Message {
		r := p.Routes[i]
		link := p.link("global/routes/" + r.Name)
		m := &computepb.Route{
			Kind: proto.String("compute#route"), Id: proto.Uint64(number(link)), Name: proto.String(r.Name),
			SelfLink: proto.String(link), Network: proto.String(linkPrefix + p.network(r.Network)),
			DestRange: proto.String(r.DestRange), Priority: proto.Uint32(1000), Tags: r.Tags,
			NextHopGateway: str(p.link(r.NextHopGateway)), NextHopIp: str(r.NextHopIP),
			NextHopInstance: str(p.link(r.NextHopInstance)),
		}
		if r.Priority != nil {
			m.Priority = proto.Uint32(*r.Priority)
		}
		return m
	})
}

func listSubnetworks(c *call) {
	p, ok := c.project()
	if !ok {
		return
	}
	c.aggregate(&computepb.SubnetworkAggregatedList{}, "subnetworks", len(p.Subnetworks),
		func(i int) string { return "regions/" + p.Subnetworks[i].Region },
		func(i int) proto.Message {
			n := p.Subnetworks[i]
			link := p.link("regions/" + n.Region + "/subnetworks/" + n.Name)
			return &computepb.Subnetwork{
				Kind: proto.String("compute#subnetwork"), Id: proto.Uint64(number(link)), Name: proto.String(n.Name),
				SelfLink: proto.String(link), Network: proto.String(linkPrefix + p.network(n.Network)),
				Region: proto.String(p.link("regions/" + n.Region)), IpCidrRange: str(n.IPCidrRange), Purpose: str(n.Purpose),
			}
		})
}
