package gcp

import (
	"maps"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cloudaudit/cloudaudit/internal/emulate"
	"github.com/cloudaudit/cloudaudit/internal/emulate/gce"
)

// TestCallsOfEachKind counts, for each thing that the comment of reader names, the requests that it adds to the five of a
// network in one region.
func TestCallsOfEachKind(t *testing.T) {
	_, layer4 := both()
	rule := gce.PolicyRule{Priority: 1, Action: "allow", Match: gce.Match{SrcIPRanges: []string{"8.8.8.0/24"}, Layer4Configs: layer4}}
	inRegions := func(p *gce.Project) {
		p.Instances = append(p.Instances, machine("b", "europe-west1-b", "net", "10.1.0.3", "34.68.1.3"), machine("c", "asia-east1-b", "net", "10.1.0.4", "34.68.1.4"))
	}
	for name, c := range map[string]struct {
		change func(w *gce.World)
		adds   map[string]int
	}{
		"two more regions": {
			func(w *gce.World) { inRegions(&w.Projects[0]) },
			map[string]int{"compute.networks.getRegionEffectiveFirewalls": 2},
		},
		"a network of another project": {
			func(w *gce.World) {
				w.Projects = append(w.Projects, gce.Project{ID: "host", Networks: []gce.Network{{Name: "shared"}}})
				w.Projects[0].Instances = append(w.Projects[0].Instances,
					machine("b", "us-central1-a", "projects/host/global/networks/shared", "10.1.0.3", "34.68.1.3"),
					machine("c", "us-central1-a", "projects/host/global/networks/shared", "10.1.0.4", "34.68.1.4"))
			},
			map[string]int{"compute.networks.get": 1, "compute.networks.getRegionEffectiveFirewalls": 1, "compute.routes.list": 1},
		},
		"networks that are not in use": {
			func(w *gce.World) {
				w.Projects[0].Networks = append(w.Projects[0].Networks, gce.Network{Name: "a"}, gce.Network{Name: "b"})
			},
			map[string]int{"compute.firewalls.list": 1},
		},
		"an address group in rules of three regions": {
			func(w *gce.World) {
				p := &w.Projects[0]
				inRegions(p)
				grouped := rule
				grouped.Match.SrcAddressGroups = []string{"g"}
				p.AddressGroups = map[string][]string{"g": {"8.8.4.0/24"}}
				p.NetworkPolicies = []gce.Policy{{Name: "np", Network: "net", Rules: []gce.PolicyRule{grouped}}}
			},
			map[string]int{"networksecurity.addressGroups.get": 1, "compute.networks.getRegionEffectiveFirewalls": 2},
		},
		"two policies of one priority in three regions": {
			func(w *gce.World) {
				p := &w.Projects[0]
				inRegions(p)
				for _, name := range []string{"x", "y"} {
					p.NetworkPolicies = append(p.NetworkPolicies, gce.Policy{Name: name, Network: "net", Rules: []gce.PolicyRule{rule}})
				}
			},
			map[string]int{"compute.firewallPolicies.get": 2, "compute.networks.getRegionEffectiveFirewalls": 2},
		},
		"a rule for secure tags": {
			func(w *gce.World) {
				p := &w.Projects[0]
				p.Instances = append(p.Instances, machine("inside", "us-central1-a", "net", "10.1.0.3", ""), machine("b", "us-central1-a", "net", "10.1.0.4", "34.68.1.4"))
				tagged := rule
				tagged.TargetSecureTags = []gce.SecureTag{{Name: "tagValues/1"}}
				p.NetworkPolicies = []gce.Policy{{Name: "np", Network: "net", Rules: []gce.PolicyRule{tagged}}}
			},
			map[string]int{"compute.instances.getEffectiveFirewalls": 2},
		},
		"two balancers of one kind": {
			func(w *gce.World) {
				for _, name := range []string{"one", "two"} {
					w.Projects[0].ForwardingRules = append(w.Projects[0].ForwardingRules, gce.ForwardingRule{
						Name: name, IPAddress: "34.9.9.9", IPProtocol: "TCP", Ports: []string{"11211"}, LoadBalancingScheme: "EXTERNAL",
						BackendInstances: []string{"cache"},
					})
				}
			},
			map[string]int{"compute.backendServices.list": 1, "compute.instanceGroups.list": 2},
		},
	} {
		t.Run(name, func(t *testing.T) {
			want := map[string]int{
				"compute.instances.list": 1, "compute.networks.list": 1, "compute.forwardingRules.list": 1,
				"compute.networks.getRegionEffectiveFirewalls": 1, "compute.routes.list": 1,
			}
			for operation, n := range c.adds {
				want[operation] += n
			}
			w := simple()
			c.change(w)
			faults := emulate.WithFaults(w, nil)
			if s := read(t, open(t, faults, Config{}), "p"); len(s.Gaps) > 0 {
				t.Errorf("gaps: %+v", s.Gaps)
			}
			if diff := cmp.Diff(want, faults.Calls()); diff != "" {
				t.Errorf("calls (-want +got):\n%s", diff)
			}
		})
	}
}

// TestTiesUnread: where the names of associations cannot be read, which of two policies is asked first is in doubt, and the
// gap names the permission once.
func TestTiesUnread(t *testing.T) {
	_, layer4 := both()
	w := simple()
	p := &w.Projects[0]
	p.Firewalls = nil
	for name, action := range map[string]string{"x": "allow", "y": "deny"} {
		p.NetworkPolicies = append(p.NetworkPolicies, gce.Policy{Name: name, Network: "net", Rules: []gce.PolicyRule{{
			Priority: 1, Action: action, Match: gce.Match{SrcIPRanges: []string{"0.0.0.0/0"}, Layer4Configs: layer4},
		}}})
	}
	s := read(t, open(t, emulate.WithFaults(w, refusing("compute.firewallPolicies.get")), Config{}), "p")
	expect(t, s, "cache", "v4.tcp unknown/world v4.udp unknown/world")
	if got := subjects(s); !slices.Equal(got, []string{"compute.firewallPolicies.get"}) {
		t.Errorf("gaps of %v", got)
	}
}

// TestCloudArmorOfOneService: a Cloud Armor policy is in front of the backends of its service, and of no other's.
func TestCloudArmorOfOneService(t *testing.T) {
	for kind, change := range map[string]func(*gce.BackendService){
		"backend": func(b *gce.BackendService) { b.SecurityPolicy = "global/securityPolicies/x" },
		"edge":    func(b *gce.BackendService) { b.EdgeSecurityPolicy = "global/securityPolicies/x" },
	} {
		t.Run(kind, func(t *testing.T) {
			w := balancers()
			services := w.Projects[0].BackendServices
			change(&services[slices.IndexFunc(services, func(b gce.BackendService) bool { return b.Name == "web" })])
			s := readWorld(t, w)
			expect(t, s, "vm-http", "v4.tcp unknown/world")
			expect(t, s, "vm-https", "v4.tcp reachable/world") // of the same URL map, by another service
		})
	}
}

// TestCloudArmorOfTargets: a target instance and a target pool have policies of their own.
func TestCloudArmorOfTargets(t *testing.T) {
	for _, target := range []string{"targetInstances/ti", "targetPools/tp"} {
		w := simple()
		p := &w.Projects[0]
		p.Instances = []gce.Instance{machine("cache", "us-central1-a", "net", "10.1.0.2", "")}
		p.ForwardingRules = []gce.ForwardingRule{{
			Name: "fr", IPAddress: "34.9.9.9", IPProtocol: "TCP", PortRange: "11211", LoadBalancingScheme: "EXTERNAL",
			BackendInstances: []string{"cache"}, Target: target, SecurityPolicy: "regions/us-central1/securityPolicies/x",
		}}
		expect(t, readWorld(t, w), "cache", "v4.tcp unknown/world v4.udp blocked")
	}
}

// TestUnreachableRegion: a forwarding rule of a region that was not reached may lead to any instance there.
func TestUnreachableRegion(t *testing.T) {
	w := simple()
	w.Projects[0].Instances = []gce.Instance{
		machine("cache", "us-central1-a", "net", "10.1.0.2", ""), machine("elsewhere", "asia-east1-a", "net", "10.2.0.2", ""),
	}
	w.Unreachable = []string{"regions/us-central1"}
	s := read(t, open(t, w, Config{}), "p")
	expect(t, s, "cache", "v4.tcp unknown/world v4.udp unknown/world")
	expect(t, s, "elsewhere", "v4.tcp blocked v4.udp blocked")
	if got := slices.Compact(slices.Sorted(slices.Values(subjects(s)))); !slices.Contains(got, "compute.forwardingRules.list") {
		t.Errorf("gaps of %v", got)
	}
}

// TestUnlistedFolders: where projects can be listed and folders cannot, the projects are read, and the parent says what is
// missing.
func TestUnlistedFolders(t *testing.T) {
	w := gce.Demo()
	p := open(t, emulate.WithFaults(w, refusing("resourcemanager.folders.list")), Config{Organizations: []string{w.Organization}})
	scopes, err := p.Scopes(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]bool{}
	for _, s := range scopes {
		names[s.Account] = true
	}
	parent := "organizations/" + w.Organization
	if diff := cmp.Diff([]string{"data-lab", parent}, slices.Sorted(maps.Keys(names))); diff != "" {
		t.Fatalf("scopes (-want +got):\n%s", diff)
	}
	if got := subjects(read(t, p, parent)); !slices.Equal(got, []string{"resourcemanager.folders.list"}) {
		t.Errorf("gaps of %v", got)
	}
}
