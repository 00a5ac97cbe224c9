package do

// DemoToken is the token of full access to the team of Demo. It opens nothing but an emulated cloud.
const DemoToken = "demo-token-digitalocean"

const (
	demoVPC        = "5a4981aa-9653-4bd1-bef5-d6bff52042e4"
	fwCacheOpen    = "bb4b2611-3d72-467b-8602-280330ecd65c"
	fwDenyCache    = "e7b4d3f0-58c1-4a3e-9a86-1f0f4b6f2c11"
	fwHalfOpen     = "0c5a2a77-6a0f-4b6b-9a53-6c2f4f9d1e02"
	fwCatalog      = "9f2cbb0a-2b61-4c36-8d1c-3f55c0c0a703"
	fwLegacy       = "41b74c5d-9bd0-4555-8555-a57c495b8104"
	fwPartner      = "d6f1c0b4-7e22-4f0b-a2f7-5be1b3a4c905"
	fwImages       = "3d80cb72-342b-4aaa-b92e-4e4abb24a906"
	fwForgotten    = "84d87802-df17-4f8f-a691-58e408570c07"
	lbShopFront    = "4de7ac8b-495b-4884-9a69-1050c6793cd6"
	lbLegacyAccess = "56775c3f-04ab-4fb3-a7ed-40ef9bc8eece"
)

// Demo returns a small team in which every verdict occurs: a droplet behind no firewall, rules that admit the world,
// denies across firewalls and of half the internet, load balancers in front, a partner's range, a reserved address, a
// change that is still pending, and a firewall that is attached to nothing.
func Demo() *World {
	world := []string{"0.0.0.0/0", "::/0"}
	ssh := InboundRule{Protocol: "tcp", Ports: "22", Sources: &Peers{Addresses: []string{"82.196.7.24"}}}
	outbound := []OutboundRule{
		{Protocol: "tcp", Ports: "0", Destinations: &Peers{Addresses: world}},
		{Protocol: "udp", Ports: "0", Destinations: &Peers{Addresses: world}},
		{Protocol: "icmp", Ports: "0", Destinations: &Peers{Addresses: world}},
	}
	machine := func(id int, name, private, public string, tags ...string) Droplet {
		d := Droplet{ID: id, Name: name, Region: "fra1", Tags: tags, VPCUUID: demoVPC}
		d.Networks.V4 = []Address{{IPAddress: private, Type: "private"}}
		if public != "" {
			d.Networks.V4 = append(d.Networks.V4, Address{IPAddress: public, Type: "public"})
		}
		return d
	}
	sessions := machine(386734082, "cache-sessions", "10.114.0.3", "159.89.12.21", "sessions")
	sessions.Networks.V6 = []Address{{IPAddress: "2a03:b0c0:3:d0::1a2:1001", Type: "public"}}

	scene := Scene{
		VPCs: []VPC{{ID: demoVPC, Name: "default-fra1", Region: "fra1", IPRange: "10.114.0.0/20"}},
		Droplets: []Droplet{
			machine(386734081, "cache-scratch", "10.114.0.2", "159.89.12.20"),
			sessions,
			machine(386734083, "cache-reports", "10.114.0.4", "159.89.12.22", "sessions", "no-memcached"),
			machine(386734084, "cache-feeds", "10.114.0.5", "159.89.12.23"),
			machine(386734085, "cache-catalog", "10.114.0.6", "", "catalog"),
			machine(386734086, "cache-legacy", "10.114.0.7", "159.89.12.25"),
			machine(386734087, "cache-partner", "10.114.0.8", "159.89.12.26"),
			machine(386734088, "cache-images", "10.114.0.9", ""),
			machine(386734089, "cache-moving", "10.114.0.10", "159.89.12.28"),
		},
		Firewalls: []Firewall{
			{
				ID: fwCacheOpen, Name: "sessions-open", Tags: []string{"sessions"}, OutboundRules: outbound,
				InboundRules: []InboundRule{
					ssh,
					{Protocol: "tcp", Ports: "11211", Sources: &Peers{Addresses: world}},
					{Protocol: "udp", Ports: "11000-12000", Sources: &Peers{Addresses: world}},
				},
			},
			{
				ID: fwDenyCache, Name: "no-memcached", Tags: []string{"no-memcached"}, OutboundRules: outbound,
				InboundRules: []InboundRule{
					{Protocol: "tcp", Ports: "11211", Action: "deny", Sources: &Peers{Addresses: world}},
					{Protocol: "udp", Ports: "11211", Action: "deny", Sources: &Peers{Addresses: world}},
				},
			},
			{
				ID: fwHalfOpen, Name: "feeds-half-open", DropletIDs: []int{386734084}, OutboundRules: outbound,
				InboundRules: []InboundRule{
					{Protocol: "tcp", Ports: "0", Action: "allow", Sources: &Peers{Addresses: world}},
					{Protocol: "tcp", Ports: "11211", Action: "deny", Sources: &Peers{Addresses: []string{"0.0.0.0/1", "::/0"}}},
				},
			},
			{
				ID: fwCatalog, Name: "catalog-behind-balancer", Tags: []string{"catalog"}, OutboundRules: outbound,
				InboundRules: []InboundRule{
					ssh,
					{Protocol: "tcp", Ports: "11211", Sources: &Peers{LoadBalancerUIDs: []string{lbShopFront}}},
				},
			},
			{
				ID: fwLegacy, Name: "legacy-vpc-only", DropletIDs: []int{386734086}, OutboundRules: outbound,
				InboundRules: []InboundRule{
					{Protocol: "tcp", Ports: "11211", Sources: &Peers{Addresses: []string{"10.114.0.0/20"}, Tags: []string{"web"}}},
				},
			},
			{
				ID: fwPartner, Name: "partner-access", DropletIDs: []int{386734087}, OutboundRules: outbound,
				InboundRules: []InboundRule{
					{Protocol: "tcp", Ports: "11211", Sources: &Peers{Addresses: []string{"185.199.108.0/22"}}},
				},
			},
			{
				ID: fwImages, Name: "images-all-udp", DropletIDs: []int{386734088, 386734089}, OutboundRules: outbound,
				InboundRules: []InboundRule{
					ssh,
					{Protocol: "udp", Ports: "0", Sources: &Peers{Addresses: []string{"0.0.0.0/0"}}},
				},
				Status:         "waiting",
				PendingChanges: []PendingChange{{DropletID: 386734089, Status: "waiting"}},
			},
			{
				ID: fwForgotten, Name: "forgotten-migration", OutboundRules: outbound,
				InboundRules: []InboundRule{{Protocol: "tcp", Ports: "1-65535", Sources: &Peers{Addresses: world}}},
			},
		},
		LoadBalancers: []LoadBalancer{
			{
				ID: lbShopFront, Name: "shop-front", IP: "157.245.20.11", Region: "fra1", VPCUUID: demoVPC, Tag: "catalog",
				ForwardingRules: []ForwardingRule{
					{EntryProtocol: "tcp", EntryPort: 443, TargetProtocol: "tcp", TargetPort: 11211},
					{EntryProtocol: "http", EntryPort: 80, TargetProtocol: "http", TargetPort: 8080},
				},
				Firewall: &LBFirewall{Deny: []string{"cidr:45.155.204.0/22"}},
			},
			{
				ID: lbLegacyAccess, Name: "legacy-access", IP: "157.245.20.12", Region: "fra1", VPCUUID: demoVPC,
				DropletIDs: []int{386734086},
				ForwardingRules: []ForwardingRule{
					{EntryProtocol: "tcp", EntryPort: 11211, TargetProtocol: "tcp", TargetPort: 11211},
				},
			},
		},
		ReservedIPs: []ReservedIP{
			{IP: "164.90.240.17", Region: "fra1", Droplet: &DropletRef{ID: 386734088}},
			{IP: "164.90.240.18", Region: "fra1"},
		},
		ReservedIPv6: []ReservedIP{
			{IP: "2a03:b0c0:3:f0::7c:2001", Region: "fra1", Droplet: &DropletRef{ID: 386734085}},
		},
	}
	w := Single(DemoToken, scene)
	w.Teams[0].Name, w.Teams[0].UUID = "Example Shop", "d1f0a2b4c6e8091a2b3c4d5e6f708192a3b4c5d6"
	return w
}
