package cloud

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/cloudaudit/cloudaudit/traffic"
)

// BenchmarkJudge judges a large account: 1,000,000 rules in 20,000 security groups, one in a hundred of them on the port,
// and 20,000 public interfaces with two groups each.
func BenchmarkJudge(b *testing.B) {
	scope := Scope{"aws", "111122223333", "us-east-1"}
	s := &Snapshot{Scope: scope}
	for g := range 20_000 {
		l := &List{Ref: scope.Ref("security-group", fmt.Sprintf("sg-%d", g))}
		for r := range 50 {
			port := uint16(1000 + r)
			if r == 7 && g%2 == 0 {
				port = 11211
			}
			src := traffic.IPs(netip.PrefixFrom(netip.AddrFrom4([4]byte{byte(g%200 + 1), byte(r), 0, 0}), 16))
			from, to := traffic.TCP.Ports(port, port)
			l.Rules = append(l.Rules, Rule{Ref: scope.Ref("security-group-rule", fmt.Sprintf("sgr-%d-%d", g, r)), Match: traffic.Of(src, from, to)})
		}
		s.Lists = append(s.Lists, l)
	}
	from, to := traffic.TCP.All()
	everything := &List{Ref: scope.Ref("network-acl", "acl-1"), Rules: []Rule{{Ref: scope.Ref("entry", "100"), Match: traffic.Of(traffic.Internet(), from, to)}}}
	for e := range 20_000 {
		s.Endpoints = append(s.Endpoints, Endpoint{
			Ref: scope.Ref("network-interface", fmt.Sprintf("eni-%d", e)), Family: traffic.V4, Public: true,
			Addr: netip.AddrFrom4([4]byte{54, 84, byte(e >> 8), byte(e)}),
			Hops: []Hop{{Layers: []Layer{
				{Name: "nacl_in", Kind: Filter, Lists: []*List{everything}, Stateless: true, ReplyName: "nacl_out", Reply: []*List{everything}},
				{Name: "security_group", Kind: Firewall, Lists: []*List{s.Lists[e], s.Lists[(e+1)%20_000]}},
			}}},
		})
	}
	for b.Loop() {
		open := 0
		for _, a := range (Question{Ports: []uint16{11211}}).Judge(s) {
			if a.Exposure != Blocked {
				open++
			}
		}
		if open != 19_800 {
			b.Fatalf("%d exposures, want all but those of 10.0.0.0/8", open)
		}
	}
	b.ReportMetric(1_000_000*float64(b.N)/b.Elapsed().Seconds(), "rules/s")
}
