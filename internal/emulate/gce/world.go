// Package gce emulates what is read and written of Google Cloud: Compute Engine v1, whose firewall rules and policies can be
// changed, the address groups of Network Security v1 and the project tree of Resource Manager v3, over HTTP, from a scene
// held in memory.
//
// Every answer of Compute Engine is built as a computepb message, so nothing that Google's own description does not name
// can be served.
package gce

import (
	"errors"
	"fmt"
	"hash/fnv"
	"strings"
	"sync"
)

// World is the scene: what the emulated Google Cloud holds, and the handler that serves it. Its YAML form uses the field
// names of Google's JSON where there are any.
//
// It takes the three APIs under any path prefix: Compute Engine below "…/compute/v1/", Network Security below "…/v1/" and
// Resource Manager below "…/v3/". It is safe for concurrent use; its fields are set before the first request, or between two
// when there are none under way.
type World struct {
	Organization string    `yaml:"organization"` // its number, such as "123456789012"; empty: none
	Folders      []Folder  `yaml:"folders"`
	Projects     []Project `yaml:"projects"`

	PageSize    int      `yaml:"page_size"`   // no page holds more than this; 0: what the caller asks for, at most 500
	Unreachable []string `yaml:"unreachable"` // scopes that no list reaches, such as "zones/us-central1-b"
	NoMasks     bool     `yaml:"no_masks"`    // answer 400 to a request that names the fields it wants
	Settle      int      `yaml:"settle"`      // so many requests later a write is in force, and an error shows in its operation

	mu         sync.Mutex
	throttles  int
	operations []*work
	requests   map[string]*work // by the request's id
	completed  bool
	wrong      error
}

// Folder is a folder of the organization.
type Folder struct {
	ID     string `yaml:"id"`     // "folders/123"
	Parent string `yaml:"parent"` // "organizations/1" or "folders/1"
	Name   string `yaml:"displayName"`
	State  string `yaml:"state"` // empty: ACTIVE
}

// Project is one project with all that is in it.
type Project struct {
	ID              string `yaml:"project"`
	Number          uint64 `yaml:"number"` // 0: made from the ID
	Name            string `yaml:"displayName"`
	Parent          string `yaml:"parent"`           // "folders/123" or "organizations/1"
	State           string `yaml:"state"`            // empty: ACTIVE
	Host            string `yaml:"host"`             // the Shared VPC host project, if it is a service project
	ComputeDisabled bool   `yaml:"compute_disabled"` // the Compute Engine API was never switched on
	FirewallQuota   int    `yaml:"firewall_quota"`   // how many firewall rules it may have; 0: any number

	Networks               []Network              `yaml:"networks"`
	Firewalls              []Firewall             `yaml:"firewalls"`
	Instances              []Instance             `yaml:"instances"`
	HierarchicalPolicies   []Policy               `yaml:"hierarchical_policies"` // in evaluation order, for every network
	SystemRegionalPolicies []Policy               `yaml:"system_regional_policies"`
	NetworkPolicies        []Policy               `yaml:"network_policies"` // without a region: global
	AddressGroups          map[string][]string    `yaml:"address_groups"`   // a name that is absent cannot be read
	ForwardingRules        []ForwardingRule       `yaml:"forwarding_rules"`
	TargetInstances        []TargetInstance       `yaml:"target_instances"`
	TargetPools            []TargetPool           `yaml:"target_pools"`
	TargetProxies          []TargetProxy          `yaml:"target_proxies"`
	URLMaps                []URLMap               `yaml:"url_maps"`
	BackendServices        []BackendService       `yaml:"backend_services"`
	InstanceGroups         []InstanceGroup        `yaml:"instance_groups"`
	NetworkEndpointGroups  []NetworkEndpointGroup `yaml:"network_endpoint_groups"`
	Routes                 []Route                `yaml:"routes"`
	Subnetworks            []Subnetwork           `yaml:"subnetworks"`
}

// Network is a VPC network.
type Network struct {
	Name                 string `yaml:"name"`
	EnforcementOrder     string `yaml:"networkFirewallPolicyEnforcementOrder"` // empty: AFTER_CLASSIC_FIREWALL
	DefaultInternetRoute *bool  `yaml:"defaultInternetRoute"`                  // false: its default routes were deleted
}

// Firewall is a VPC firewall rule.
type Firewall struct {
	Name                  string     `yaml:"name"`
	Network               string     `yaml:"network"`
	Description           string     `yaml:"description"`
	Direction             string     `yaml:"direction"` // empty: INGRESS
	Priority              *int32     `yaml:"priority"`  // absent: 1000
	Disabled              bool       `yaml:"disabled"`
	SourceRanges          []string   `yaml:"sourceRanges"`
	DestinationRanges     []string   `yaml:"destinationRanges"`
	SourceTags            []string   `yaml:"sourceTags"`
	SourceServiceAccounts []string   `yaml:"sourceServiceAccounts"`
	TargetTags            []string   `yaml:"targetTags"`
	TargetServiceAccounts []string   `yaml:"targetServiceAccounts"`
	Allowed               []Protocol `yaml:"allowed"`
	Denied                []Protocol `yaml:"denied"`
	LogConfig             LogConfig  `yaml:"logConfig"`
}

// LogConfig says what is logged of a firewall rule.
type LogConfig struct {
	Enable   bool   `yaml:"enable"`
	Metadata string `yaml:"metadata"`
}

// Protocol is one entry of a firewall rule's allowed or denied list.
type Protocol struct {
	IPProtocol string   `yaml:"IPProtocol"`
	Ports      []string `yaml:"ports"`
}

// Instance is a virtual machine.
type Instance struct {
	Name              string             `yaml:"name"`
	Zone              string             `yaml:"zone"`
	Region            string             `yaml:"region"` // said again by the zone
	Status            string             `yaml:"status"` // empty: RUNNING
	Tags              []string           `yaml:"tags"`
	Labels            map[string]string  `yaml:"labels"`
	ServiceAccounts   []string           `yaml:"serviceAccounts"`
	SecureTags        []string           `yaml:"secureTags"` // its effective resource manager tags, "tagValues/123"
	NetworkInterfaces []NetworkInterface `yaml:"networkInterfaces"`
}

// NetworkInterface connects an instance to a network.
type NetworkInterface struct {
	Name              string         `yaml:"name"`
	Network           string         `yaml:"network"` // a name in the own project, or "projects/P/global/networks/N"
	NetworkIP         string         `yaml:"networkIP"`
	StackType         string         `yaml:"stackType"`
	IPv6AccessType    string         `yaml:"ipv6AccessType"`
	AccessConfigs     []AccessConfig `yaml:"accessConfigs"`
	IPv6AccessConfigs []AccessConfig `yaml:"ipv6AccessConfigs"`
}

// AccessConfig gives an interface its external address.
type AccessConfig struct {
	Type                     string `yaml:"type"`
	NatIP                    string `yaml:"natIP"`
	ExternalIPv6             string `yaml:"externalIpv6"`
	ExternalIPv6PrefixLength int32  `yaml:"externalIpv6PrefixLength"`
	SecurityPolicy           string `yaml:"securityPolicy"`
}

// Policy is a firewall policy with its association.
type Policy struct {
	Name                string       `yaml:"name"`
	ShortName           string       `yaml:"shortName"`
	Network             string       `yaml:"network"`
	Region              string       `yaml:"region"`
	AssociationPriority *int32       `yaml:"associationPriority"` // absent: 1000
	AssociationName     string       `yaml:"associationName"`
	Rules               []PolicyRule `yaml:"rules"`
}

// PolicyRule is a rule of a firewall policy.
type PolicyRule struct {
	Priority              int32       `yaml:"priority"`
	Action                string      `yaml:"action"` // allow, deny, goto_next, apply_security_profile_group
	Direction             string      `yaml:"direction"`
	Disabled              bool        `yaml:"disabled"`
	Description           string      `yaml:"description"`
	RuleName              string      `yaml:"ruleName"`
	EnableLogging         bool        `yaml:"enableLogging"`
	Match                 Match       `yaml:"match"`
	TargetType            string      `yaml:"targetType"`
	TargetResources       []string    `yaml:"targetResources"`
	TargetServiceAccounts []string    `yaml:"targetServiceAccounts"`
	TargetSecureTags      []SecureTag `yaml:"targetSecureTags"`
	SecurityProfileGroup  string      `yaml:"securityProfileGroup"`
}

// Match is what a policy rule matches.
type Match struct {
	Layer4Configs           []Layer4    `yaml:"layer4Configs"`
	SrcIPRanges             []string    `yaml:"srcIpRanges"`
	SrcAddressGroups        []string    `yaml:"srcAddressGroups"`
	SrcFQDNs                []string    `yaml:"srcFqdns"`
	SrcRegionCodes          []string    `yaml:"srcRegionCodes"`
	SrcThreatIntelligences  []string    `yaml:"srcThreatIntelligences"`
	SrcSecureTags           []SecureTag `yaml:"srcSecureTags"`
	SrcNetworkContext       string      `yaml:"srcNetworkContext"`
	SrcNetworkType          string      `yaml:"srcNetworkType"`
	SrcNetworks             []string    `yaml:"srcNetworks"`
	DestIPRanges            []string    `yaml:"destIpRanges"`
	DestAddressGroups       []string    `yaml:"destAddressGroups"`
	DestFQDNs               []string    `yaml:"destFqdns"`
	DestRegionCodes         []string    `yaml:"destRegionCodes"`
	DestThreatIntelligences []string    `yaml:"destThreatIntelligences"`
}

// Layer4 is a protocol with its ports in a policy rule.
type Layer4 struct {
	IPProtocol string   `yaml:"ipProtocol"`
	Ports      []string `yaml:"ports"`
}

// SecureTag names a resource manager tag value.
type SecureTag struct {
	Name  string `yaml:"name"`
	State string `yaml:"state"` // EFFECTIVE or INEFFECTIVE; empty: EFFECTIVE
}

// ForwardingRule is a load balancer's or a protocol forwarding's front. Instead of naming the resources behind it, a scene
// may list BackendInstances: the world then makes the resources that the rule needs to reach them.
type ForwardingRule struct {
	Name                string   `yaml:"name"`
	Region              string   `yaml:"region"` // empty: where the first backend instance is
	Global              bool     `yaml:"global"`
	IPAddress           string   `yaml:"IPAddress"`
	IPProtocol          string   `yaml:"IPProtocol"`
	LoadBalancingScheme string   `yaml:"loadBalancingScheme"`
	Ports               []string `yaml:"ports"`
	PortRange           string   `yaml:"portRange"`
	AllPorts            bool     `yaml:"allPorts"`
	SourceIPRanges      []string `yaml:"sourceIPRanges"`
	Target              string   `yaml:"target"`
	BackendService      string   `yaml:"backendService"`

	BackendInstances []string `yaml:"backendInstances"`
	Proxy            bool     `yaml:"proxy"`
	BackendPort      int32    `yaml:"backendPort"`
	SecurityPolicy   string   `yaml:"securityPolicy"` // goes to the made target instance or pool
}

// TargetInstance is the target of a protocol forwarding.
type TargetInstance struct {
	Name           string `yaml:"name"`
	Zone           string `yaml:"zone"`
	Instance       string `yaml:"instance"`
	Network        string `yaml:"network"`
	SecurityPolicy string `yaml:"securityPolicy"`
}

// TargetPool is the target of a pool based passthrough load balancer.
type TargetPool struct {
	Name           string   `yaml:"name"`
	Region         string   `yaml:"region"`
	Instances      []string `yaml:"instances"`
	BackupPool     string   `yaml:"backupPool"`
	SecurityPolicy string   `yaml:"securityPolicy"`
}

// TargetProxy is a proxy load balancer's target.
type TargetProxy struct {
	Kind    string `yaml:"kind"` // targetTcpProxies, targetSslProxies, targetHttpProxies, targetHttpsProxies
	Name    string `yaml:"name"`
	Region  string `yaml:"region"` // empty: global
	Service string `yaml:"service"`
	URLMap  string `yaml:"urlMap"`
}

// URLMap sends requests to backend services.
type URLMap struct {
	Name           string   `yaml:"name"`
	Region         string   `yaml:"region"` // empty: global
	DefaultService string   `yaml:"defaultService"`
	Services       []string `yaml:"services"` // those of its path matchers
}

// BackendService is a set of backends behind a forwarding rule or a proxy.
type BackendService struct {
	Name                string   `yaml:"name"`
	Region              string   `yaml:"region"` // empty: global
	Protocol            string   `yaml:"protocol"`
	LoadBalancingScheme string   `yaml:"loadBalancingScheme"`
	PortName            string   `yaml:"portName"`
	Network             string   `yaml:"network"`
	SecurityPolicy      string   `yaml:"securityPolicy"`
	EdgeSecurityPolicy  string   `yaml:"edgeSecurityPolicy"`
	Backends            []string `yaml:"backends"` // partial links, "zones/Z/instanceGroups/G"
}

// InstanceGroup is a zonal or regional instance group.
type InstanceGroup struct {
	Name       string           `yaml:"name"`
	Zone       string           `yaml:"zone"`
	Region     string           `yaml:"region"`
	Network    string           `yaml:"network"`
	Instances  []string         `yaml:"instances"`
	NamedPorts map[string]int32 `yaml:"namedPorts"`
}

// NetworkEndpointGroup is a group of addresses behind a backend service.
type NetworkEndpointGroup struct {
	Name        string            `yaml:"name"`
	Zone        string            `yaml:"zone"`
	Region      string            `yaml:"region"` // and neither: global
	Type        string            `yaml:"networkEndpointType"`
	Network     string            `yaml:"network"`
	DefaultPort int32             `yaml:"defaultPort"`
	Endpoints   []NetworkEndpoint `yaml:"endpoints"`
}

// NetworkEndpoint is a member of a network endpoint group.
type NetworkEndpoint struct {
	Instance  string `yaml:"instance"`
	IPAddress string `yaml:"ipAddress"`
	Port      int32  `yaml:"port"`
}

// Route is a static route.
type Route struct {
	Name            string   `yaml:"name"`
	Network         string   `yaml:"network"`
	DestRange       string   `yaml:"destRange"`
	Priority        *uint32  `yaml:"priority"` // absent: 1000
	Tags            []string `yaml:"tags"`
	NextHopGateway  string   `yaml:"nextHopGateway"`
	NextHopIP       string   `yaml:"nextHopIp"`
	NextHopInstance string   `yaml:"nextHopInstance"`
}

// Subnetwork is a regional part of a network.
type Subnetwork struct {
	Name        string `yaml:"name"`
	Region      string `yaml:"region"`
	Network     string `yaml:"network"`
	IPCidrRange string `yaml:"ipCidrRange"`
	Purpose     string `yaml:"purpose"` // PRIVATE, REGIONAL_MANAGED_PROXY, …
}

// complete fills in, once, what the scene leaves to the cloud: numbers, states, default routes, and the resources between a
// forwarding rule and the instances that it names as its backends.
func (w *World) complete() error {
	if !w.completed {
		w.completed, w.wrong = true, w.fill()
	}
	return w.wrong
}

func (w *World) fill() error {
	ids := map[string]bool{}
	for i := range w.Projects {
		p := &w.Projects[i]
		if p.ID == "" {
			return errors.New("emulated google cloud: a project without an ID")
		}
		if ids[p.ID] {
			return fmt.Errorf("emulated google cloud: project %s is there twice", p.ID)
		}
		ids[p.ID] = true
		if p.Number == 0 {
			p.Number = number(p.ID)%900_000_000_000 + 100_000_000_000
		}
		if p.Name == "" {
			p.Name = p.ID
		}
		if p.State == "" {
			p.State = "ACTIVE"
		}
		for j := range p.Instances {
			vm := &p.Instances[j]
			if vm.Zone == "" {
				return fmt.Errorf("emulated google cloud: instance %s of project %s has no zone", vm.Name, p.ID)
			}
			vm.Region = regionOf(vm.Zone)
			if vm.Status == "" {
				vm.Status = "RUNNING"
			}
		}
		for j := range p.ForwardingRules {
			if err := p.join(&p.ForwardingRules[j]); err != nil {
				return err
			}
		}
	}
	for i := range w.Folders {
		if w.Folders[i].State == "" {
			w.Folders[i].State = "ACTIVE"
		}
	}
	w.addDefaultRoutes()
	return nil
}

// addDefaultRoutes gives every network the route that Google makes with it, and the IPv6 one where an external IPv6
// address is in use.
func (w *World) addDefaultRoutes() {
	ipv6 := map[string]bool{}
	for i := range w.Projects {
		p := &w.Projects[i]
		for _, vm := range p.Instances {
			for _, nic := range vm.NetworkInterfaces {
				if len(nic.IPv6AccessConfigs) > 0 {
					ipv6[p.network(nic.Network)] = true
				}
			}
		}
		for _, fr := range p.ForwardingRules {
			if strings.Contains(fr.IPAddress, ":") {
				for _, n := range p.Networks {
					ipv6[p.network(n.Name)] = true
				}
			}
		}
	}
	const gateway = "global/gateways/default-internet-gateway"
	for i := range w.Projects {
		p := &w.Projects[i]
		for _, n := range p.Networks {
			if n.DefaultInternetRoute != nil && !*n.DefaultInternetRoute {
				continue
			}
			suffix := fmt.Sprintf("%016x", number(p.network(n.Name)))
			p.Routes = append(p.Routes, Route{
				Name: "default-route-" + suffix, Network: n.Name, DestRange: "0.0.0.0/0", NextHopGateway: gateway,
			})
			if ipv6[p.network(n.Name)] {
				p.Routes = append(p.Routes, Route{
					Name: "default-route-v6-" + suffix, Network: n.Name, DestRange: "::/0", NextHopGateway: gateway,
				})
			}
		}
	}
}

// join makes what a forwarding rule with BackendInstances needs between itself and them.
func (p *Project) join(fr *ForwardingRule) error {
	if len(fr.BackendInstances) == 0 {
		return nil
	}
	var vms []Instance
	for _, name := range fr.BackendInstances {
		vm, ok := p.instance(name)
		if !ok {
			return fmt.Errorf("emulated google cloud: forwarding rule %s names instance %s, which project %s has not",
				fr.Name, name, p.ID)
		}
		vms = append(vms, vm)
	}
	zone, network := vms[0].Zone, vms[0].NetworkInterfaces[0].Network
	if fr.Region == "" && !fr.Global {
		fr.Region = vms[0].Region
	}
	group := func(ports map[string]int32) string {
		name := fr.Name + "-group"
		p.InstanceGroups = append(p.InstanceGroups, InstanceGroup{
			Name: name, Zone: zone, Network: network, Instances: fr.BackendInstances, NamedPorts: ports,
		})
		return "zones/" + zone + "/instanceGroups/" + name
	}
	switch {
	case fr.Proxy:
		fr.Region, fr.Global = "", true
		service := fr.Name + "-service"
		p.BackendServices = append(p.BackendServices, BackendService{
			Name: service, Protocol: "TCP", LoadBalancingScheme: fr.LoadBalancingScheme, PortName: "backend",
			Backends: []string{group(map[string]int32{"backend": fr.BackendPort})},
		})
		p.TargetProxies = append(p.TargetProxies, TargetProxy{
			Kind: "targetTcpProxies", Name: fr.Name + "-proxy", Service: "global/backendServices/" + service,
		})
		fr.Target = "global/targetTcpProxies/" + fr.Name + "-proxy"
	case strings.HasPrefix(fr.Target, "targetInstances/"):
		name := strings.TrimPrefix(fr.Target, "targetInstances/")
		p.TargetInstances = append(p.TargetInstances, TargetInstance{
			Name: name, Zone: zone, Instance: vms[0].Name, SecurityPolicy: fr.SecurityPolicy,
		})
		fr.Target = "zones/" + zone + "/targetInstances/" + name
	case fr.Target == "" && fr.PortRange != "" || strings.HasPrefix(fr.Target, "targetPools/"):
		name := strings.TrimPrefix(fr.Target, "targetPools/")
		if name == "" {
			name = fr.Name + "-pool"
		}
		p.TargetPools = append(p.TargetPools, TargetPool{
			Name: name, Region: fr.Region, Instances: fr.BackendInstances, SecurityPolicy: fr.SecurityPolicy,
		})
		fr.Target = "regions/" + fr.Region + "/targetPools/" + name
	case fr.Target == "" && fr.BackendService == "":
		protocol := fr.IPProtocol
		if protocol == "L3_DEFAULT" {
			protocol = "UNSPECIFIED"
		}
		service, where := fr.Name+"-service", "global"
		if fr.Region != "" {
			where = "regions/" + fr.Region
		}
		p.BackendServices = append(p.BackendServices, BackendService{
			Name: service, Region: fr.Region, Protocol: protocol, LoadBalancingScheme: fr.LoadBalancingScheme,
			Backends: []string{group(nil)},
		})
		fr.BackendService = where + "/backendServices/" + service
	}
	return nil
}

func (p *Project) instance(name string) (Instance, bool) {
	for _, vm := range p.Instances {
		if vm.Name == name {
			return vm, true
		}
	}
	return Instance{}, false
}

// network returns the path of a network of the scene: "projects/P/global/networks/N".
func (p *Project) network(name string) string {
	if strings.Contains(name, "/") {
		return name
	}
	return "projects/" + p.ID + "/global/networks/" + name
}

// link returns the full link of a partial one, such as "zones/Z/instances/I", in the project.
func (p *Project) link(partial string) string {
	switch {
	case partial == "" || strings.HasPrefix(partial, "https://"):
		return partial
	case strings.HasPrefix(partial, "projects/"):
		return linkPrefix + partial
	}
	return linkPrefix + "projects/" + p.ID + "/" + partial
}

const linkPrefix = "https://www.googleapis.com/compute/v1/"

// number makes a stable number of a name, as Google numbers everything.
func number(name string) uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(name))
	return h.Sum64() >> 1
}

func regionOf(zone string) string {
	if i := strings.LastIndexByte(zone, '-'); i > 0 {
		return zone[:i]
	}
	return zone
}
