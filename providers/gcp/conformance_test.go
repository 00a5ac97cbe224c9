package gcp

import (
	"net/http"
	"strings"
	"testing"

	"github.com/cloudaudit/cloudaudit/cloud"
	"github.com/cloudaudit/cloudaudit/internal/emulate"
	"github.com/cloudaudit/cloudaudit/internal/emulate/gce"
	"github.com/cloudaudit/cloudaudit/providers"
	"github.com/cloudaudit/cloudaudit/providers/providertest"
)

// TestConformance holds the provider to the laws of providers.Provider, on the demonstration's organization and on a scene
// with every other thing that is read.
func TestConformance(t *testing.T) {
	for name, scene := range map[string]func() (*gce.World, Config){
		"demo": func() (*gce.World, Config) {
			return gce.Demo(), Config{Projects: []string{"shop-network", "shop-prod", "data-lab"}}
		},
		"organization": func() (*gce.World, Config) {
			w := gce.Demo()
			return w, Config{Organizations: []string{w.Organization}}
		},
		"balancers": func() (*gce.World, Config) { return balancers(), Config{Projects: []string{"p"}} },
	} {
		t.Run(name, func(t *testing.T) {
			providertest.Run(t, providertest.Cloud{
				Open: func(t *testing.T, match func(string, *http.Request) emulate.Fault, smallPages bool) (providers.Provider, *emulate.Faults) {
					w, config := scene()
					if smallPages {
						w.PageSize = 1
					}
					faults := emulate.WithFaults(w, match)
					return open(t, faults, config), faults
				},
				Question:    cloud.Question{Ports: []uint16{11211}},
				ListsScopes: func(operation string) bool { return strings.HasPrefix(operation, "resourcemanager.") },
			})
		})
	}
}

// balancers is a project with every kind of way in, tags and an unused network.
func balancers() *gce.World {
	private := func(network, internal string) []gce.NetworkInterface {
		return []gce.NetworkInterface{{Name: "nic0", Network: network, NetworkIP: internal}}
	}
	open := []gce.Protocol{{IPProtocol: "tcp", Ports: []string{"11211"}}, {IPProtocol: "udp", Ports: []string{"11211"}}}
	return &gce.World{Projects: []gce.Project{{
		ID:       "p",
		Networks: []gce.Network{{Name: "net"}, {Name: "unused"}},
		Firewalls: []gce.Firewall{
			{Name: "open", Network: "net", SourceRanges: []string{"0.0.0.0/0"}, TargetTags: []string{"open"}, Allowed: open},
			{Name: "open-unused", Network: "unused", SourceRanges: []string{"0.0.0.0/0"}, Allowed: open},
			{Name: "from-google", Network: "net", SourceRanges: []string{"35.191.0.0/16", "130.211.0.0/22"}, TargetTags: []string{"web"}, Allowed: open},
			{Name: "from-proxies", Network: "net", SourceRanges: []string{"10.129.0.0/23"}, TargetTags: []string{"web"}, Allowed: open},
		},
		NetworkPolicies: []gce.Policy{{Name: "np", Network: "net", Rules: []gce.PolicyRule{
			{
				Priority: 10, Action: "allow", TargetSecureTags: []gce.SecureTag{{Name: "tagValues/1"}},
				Match: gce.Match{SrcAddressGroups: []string{"everyone"}, Layer4Configs: []gce.Layer4{{IPProtocol: "udp", Ports: []string{"11211"}}}},
			},
		}}, {Name: "tied", Network: "net", AssociationName: "a", Rules: []gce.PolicyRule{
			{
				Priority: 10, Action: "deny", TargetServiceAccounts: []string{"nobody@p.iam.gserviceaccount.com"},
				Match: gce.Match{SrcIPRanges: []string{"0.0.0.0/0"}, Layer4Configs: []gce.Layer4{{IPProtocol: "all"}}},
			},
		}}},
		AddressGroups: map[string][]string{"everyone": {"0.0.0.0/1", "128.0.0.0/1"}},
		Instances: []gce.Instance{
			{Name: "vm-instance", Zone: "us-central1-a", Tags: []string{"open"}, NetworkInterfaces: private("net", "10.1.0.2")},
			{Name: "vm-pool", Zone: "us-central1-a", Tags: []string{"open"}, NetworkInterfaces: private("net", "10.1.0.3")},
			{Name: "vm-backup", Zone: "us-central1-a", Tags: []string{"open"}, NetworkInterfaces: private("net", "10.1.0.4")},
			{Name: "vm-tcp-proxy", Zone: "us-central1-a", Tags: []string{"web"}, NetworkInterfaces: private("net", "10.1.0.5")},
			{Name: "vm-ssl-proxy", Zone: "us-central1-a", Tags: []string{"web"}, NetworkInterfaces: private("net", "10.1.0.6")},
			{Name: "vm-http", Zone: "us-central1-a", Tags: []string{"web"}, NetworkInterfaces: private("net", "10.1.0.7")},
			{Name: "vm-https", Zone: "us-central1-a", Tags: []string{"web"}, NetworkInterfaces: private("net", "10.1.0.8")},
			{Name: "vm-tagged", Zone: "us-central1-a", SecureTags: []string{"tagValues/1"}, NetworkInterfaces: []gce.NetworkInterface{{
				Network: "net", NetworkIP: "10.1.0.9", AccessConfigs: []gce.AccessConfig{{Type: "ONE_TO_ONE_NAT", NatIP: "34.68.1.9"}},
			}}},
			{Name: "vm-untagged", Zone: "us-central1-b", NetworkInterfaces: []gce.NetworkInterface{{
				Network: "net", NetworkIP: "10.1.0.10", AccessConfigs: []gce.AccessConfig{{Type: "ONE_TO_ONE_NAT", NatIP: "34.68.1.10"}},
			}}},
			{Name: "vm-regional-proxy", Zone: "us-central1-a", Tags: []string{"web"}, NetworkInterfaces: private("net", "10.1.0.11")},
			{Name: "vm-regional-group", Zone: "us-central1-a", Tags: []string{"open"}, NetworkInterfaces: private("net", "10.1.0.12")},
		},
		ForwardingRules: []gce.ForwardingRule{
			{
				Name: "to-instance", IPAddress: "34.9.9.1", IPProtocol: "UDP", PortRange: "11000-12000", LoadBalancingScheme: "EXTERNAL",
				BackendInstances: []string{"vm-instance"}, Target: "targetInstances/ti",
			},
			{
				Name: "to-pool", Region: "us-central1", IPAddress: "34.9.9.2", IPProtocol: "TCP", PortRange: "1-65535",
				LoadBalancingScheme: "EXTERNAL", Target: "regions/us-central1/targetPools/main",
			},
			{
				Name: "to-tcp-proxy", IPAddress: "34.9.9.3", IPProtocol: "TCP", PortRange: "443-443", LoadBalancingScheme: "EXTERNAL",
				BackendInstances: []string{"vm-tcp-proxy"}, Proxy: true, BackendPort: 11211,
			},
			{
				Name: "to-ssl-proxy", Global: true, IPAddress: "34.9.9.4", IPProtocol: "TCP", PortRange: "443-443",
				LoadBalancingScheme: "EXTERNAL", Target: "global/targetSslProxies/ssl",
			},
			{
				Name: "to-http", Global: true, IPAddress: "34.9.9.5", IPProtocol: "TCP", PortRange: "80-80",
				LoadBalancingScheme: "EXTERNAL_MANAGED", Target: "global/targetHttpProxies/http",
			},
			{
				Name: "to-https", Global: true, IPAddress: "34.9.9.5", IPProtocol: "TCP", PortRange: "443-443",
				LoadBalancingScheme: "EXTERNAL_MANAGED", Target: "global/targetHttpsProxies/https",
			},
			{
				Name: "to-regional-proxy", Region: "us-central1", IPAddress: "34.9.9.6", IPProtocol: "TCP", PortRange: "8080-8080",
				LoadBalancingScheme: "EXTERNAL_MANAGED", Target: "regions/us-central1/targetTcpProxies/regional",
			},
			{
				Name: "to-group", Region: "us-central1", IPAddress: "34.9.9.7", IPProtocol: "L3_DEFAULT", AllPorts: true,
				LoadBalancingScheme: "EXTERNAL", BackendService: "regions/us-central1/backendServices/l3",
			},
			{Name: "inside", Region: "us-central1", IPAddress: "10.1.0.99", IPProtocol: "TCP", AllPorts: true, LoadBalancingScheme: "INTERNAL", BackendService: "regions/us-central1/backendServices/l3"},
		},
		TargetPools: []gce.TargetPool{
			{Name: "main", Region: "us-central1", Instances: []string{"vm-pool"}, BackupPool: "regions/us-central1/targetPools/backup"},
			{Name: "backup", Region: "us-central1", Instances: []string{"vm-backup"}},
		},
		TargetProxies: []gce.TargetProxy{
			{Kind: "targetSslProxies", Name: "ssl", Service: "global/backendServices/ssl"},
			{Kind: "targetHttpProxies", Name: "http", URLMap: "global/urlMaps/web"},
			{Kind: "targetHttpsProxies", Name: "https", URLMap: "global/urlMaps/web"},
			{Kind: "targetTcpProxies", Name: "regional", Region: "us-central1", Service: "regions/us-central1/backendServices/regional"},
		},
		URLMaps: []gce.URLMap{{Name: "web", DefaultService: "global/backendServices/web", Services: []string{"global/backendServices/api"}}},
		BackendServices: []gce.BackendService{
			{Name: "ssl", Protocol: "SSL", LoadBalancingScheme: "EXTERNAL", PortName: "cache", Backends: []string{"zones/us-central1-a/instanceGroups/ssl"}},
			{Name: "web", Protocol: "HTTP", LoadBalancingScheme: "EXTERNAL_MANAGED", PortName: "cache", Backends: []string{"zones/us-central1-a/instanceGroups/http"}},
			{Name: "api", Protocol: "HTTP", LoadBalancingScheme: "EXTERNAL_MANAGED", Backends: []string{"zones/us-central1-a/networkEndpointGroups/https"}},
			{Name: "regional", Region: "us-central1", Protocol: "TCP", LoadBalancingScheme: "EXTERNAL_MANAGED", PortName: "cache", Backends: []string{"zones/us-central1-a/instanceGroups/regional-proxy"}},
			{Name: "l3", Region: "us-central1", Protocol: "UNSPECIFIED", LoadBalancingScheme: "EXTERNAL", Backends: []string{"regions/us-central1/instanceGroups/group"}},
		},
		InstanceGroups: []gce.InstanceGroup{
			{Name: "ssl", Zone: "us-central1-a", Network: "net", Instances: []string{"vm-ssl-proxy"}, NamedPorts: map[string]int32{"cache": 11211, "web": 80}},
			{Name: "http", Zone: "us-central1-a", Network: "net", Instances: []string{"vm-http"}, NamedPorts: map[string]int32{"cache": 11211}},
			{Name: "regional-proxy", Zone: "us-central1-a", Network: "net", Instances: []string{"vm-regional-proxy"}, NamedPorts: map[string]int32{"cache": 11211}},
			{Name: "group", Region: "us-central1", Network: "net", Instances: []string{"vm-regional-group"}},
		},
		NetworkEndpointGroups: []gce.NetworkEndpointGroup{{
			Name: "https", Zone: "us-central1-a", Type: "GCE_VM_IP_PORT", Network: "net", DefaultPort: 11211,
			Endpoints: []gce.NetworkEndpoint{{Instance: "vm-https", IPAddress: "10.1.0.8"}},
		}},
		Subnetworks: []gce.Subnetwork{
			{Name: "proxies", Region: "us-central1", Network: "net", IPCidrRange: "10.129.0.0/23", Purpose: "REGIONAL_MANAGED_PROXY"},
			{Name: "vms", Region: "us-central1", Network: "net", IPCidrRange: "10.1.0.0/24", Purpose: "PRIVATE"},
		},
	}}}
}
