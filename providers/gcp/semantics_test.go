package gcp

import (
	"testing"

	"github.com/cloudaudit/cloudaudit/internal/emulate/gce"
)

// TestSemantics holds what the vectors leave out of https://cloud.google.com/firewall/docs/firewall-policies-rule-eval-order
// and of the fields of rules.
func TestSemantics(t *testing.T) {
	ports, layer4 := both()
	world := []string{"0.0.0.0/0"}
	number := func(n int32) *int32 { return &n }
	rule := func(priority int32, action string, m gce.Match) gce.PolicyRule {
		if m.Layer4Configs == nil {
			m.Layer4Configs = layer4
		}
		return gce.PolicyRule{Priority: priority, Action: action, Match: m}
	}
	any4 := gce.Match{SrcIPRanges: world}
	policy := func(name string, rules ...gce.PolicyRule) gce.Policy {
		return gce.Policy{Name: name, Network: "net", Rules: rules}
	}
	const (
		reached = "v4.tcp reachable/world v4.udp reachable/world"
		closed  = "v4.tcp blocked v4.udp blocked"
	)
	for name, c := range map[string]struct {
		change func(*gce.Project)
		want   string
	}{
		"as it is": {func(*gce.Project) {}, reached},
		"a folder denies what the organization leaves to it": {func(p *gce.Project) {
			p.HierarchicalPolicies = []gce.Policy{policy("org", rule(1, "goto_next", any4), rule(2, "deny", any4)), policy("folder", rule(1, "deny", any4))}
		}, closed},
		"goto_next skips the rest of its policy only": {func(p *gce.Project) {
			p.HierarchicalPolicies = []gce.Policy{policy("org", rule(1, "goto_next", any4), rule(2, "deny", any4))}
		}, reached},
		"a partial goto_next": {func(p *gce.Project) {
			p.HierarchicalPolicies = []gce.Policy{policy("org", rule(1, "goto_next", gce.Match{SrcIPRanges: []string{"5.5.5.0/24"}}), rule(2, "deny", any4))}
		}, "v4.tcp reachable/narrow v4.udp reachable/narrow"},
		"the organization is asked before the folder": {func(p *gce.Project) {
			p.Firewalls = nil
			p.HierarchicalPolicies = []gce.Policy{policy("org", rule(1, "allow", any4)), policy("folder", rule(1, "deny", any4))}
		}, reached},
		"a system policy of the region": {func(p *gce.Project) {
			p.SystemRegionalPolicies = []gce.Policy{{Name: "system", Region: "us-central1", Network: "net", Rules: []gce.PolicyRule{rule(1, "deny", any4)}}}
		}, closed},
		"a system policy of another region": {func(p *gce.Project) {
			p.SystemRegionalPolicies = []gce.Policy{{Name: "system", Region: "asia-east1", Network: "net", Rules: []gce.PolicyRule{rule(1, "deny", any4)}}}
		}, reached},
		"policies by association priority, not by name": {func(p *gce.Project) {
			p.Firewalls = nil
			first, second := policy("zz", rule(1, "allow", any4)), policy("aa", rule(1, "deny", any4))
			first.AssociationPriority, second.AssociationPriority = number(10), number(20)
			p.NetworkPolicies = []gce.Policy{second, first}
		}, reached},
		"policies of one priority by the name of their association": {func(p *gce.Project) {
			p.Firewalls = nil
			first, second := policy("zz", rule(1, "allow", any4)), policy("aa", rule(1, "deny", any4))
			first.AssociationName, second.AssociationName = "a", "b"
			p.NetworkPolicies = []gce.Policy{second, first}
		}, reached},
		"regional policies of one priority by the name of their association": {func(p *gce.Project) {
			p.Firewalls = nil
			first, second := policy("zz", rule(1, "deny", any4)), policy("aa", rule(1, "allow", any4))
			first.AssociationName, second.AssociationName = "a", "b"
			first.Region, second.Region = "us-central1", "us-central1"
			p.NetworkPolicies = []gce.Policy{second, first}
		}, closed},
		"the global policy before the regional one": {func(p *gce.Project) {
			p.Firewalls = nil
			regional := policy("regional", rule(1, "allow", any4))
			regional.Region = "us-central1"
			p.NetworkPolicies = []gce.Policy{regional, policy("global", rule(1, "deny", any4))}
		}, closed},
		"a VPC deny ends before the policies are asked": {func(p *gce.Project) {
			p.Firewalls = []gce.Firewall{{Name: "d", Network: "net", SourceRanges: world, Denied: []gce.Protocol{{IPProtocol: "all"}}}}
			p.NetworkPolicies = []gce.Policy{policy("np", rule(1, "allow", any4))}
		}, closed},
		"addresses without a prefix": {func(p *gce.Project) {
			p.Firewalls[0].SourceRanges = []string{"8.8.8.8"}
		}, "v4.tcp reachable/narrow v4.udp reachable/narrow"},
		"addresses without a prefix in a policy": {func(p *gce.Project) {
			p.Firewalls = nil
			p.NetworkPolicies = []gce.Policy{policy("np", rule(1, "allow", gce.Match{SrcIPRanges: []string{"8.8.8.8", "8.8.4.4"}}))}
		}, "v4.tcp reachable/narrow v4.udp reachable/narrow"},
		"a protocol by its number": {func(p *gce.Project) {
			p.Firewalls[0].Allowed = []gce.Protocol{{IPProtocol: "17", Ports: []string{"11211"}}}
		}, "v4.tcp blocked v4.udp reachable/world"},
		"all protocols": {func(p *gce.Project) { p.Firewalls[0].Allowed = []gce.Protocol{{IPProtocol: "all"}} }, reached},
		"no ports are all ports": {func(p *gce.Project) {
			p.Firewalls[0].Allowed = []gce.Protocol{{IPProtocol: "tcp"}}
		}, "v4.tcp reachable/world v4.udp blocked"},
		"another target tag": {func(p *gce.Project) { p.Firewalls[0].TargetTags = []string{"web"} }, closed},
		"a deny for half of the sources": {func(p *gce.Project) {
			p.Firewalls = append(p.Firewalls, gce.Firewall{Name: "d", Network: "net", SourceRanges: []string{"0.0.0.0/1"}, Denied: ports})
		}, "v4.tcp reachable/wide v4.udp reachable/wide"},
		"a smaller number wins over a deny": {func(p *gce.Project) {
			p.Firewalls[0].Priority = number(900)
			p.Firewalls = append(p.Firewalls, gce.Firewall{Name: "d", Network: "net", SourceRanges: world, Denied: ports})
		}, reached},
		"from secure tags alone nobody outside": {func(p *gce.Project) {
			p.Firewalls = nil
			p.NetworkPolicies = []gce.Policy{policy("np", rule(1, "allow", gce.Match{SrcSecureTags: []gce.SecureTag{{Name: "tagValues/1"}}}))}
		}, closed},
		"source tags that are gone": {func(p *gce.Project) {
			p.HierarchicalPolicies = []gce.Policy{policy("org", rule(1, "deny", gce.Match{SrcSecureTags: []gce.SecureTag{{Name: "tagValues/1", State: "INEFFECTIVE"}}}))}
		}, reached},
		"source tags that are gone beside an address group": {func(p *gce.Project) {
			p.Firewalls, p.AddressGroups = nil, map[string][]string{"g": {"0.0.0.0/0"}}
			p.NetworkPolicies = []gce.Policy{policy("np", rule(1, "allow", gce.Match{
				SrcAddressGroups: []string{"g"}, SrcSecureTags: []gce.SecureTag{{Name: "tagValues/1", State: "INEFFECTIVE"}},
			}))}
		}, "v4.tcp unknown/world v4.udp unknown/world"},
		"source tags that are gone beside a range": {func(p *gce.Project) {
			p.Firewalls = nil
			p.NetworkPolicies = []gce.Policy{policy("np", rule(1, "allow", gce.Match{
				SrcIPRanges: world, SrcSecureTags: []gce.SecureTag{{Name: "tagValues/1", State: "INEFFECTIVE"}},
			}))}
		}, reached},
		"a deny by region code closes nothing": {func(p *gce.Project) {
			p.HierarchicalPolicies = []gce.Policy{policy("org", rule(1, "deny", gce.Match{SrcRegionCodes: []string{"US"}}))}
		}, reached},
		"a threat list allow is opaque": {func(p *gce.Project) {
			p.Firewalls = nil
			p.NetworkPolicies = []gce.Policy{policy("np", rule(1, "allow", gce.Match{SrcThreatIntelligences: []string{"iplist-tor-exit-nodes"}}))}
		}, "v4.tcp reachable/opaque v4.udp reachable/opaque"},
		"an FQDN allow is opaque": {func(p *gce.Project) {
			p.Firewalls = nil
			p.NetworkPolicies = []gce.Policy{policy("np", rule(1, "allow", gce.Match{SrcFQDNs: []string{"example.com"}}))}
		}, "v4.tcp reachable/opaque v4.udp reachable/opaque"},
		"an address group that cannot be read": {func(p *gce.Project) {
			p.Firewalls = nil
			p.NetworkPolicies = []gce.Policy{policy("np", rule(1, "allow", gce.Match{SrcAddressGroups: []string{"secret"}}))}
		}, "v4.tcp unknown/world v4.udp unknown/world"},
		"a deny from an address group that cannot be read": {func(p *gce.Project) {
			p.HierarchicalPolicies = []gce.Policy{policy("org", rule(1, "deny", gce.Match{SrcAddressGroups: []string{"secret"}}))}
		}, "v4.tcp unknown/world v4.udp unknown/world"},
		"the network context is an AND": {func(p *gce.Project) {
			p.HierarchicalPolicies = []gce.Policy{policy("org", rule(1, "deny", gce.Match{SrcIPRanges: world, SrcNetworkContext: "NON_INTERNET"}))}
		}, reached},
		"a target service account of another": {func(p *gce.Project) {
			r := rule(1, "deny", any4)
			r.TargetServiceAccounts = []string{"other@p.iam.gserviceaccount.com"}
			p.HierarchicalPolicies = []gce.Policy{policy("org", r)}
		}, reached},
		"for internal balancers only": {func(p *gce.Project) {
			r := rule(1, "deny", any4)
			r.TargetType = "INTERNAL_MANAGED_LB"
			p.HierarchicalPolicies = []gce.Policy{policy("org", r)}
		}, reached},
		"outgoing rules do not matter": {func(p *gce.Project) {
			r := rule(1, "deny", any4)
			r.Direction = "EGRESS"
			p.HierarchicalPolicies = []gce.Policy{policy("org", r)}
		}, reached},
		"Cloud Armor in front": {func(p *gce.Project) {
			p.Instances[0].NetworkInterfaces[0].AccessConfigs[0].SecurityPolicy = "projects/p/regions/us-central1/securityPolicies/edge"
		}, "v4.tcp unknown/world v4.udp unknown/world"},
		"Cloud Armor in front of what is closed": {func(p *gce.Project) {
			p.Firewalls = nil
			p.Instances[0].NetworkInterfaces[0].AccessConfigs[0].SecurityPolicy = "projects/p/regions/us-central1/securityPolicies/edge"
		}, closed},
		"a stopped instance": {func(p *gce.Project) { p.Instances[0].Status = "TERMINATED" }, closed},
		"a second interface in a network that is closed": {func(p *gce.Project) {
			p.Networks = append(p.Networks, gce.Network{Name: "closed"})
			p.Instances[0].NetworkInterfaces[0].AccessConfigs = nil
			p.Instances[0].NetworkInterfaces = append(p.Instances[0].NetworkInterfaces, gce.NetworkInterface{
				Name: "nic1", Network: "closed", NetworkIP: "10.9.0.2", AccessConfigs: []gce.AccessConfig{{Type: "ONE_TO_ONE_NAT", NatIP: "34.68.1.9"}},
			})
		}, closed},
	} {
		t.Run(name, func(t *testing.T) {
			w := simple()
			c.change(&w.Projects[0])
			s := read(t, open(t, w, Config{}), "p")
			expect(t, s, "cache", c.want)
		})
	}
}

// TestWaysIn reads every kind of forwarding rule.
func TestWaysIn(t *testing.T) {
	s := readWorld(t, balancers())
	for instance, want := range map[string]string{
		"vm-instance":       "v4.tcp blocked v4.udp reachable/world", // protocol forwarding of UDP
		"vm-pool":           "v4.tcp reachable/world v4.udp blocked",
		"vm-backup":         "v4.tcp reachable/world v4.udp blocked",
		"vm-tcp-proxy":      "v4.tcp reachable/world v4.udp blocked",
		"vm-ssl-proxy":      "v4.tcp reachable/world v4.udp blocked",
		"vm-http":           "v4.tcp reachable/world v4.udp blocked",
		"vm-https":          "v4.tcp reachable/world v4.udp blocked",
		"vm-regional-proxy": "v4.tcp reachable/world v4.udp blocked",
		"vm-regional-group": "v4.tcp reachable/world v4.udp reachable/world", // L3_DEFAULT takes all protocols
		"vm-tagged":         "v4.tcp blocked v4.udp reachable/world",
		"vm-untagged":       "v4.tcp blocked v4.udp blocked",
	} {
		expect(t, s, instance, want)
	}
}
