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
