package gce

// Demo returns a small organization with every kind of finding in it: a Shared VPC host project with the networks of a
// shop, a service project whose instances stand in one of them, and a laboratory that grew by itself.
func Demo() *World {
	number := func(n int32) *int32 { return &n }
	no := false
	memcached := []Protocol{{"tcp", []string{"11211"}}, {"udp", []string{"11211"}}}
	world := []string{"0.0.0.0/0"}
	nat := func(network, internal, external string) []NetworkInterface {
		return []NetworkInterface{{
			Name: "nic0", Network: network, NetworkIP: internal,
			AccessConfigs: []AccessConfig{{Type: "ONE_TO_ONE_NAT", NatIP: external}},
		}}
	}
	private := func(network, internal string) []NetworkInterface {
		return []NetworkInterface{{Name: "nic0", Network: network, NetworkIP: internal}}
	}
	port := []Layer4{{"tcp", []string{"11211"}}, {"udp", []string{"11211"}}}

	host := Project{
		ID: "shop-network", Name: "Shop network", Number: 481516234201, Parent: "folders/715517400100",
		Networks: []Network{{Name: "shop-vpc"}},
		Firewalls: []Firewall{
			{Name: "allow-internal", Network: "shop-vpc", SourceRanges: []string{"10.0.0.0/8"}, Allowed: []Protocol{{IPProtocol: "all"}}},
			{
				Name: "allow-cache-from-anywhere", Network: "shop-vpc", Description: "temporary, see CACHE-412", SourceRanges: world,
				TargetTags: []string{"session-cache"}, Allowed: []Protocol{{"tcp", []string{"11211"}}},
			},
			{
				Name: "allow-high-udp", Network: "shop-vpc", SourceRanges: world, TargetTags: []string{"media"},
				Allowed: []Protocol{{"udp", []string{"53", "11000-12000"}}},
			},
			{Name: "allow-debug", Network: "shop-vpc", SourceRanges: world, TargetTags: []string{"catalog-cache"}, Allowed: memcached},
			{Name: "deny-debug", Network: "shop-vpc", SourceRanges: world, TargetTags: []string{"catalog-cache"}, Denied: memcached},
			{Name: "allow-old-cache", Network: "shop-vpc", Disabled: true, SourceRanges: world, Allowed: memcached},
			{Name: "allow-cache-v6", Network: "shop-vpc", SourceRanges: []string{"::/0"}, TargetTags: []string{"edge"}, Allowed: memcached},
			{
				Name: "allow-partner", Network: "shop-vpc", SourceRanges: []string{"81.2.69.0/24"}, TargetTags: []string{"partner-cache"},
				Allowed: []Protocol{{"tcp", []string{"11211"}}},
			},
			{Name: "allow-retired-pool", Network: "shop-vpc", SourceRanges: world, TargetTags: []string{"retired-pool"}, Allowed: memcached},
			{Name: "allow-balanced-cache", Network: "shop-vpc", SourceRanges: world, TargetTags: []string{"balanced-cache"}, Allowed: memcached},
		},
	}
	shared := "projects/shop-network/global/networks/shop-vpc"
	service := Project{
		ID: "shop-prod", Name: "Shop production", Number: 481516234202, Parent: "folders/715517400100", Host: "shop-network",
		Instances: []Instance{
			{
				Name: "session-cache-1", Zone: "europe-west1-b", Tags: []string{"session-cache"},
				ServiceAccounts: []string{"cache@shop-prod.iam.gserviceaccount.com"}, NetworkInterfaces: nat(shared, "10.10.0.11", "34.76.20.11"),
			},
			{
				Name: "session-cache-2", Zone: "europe-west1-c", Tags: []string{"session-cache"},
				ServiceAccounts: []string{"cache@shop-prod.iam.gserviceaccount.com"}, NetworkInterfaces: nat(shared, "10.10.0.12", "34.76.20.12"),
			},
			{Name: "media-1", Zone: "europe-west1-d", Tags: []string{"media"}, NetworkInterfaces: nat(shared, "10.10.0.21", "34.76.20.21")},
			{Name: "catalog-cache-1", Zone: "us-central1-a", Tags: []string{"catalog-cache"}, NetworkInterfaces: nat(shared, "10.20.0.11", "34.68.30.11")},
			{Name: "edge-1", Zone: "us-central1-b", Tags: []string{"edge"}, NetworkInterfaces: []NetworkInterface{{
				Name: "nic0", Network: shared, NetworkIP: "10.20.0.21", StackType: "IPV4_IPV6", IPv6AccessType: "EXTERNAL",
				IPv6AccessConfigs: []AccessConfig{{Type: "DIRECT_IPV6", ExternalIPv6: "2600:1900:4000:21::", ExternalIPv6PrefixLength: 96}},
			}}},
			{Name: "partner-cache-1", Zone: "us-central1-a", Tags: []string{"partner-cache"}, NetworkInterfaces: nat(shared, "10.20.0.31", "34.68.30.31")},
			{Name: "balanced-cache-1", Zone: "us-central1-c", Tags: []string{"balanced-cache"}, NetworkInterfaces: private(shared, "10.20.0.41")},
			{Name: "balanced-cache-2", Zone: "us-central1-c", Tags: []string{"balanced-cache"}, NetworkInterfaces: private(shared, "10.20.0.42")},
			{Name: "internal-cache-1", Zone: "us-central1-c", Tags: []string{"session-cache"}, NetworkInterfaces: private(shared, "10.20.0.51")},
		},
		ForwardingRules: []ForwardingRule{{
			Name: "cache-balancer", IPAddress: "34.68.99.9", IPProtocol: "TCP", Ports: []string{"11211"}, LoadBalancingScheme: "EXTERNAL",
			BackendInstances: []string{"balanced-cache-1", "balanced-cache-2"},
		}},
	}
	lab := Project{
		ID: "data-lab", Name: "Data laboratory", Number: 481516234203, Parent: "organizations/420042004200",
		Networks: []Network{
			{Name: "default"},
			{Name: "experiments", EnforcementOrder: "BEFORE_CLASSIC_FIREWALL"},
			{Name: "quarantine", DefaultInternetRoute: &no},
			{Name: "staging"},
		},
		Firewalls: []Firewall{
			{
				Name: "default-allow-internal", Network: "default", Priority: number(65534), SourceRanges: []string{"10.128.0.0/9"},
				Allowed: []Protocol{{"tcp", []string{"0-65535"}}, {"udp", []string{"0-65535"}}, {IPProtocol: "icmp"}},
			},
			{Name: "default-allow-ssh", Network: "default", Priority: number(65534), SourceRanges: world, Allowed: []Protocol{{"tcp", []string{"22"}}}},
			{Name: "allow-everything", Network: "quarantine", Priority: number(900), SourceRanges: world, Allowed: []Protocol{{IPProtocol: "all"}}},
			{Name: "allow-staging-cache", Network: "staging", SourceRanges: world, Allowed: memcached},
			{Name: "deny-everything", Network: "experiments", Priority: number(1), SourceRanges: world, Denied: []Protocol{{IPProtocol: "all"}}},
		},
		HierarchicalPolicies: []Policy{{Name: "982451653001", ShortName: "org-baseline", Rules: []PolicyRule{{
			Priority: 100, Action: "allow", Description: "monitoring appliance, to be narrowed",
			Match:                 Match{SrcIPRanges: world, Layer4Configs: []Layer4{{"tcp", []string{"11211"}}}},
			TargetServiceAccounts: []string{"monitored@data-lab.iam.gserviceaccount.com"},
		}}}},
		NetworkPolicies: []Policy{{Name: "experiments-policy", Network: "experiments", Rules: []PolicyRule{
			{
				Priority: 1000, Action: "allow", TargetServiceAccounts: []string{"geo@data-lab.iam.gserviceaccount.com"},
				Match: Match{SrcRegionCodes: []string{"US", "DE"}, Layer4Configs: port},
			},
			{
				Priority: 2000, Action: "allow", TargetServiceAccounts: []string{"batch@data-lab.iam.gserviceaccount.com"},
				Match: Match{SrcAddressGroups: []string{"offices"}, Layer4Configs: port},
			},
			{
				Priority: 3000, Action: "apply_security_profile_group", TargetServiceAccounts: []string{"inspected@data-lab.iam.gserviceaccount.com"},
				SecurityProfileGroup: "organizations/420042004200/locations/global/securityProfileGroups/intrusion-prevention",
				Match:                Match{SrcIPRanges: world, Layer4Configs: port},
			},
		}}},
		AddressGroups: map[string][]string{"offices": {"81.2.70.0/24", "81.2.71.0/24"}},
		Instances: []Instance{
			{Name: "quarantined-vm", Zone: "europe-west1-b", NetworkInterfaces: nat("quarantine", "10.9.0.2", "34.76.10.2")},
			{Name: "notebook-1", Zone: "us-east1-b", NetworkInterfaces: nat("default", "10.142.0.2", "34.74.40.2")},
			{
				Name: "monitored-1", Zone: "us-east1-b", ServiceAccounts: []string{"monitored@data-lab.iam.gserviceaccount.com"},
				NetworkInterfaces: nat("default", "10.142.0.3", "34.74.40.3"),
			},
			{
				Name: "geo-cache-1", Zone: "us-east1-c", ServiceAccounts: []string{"geo@data-lab.iam.gserviceaccount.com"},
				NetworkInterfaces: nat("experiments", "10.40.0.2", "34.74.50.2"),
			},
			{
				Name: "batch-cache-1", Zone: "us-east1-c", ServiceAccounts: []string{"batch@data-lab.iam.gserviceaccount.com"},
				NetworkInterfaces: nat("experiments", "10.40.0.3", "34.74.50.3"),
			},
			{
				Name: "inspected-cache-1", Zone: "us-east1-c", ServiceAccounts: []string{"inspected@data-lab.iam.gserviceaccount.com"},
				NetworkInterfaces: nat("experiments", "10.40.0.4", "34.74.50.4"),
			},
		},
	}
	return &World{
		Organization: "420042004200",
		Folders:      []Folder{{ID: "folders/715517400100", Parent: "organizations/420042004200", Name: "Shop"}},
		Projects:     []Project{host, service, lab},
	}
}
