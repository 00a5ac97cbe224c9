package findings

import (
	"net/netip"
	"testing"

	"github.com/cloudaudit/cloudaudit/cloud"
	"github.com/cloudaudit/cloudaudit/traffic"
)

// TestLatentBehindABalancer: a rule behind a balancer that forwards another port is in front of nothing that is asked about;
// as soon as the balancer leads to the port, what blocks it is no reason to report the rule.
func TestLatentBehindABalancer(t *testing.T) {
	scope := cloud.Scope{Provider: "aws", Account: "1", Region: "r"}
	from, to := traffic.TCP.All()
	list := &cloud.List{Ref: scope.Ref("security-group", "sg-1"), Rules: []cloud.Rule{{
		Ref: scope.Ref("security-group-rule", "sgr-1"), Match: traffic.Of(traffic.Internet(), from, to),
	}}}
	for _, c := range []struct {
		target uint16
		want   []string
	}{
		{8080, []string{OpenRuleLatent}},
		{11211, nil},
	} {
		s := &cloud.Snapshot{Scope: scope, Lists: []*cloud.List{list}, Endpoints: []cloud.Endpoint{{
			Ref: scope.Ref("network-interface", "eni-1"), Family: traffic.V4, Addr: netip.MustParseAddr("54.84.1.2"), Public: true,
			Hops: []cloud.Hop{
				{Forward: []cloud.Forward{{Front: traffic.TCP.Port(443), Target: traffic.TCP.Port(c.target)}}},
				{Layers: []cloud.Layer{{Name: "nacl_in", Kind: cloud.Filter}, {Name: "security_group", Kind: cloud.Firewall, Lists: []*cloud.List{list}}}},
			},
		}}}
		r := Find(cloud.Question{Ports: []uint16{11211}}, []*cloud.Snapshot{s})
		var got []string
		for _, f := range r.Findings {
			got = append(got, f.RuleID)
		}
		if len(got) != len(c.want) || len(got) > 0 && got[0] != c.want[0] {
			t.Errorf("balancer to port %d: findings %v, want %v", c.target, got, c.want)
		}
	}
}

// TestLatentBehindADeny: a rule that a deny in front of it closes opens nothing, and one that is asked first does.
func TestLatentBehindADeny(t *testing.T) {
	scope := cloud.Scope{Provider: "gcp", Account: "1"}
	from, to := traffic.TCP.All()
	all := traffic.Of(traffic.Internet(), from, to)
	rule := func(id string, v cloud.Verdict, match traffic.Set, concerns string) cloud.Rule {
		return cloud.Rule{Ref: scope.Ref("firewall", id), Verdict: v, Match: match, Concerns: concerns}
	}
	allow := rule("allow", cloud.Allow, all, "web")
	for name, c := range map[string]struct {
		rules []cloud.Rule
		want  int
	}{
		"before":     {[]cloud.Rule{rule("deny", cloud.Deny, all, "web"), allow}, 0},
		"everybody":  {[]cloud.Rule{rule("deny", cloud.Deny, all, ""), allow}, 0},
		"after":      {[]cloud.Rule{allow, rule("deny", cloud.Deny, all, "web")}, 1},
		"for others": {[]cloud.Rule{rule("deny", cloud.Deny, all, "db"), allow}, 1},
		"other port": {[]cloud.Rule{rule("deny", cloud.Deny, traffic.Of(traffic.Internet(), traffic.UDP.Port(11211), traffic.UDP.Port(11211)), "web"), allow}, 1},
	} {
		s := &cloud.Snapshot{Scope: scope, Lists: []*cloud.List{{Ref: scope.Ref("network", "n"), Rules: c.rules}}}
		if got := Find(cloud.Question{Ports: []uint16{11211}}, []*cloud.Snapshot{s}).Findings; len(got) != c.want {
			t.Errorf("%s: %d findings, want %d", name, len(got), c.want)
		}
	}
}
