package gcp

import (
	"testing"

	"cloud.google.com/go/compute/apiv1/computepb"
	"google.golang.org/protobuf/proto"

	"github.com/cloudaudit/cloudaudit/internal/emulate"
	"github.com/cloudaudit/cloudaudit/internal/emulate/gce"
)

// TestDoubts: what nobody here can know is neither open nor closed.
func TestDoubts(t *testing.T) {
	_, layer4 := both()
	world := []string{"0.0.0.0/0"}
	policy := func(r gce.PolicyRule) []gce.Policy {
		r.Priority, r.Match.Layer4Configs = 1, layer4
		return []gce.Policy{{Name: "np", Network: "net", Rules: []gce.PolicyRule{r}}}
	}
	for name, c := range map[string]struct {
		change func(*gce.Project)
		want   string
	}{
		"an inspection ends the evaluation: no rule after it admits for certain": {func(p *gce.Project) {
			p.HierarchicalPolicies = policy(gce.PolicyRule{
				Action: "apply_security_profile_group", SecurityProfileGroup: "g", Match: gce.Match{SrcIPRanges: world},
			})
		}, "v4.tcp unknown/world v4.udp unknown/world"},
		"nor does one after an action that is not known": {func(p *gce.Project) {
			p.HierarchicalPolicies = policy(gce.PolicyRule{Action: "apply_magic", Match: gce.Match{SrcIPRanges: world}})
		}, "v4.tcp unknown/world v4.udp unknown/world"},
		"an inspection of one half": {func(p *gce.Project) {
			p.HierarchicalPolicies = policy(gce.PolicyRule{Action: "apply_security_profile_group", Match: gce.Match{SrcIPRanges: []string{"0.0.0.0/1"}}})
		}, "v4.tcp reachable/wide v4.udp reachable/wide"},
		"a network context that is not known": {func(p *gce.Project) {
			p.HierarchicalPolicies = policy(gce.PolicyRule{Action: "deny", Match: gce.Match{SrcIPRanges: world, SrcNetworkContext: "MOON"}})
		}, "v4.tcp unknown/world v4.udp unknown/world"},
		"a target type that is not known": {func(p *gce.Project) {
			p.HierarchicalPolicies = policy(gce.PolicyRule{Action: "deny", TargetType: "MOONS", Match: gce.Match{SrcIPRanges: world}})
		}, "v4.tcp unknown/world v4.udp unknown/world"},
		"the address before translation as destination": {func(p *gce.Project) {
			p.Firewalls[0].DestinationRanges = []string{external1(p)}
		}, "v4.tcp unknown/world v4.udp unknown/world"},
		"the address behind translation as destination": {func(p *gce.Project) {
			p.Firewalls[0].DestinationRanges = []string{p.Instances[0].NetworkInterfaces[0].NetworkIP}
		}, "v4.tcp reachable/world v4.udp reachable/world"},
		"a destination that only Google knows": {func(p *gce.Project) {
			p.HierarchicalPolicies = policy(gce.PolicyRule{Action: "deny", Match: gce.Match{SrcIPRanges: world, DestFQDNs: []string{"example.com"}}})
		}, "v4.tcp unknown/world v4.udp unknown/world"},
		"a protocol that is not known": {func(p *gce.Project) {
			p.Firewalls[0].Allowed = []gce.Protocol{{IPProtocol: "moonshine"}}
		}, "v4.tcp unknown/world v4.udp unknown/world"},
		"half of the replies go to an appliance": {func(p *gce.Project) {
			p.Routes = []gce.Route{{Name: "half", Network: "net", DestRange: "0.0.0.0/1", NextHopIP: "10.0.0.9"}}
		}, "v4.tcp reachable/wide v4.udp reachable/wide"},
		"all replies go to an appliance": {func(p *gce.Project) {
			first := uint32(1)
			p.Routes = []gce.Route{{Name: "all", Network: "net", DestRange: "0.0.0.0/0", Priority: &first, NextHopIP: "10.0.0.9"}}
		}, "v4.tcp unknown/world v4.udp unknown/world"},
		"those of other instances do": {func(p *gce.Project) {
			first := uint32(1)
			p.Routes = []gce.Route{{Name: "all", Network: "net", DestRange: "0.0.0.0/0", Priority: &first, NextHopIP: "10.0.0.9", Tags: []string{"other"}}}
		}, "v4.tcp reachable/world v4.udp reachable/world"},
	} {
		t.Run(name, func(t *testing.T) {
			w := simple()
			c.change(&w.Projects[0])
			s := readWorld(t, w)
			expect(t, s, "cache", c.want)
			for _, l := range s.Lists {
				for _, r := range l.Rules {
					if !r.Maybe.IsEmpty() && (r.Hint == "" || r.Text == "") {
						t.Errorf("rule %v is in doubt without a hint: %+v", r.Ref, r)
					}
				}
			}
		})
	}
}

// external1 returns the first external address of a project.
func external1(p *gce.Project) string {
	return p.Instances[0].NetworkInterfaces[0].AccessConfigs[0].NatIP
}

// TestContextBehindProxy: whether connections of Google's own proxies count as the internet is not documented.
func TestContextBehindProxy(t *testing.T) {
	for _, context := range []string{"INTERNET", "NON_INTERNET"} {
		w := balancers()
		p := &w.Projects[0]
		p.Firewalls = nil
		_, layer4 := both()
		p.NetworkPolicies = []gce.Policy{{Name: "np", Network: "net", Rules: []gce.PolicyRule{{
			Priority: 1, Action: "allow",
			Match: gce.Match{SrcIPRanges: []string{"35.191.0.0/16"}, SrcNetworkContext: context, Layer4Configs: layer4},
		}}}}
		s := readWorld(t, w)
		expect(t, s, "vm-tcp-proxy", "v4.tcp unknown/world v4.udp blocked")
	}
}

// TestForwardingRulesUnread: without the forwarding rules nobody can say that an instance without an address has no way in.
func TestForwardingRulesUnread(t *testing.T) {
	w := simple()
	w.Projects[0].Instances[0].NetworkInterfaces[0].AccessConfigs = nil
	s := read(t, open(t, emulate.WithFaults(w, refusing("compute.forwardingRules.list")), Config{}), "p")
	expect(t, s, "cache", "v4.tcp unknown/world v4.udp unknown/world")
	w = simple()
	w.Projects[0].Instances[0].NetworkInterfaces[0].AccessConfigs = nil
	expect(t, readWorld(t, w), "cache", "v4.tcp blocked v4.udp blocked")
}

// TestInternalForwardingRules: what only leads on inside a network is no way in.
func TestInternalForwardingRules(t *testing.T) {
	for _, e := range readWorld(t, balancers()).Endpoints {
		if e.Via.ID == "inside" || e.Public && e.Addr.IsPrivate() {
			t.Errorf("endpoint %v at %v via %v", e.Ref, e.Addr, e.Via)
		}
	}
}

// TestWarnings: every scope without results carries a warning, and only others mean that something is missing.
func TestWarnings(t *testing.T) {
	for code, want := range map[string]bool{"NO_RESULTS_ON_PAGE": false, "UNREACHABLE": true, "PARTIAL_SUCCESS": true, "": true} {
		if got := matters(&computepb.Warning{Code: proto.String(code)}); got != want {
			t.Errorf("a warning %q matters: %v", code, got)
		}
	}
	if matters(nil) {
		t.Error("no warning matters")
	}
}

// TestSameNetwork: an answer may name a network's project by its number.
func TestSameNetwork(t *testing.T) {
	const network = "projects/p/global/networks/net"
	for link, want := range map[string]bool{
		network: true, "projects/123/global/networks/net": true, "projects/123/global/networks/other": false,
		"projects/q/global/networks/net": false, "": false,
	} {
		if got := sameNetwork(link, network); got != want {
			t.Errorf("%q is the network: %v", link, got)
		}
	}
}
