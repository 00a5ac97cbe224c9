package gcp

import (
	"fmt"
	"net/http"
	"slices"
	"testing"

	"github.com/cloudaudit/cloudaudit/internal/emulate"
	"github.com/cloudaudit/cloudaudit/internal/emulate/gce"
	"github.com/cloudaudit/cloudaudit/providers"
	"github.com/cloudaudit/cloudaudit/providers/providertest"
	"github.com/cloudaudit/cloudaudit/remedy"
)

func everyone() []string { return []string{"0.0.0.0/0"} }

func priority(n int32) *int32 { return &n }

// fixScene is a network with rules of every kind that a fix changes, next to rules that have to stay as they are: for all
// protocols at priority 0, about nothing but the port, for tags and for a service account, of IPv6, a partner's of the same
// priority, a deny, and ones that do not show.
func fixScene() *gce.World {
	vpc, layer4 := both()
	dual := machine("dual", "us-central1-b", "net", "10.1.0.5", "34.68.1.5")
	dual.Tags = []string{"edge"}
	dual.NetworkInterfaces[0].StackType, dual.NetworkInterfaces[0].IPv6AccessType = "IPV4_IPV6", "EXTERNAL"
	dual.NetworkInterfaces[0].IPv6AccessConfigs = []gce.AccessConfig{{Type: "DIRECT_IPV6", ExternalIPv6: "2600:1900:4000:21::", ExternalIPv6PrefixLength: 96}}
	cache := machine("cache", "us-central1-a", "net", "10.1.0.2", "34.68.1.2")
	cache.Tags, cache.ServiceAccounts = []string{"cache"}, []string{"cache@p.iam.gserviceaccount.com"}
	web := machine("web", "us-central1-a", "net", "10.1.0.3", "34.68.1.3")
	web.Tags = []string{"web"}
	return &gce.World{Projects: []gce.Project{{
		ID: "p", Networks: []gce.Network{{Name: "net"}, {Name: "other", EnforcementOrder: "BEFORE_CLASSIC_FIREWALL"}},
		Firewalls: []gce.Firewall{
			{Name: "allow-all", Network: "net", Priority: priority(0), SourceRanges: everyone(), TargetTags: []string{"web"}, Allowed: []gce.Protocol{{IPProtocol: "all"}}},
			{Name: "allow-port", Network: "net", Description: "a, b", SourceRanges: []string{"0.0.0.0/0"}, SourceTags: []string{"web"}, TargetTags: []string{"cache"}, Allowed: vpc},
			{Name: "allow-range", Network: "net", SourceRanges: everyone(), TargetServiceAccounts: []string{"cache@p.iam.gserviceaccount.com"}, Allowed: []gce.Protocol{{IPProtocol: "udp", Ports: []string{"53", "11000-12000"}}, {IPProtocol: "icmp"}}},
			{Name: "allow-v6", Network: "net", SourceRanges: []string{"::/0"}, TargetTags: []string{"edge"}, Allowed: []gce.Protocol{{IPProtocol: "tcp"}}},
			{Name: "allow-v4", Network: "net", SourceRanges: []string{"0.0.0.0/0"}, TargetTags: []string{"edge"}, Allowed: []gce.Protocol{{IPProtocol: "tcp"}}},
			{Name: "partner", Network: "net", SourceRanges: []string{"5.5.5.0/24"}, TargetTags: []string{"edge"}, Allowed: vpc},
			{Name: "inside", Network: "net", SourceRanges: []string{"10.0.0.0/8"}, Allowed: []gce.Protocol{{IPProtocol: "all"}}},
			{Name: "deny-smtp", Network: "net", Priority: priority(10), SourceRanges: everyone(), Denied: []gce.Protocol{{IPProtocol: "tcp", Ports: []string{"25"}}}},
			{Name: "off", Network: "net", Disabled: true, SourceRanges: everyone(), Allowed: vpc},
			{Name: "out", Network: "net", Direction: "EGRESS", DestinationRanges: everyone(), Allowed: vpc},
		},
		NetworkPolicies: []gce.Policy{
			{Name: "np", Network: "other", Rules: []gce.PolicyRule{
				{Priority: 98, Action: "goto_next", Direction: "EGRESS", Match: gce.Match{DestIPRanges: everyone(), Layer4Configs: []gce.Layer4{{IPProtocol: "all"}}}},
				{Priority: 100, Action: "allow", RuleName: "wide", Match: gce.Match{SrcIPRanges: everyone(), Layer4Configs: []gce.Layer4{{IPProtocol: "all"}}}},
			}},
			{Name: "rp", Network: "other", Region: "us-central1", Rules: []gce.PolicyRule{
				{Priority: 5, Action: "allow", Description: "only the port", Match: gce.Match{SrcIPRanges: everyone(), Layer4Configs: layer4}},
			}},
		},
		Instances: []gce.Instance{cache, web, dual, machine("behind", "us-central1-a", "other", "10.2.0.2", "34.68.2.2")},
	}}}
}

// meddling returns what changes every list that a fix of w changes, as someone else would.
func meddling(w *gce.World) func() {
	return func() {
		p := &w.Projects[0]
		for _, n := range p.Networks {
			p.Firewalls = append(p.Firewalls, gce.Firewall{
				Name: "meddler-" + n.Name, Network: n.Name, SourceRanges: []string{"1.1.1.1/32"}, Allowed: []gce.Protocol{{IPProtocol: "tcp", Ports: []string{"8443"}}},
			})
		}
		for i := range p.NetworkPolicies {
			p.NetworkPolicies[i].Rules = append(p.NetworkPolicies[i].Rules, gce.PolicyRule{
				Priority: 9000, Action: "allow", Direction: "INGRESS", Match: gce.Match{SrcIPRanges: []string{"1.1.1.1/32"}, Layer4Configs: []gce.Layer4{{IPProtocol: "tcp", Ports: []string{"8443"}}}},
			})
		}
	}
}

func writes(op string) bool {
	return slices.Contains([]string{"compute.firewalls.create", "compute.firewalls.update", "compute.firewalls.delete", "compute.firewallPolicies.update"}, op)
}

func TestFixerConformance(t *testing.T) {
	for name, change := range map[string]func(*gce.World){
		"everything":             func(*gce.World) {},
		"operations take a time": func(w *gce.World) { w.Settle = 3 },
		"49 of 50 rules": func(w *gce.World) {
			p := &w.Projects[0]
			p.Firewalls = p.Firewalls[:2] // one to deny, one to narrow
			p.FirewallQuota = 50
			for i := len(p.Firewalls); i < 49; i++ {
				p.Firewalls = append(p.Firewalls, gce.Firewall{
					Name: fmt.Sprintf("f-%d", i), Network: "net", SourceRanges: []string{"1.1.1.1/32"}, Allowed: []gce.Protocol{{IPProtocol: "tcp", Ports: []string{"443"}}},
				})
			}
		},
		"a priority that a rule has that does not show": func(w *gce.World) {
			p := &w.Projects[0]
			p.NetworkPolicies[0].Rules[0].Priority = 99
		},
	} {
		t.Run(name, func(t *testing.T) {
			providertest.RunFixer(t, providertest.FixerCloud{
				Open: func(t *testing.T, match func(string, *http.Request) emulate.Fault) (providers.Fixer, *emulate.Faults, func()) {
					w := fixScene()
					change(w)
					faults := emulate.WithFaults(w, match)
					return open(t, faults, Config{Projects: []string{"p"}}), faults, meddling(w)
				},
				Options: remedy.Options{Ports: []uint16{11211}}, Writes: writes,
			})
		})
	}
}
