package cloud_test

import (
	"math/big"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"go4.org/netipx"

	"github.com/cloudaudit/cloudaudit/cloud"
	"github.com/cloudaudit/cloudaudit/traffic"
)

// A small language for the tables below: rules are "ID VERDICT SET", a doubtful one "ID VERDICT maybe DOUBT SET".

func ruleOf(t testing.TB, text string) cloud.Rule {
	t.Helper()
	id, rest, _ := strings.Cut(text, " ")
	verdict, set, _ := strings.Cut(rest, " ")
	r := cloud.Rule{Ref: cloud.Ref{Provider: "aws", Scope: "1/r", Kind: "rule", ID: id}}
	if err := r.Verdict.UnmarshalText([]byte(verdict)); err != nil {
		t.Fatal(err)
	}
	into := &r.Match
	if doubt, ok := strings.CutPrefix(set, "maybe "); ok {
		var name string
		name, set, _ = strings.Cut(doubt, " ")
		r.Doubt, r.Cause, r.Hint = cloud.Doubt(name), id+"_unreadable", "grant "+id
		into = &r.Maybe
	}
	s, err := traffic.Parse(set)
	if err != nil {
		t.Fatal(err)
	}
	*into = s
	return r
}

func listOf(t testing.TB, rules ...string) *cloud.List {
	t.Helper()
	l := &cloud.List{Ref: cloud.Ref{ID: "list"}}
	for _, text := range rules {
		l.Rules = append(l.Rules, ruleOf(t, text))
	}
	return l
}

func layerOf(t testing.TB, name string, kind cloud.Kind, rules ...string) cloud.Layer {
	t.Helper()
	return cloud.Layer{Name: name, Kind: kind, Lists: []*cloud.List{listOf(t, rules...)}}
}

// stateless adds a filter of replies to l.
func stateless(t testing.TB, l cloud.Layer, name string, rules ...string) cloud.Layer {
	t.Helper()
	l.Stateless, l.ReplyName, l.Reply = true, name, []*cloud.List{listOf(t, rules...)}
	return l
}

func endpointOf(hops ...cloud.Hop) cloud.Endpoint {
	return cloud.Endpoint{Ref: cloud.Ref{ID: "eni-1"}, Family: traffic.V4, Addr: netip.MustParseAddr("54.84.1.2"), Public: true, Hops: hops}
}

func hopOf(layers ...cloud.Layer) cloud.Hop { return cloud.Hop{Layers: layers} }

// askTCP judges e for tcp/11211.
func askTCP(t testing.TB, e cloud.Endpoint) cloud.Answer {
	t.Helper()
	a, _, ok := cloud.Question{Ports: []uint16{11211}}.Trace(&e, traffic.TCP.Port(11211))
	if !ok {
		t.Fatal("no path")
	}
	return a
}

func by(a cloud.Answer) string {
	var ids []string
	for _, by := range a.AdmittedBy {
		id := by.Rule.Ref.ID
		if by.Alone {
			id += "!"
		}
		ids = append(ids, id)
	}
	return strings.Join(ids, " ")
}

func denied(a cloud.Answer) string {
	var ids []string
	for _, r := range a.Denied {
		ids = append(ids, r.Ref.ID)
	}
	return strings.Join(ids, " ")
}

const (
	world    = "tcp/11211 from 0.0.0.0/0"
	partner  = "tcp/11211 from 8.8.8.0/24"
	other    = "tcp/11211 from 9.9.9.0/24"
	anything = "all from 0.0.0.0/0, ::/0"
)

func TestVerdicts(t *testing.T) {
	group := func(rules ...string) cloud.Layer { return layerOf(t, "security_group", cloud.Firewall, rules...) }
	nacl := func(rules ...string) cloud.Layer { return layerOf(t, "nacl_in", cloud.Filter, rules...) }
	block := layerOf(t, "platform_block", cloud.Platform, "p deny "+world)
	open := group("sgr-1 allow " + world)
	for _, c := range []struct {
		name     string
		layers   []cloud.Layer
		exposure cloud.Exposure
		coverage cloud.Coverage
		by       string
		stage    string
		denied   string
	}{
		{"the world", []cloud.Layer{open}, cloud.Reachable, cloud.World, "sgr-1!", "", ""},
		{"halves", []cloud.Layer{group("a allow tcp/11211 from 0.0.0.0/1", "b allow tcp/11211 from 128.0.0.0/1")}, cloud.Reachable, cloud.World, "a b", "", ""},
		{"two that suffice", []cloud.Layer{group("a allow "+world, "b allow tcp from 0.0.0.0/0")}, cloud.Reachable, cloud.World, "a! b!", "", ""},
		{"a partner beside the world", []cloud.Layer{group("a allow "+partner, "b allow "+world)}, cloud.Reachable, cloud.World, "a b!", "", ""},
		{"the port before", []cloud.Layer{group("a allow tcp/11210 from 0.0.0.0/0")}, cloud.Blocked, cloud.None, "", "security_group", ""},
		{"around the port", []cloud.Layer{group("a allow tcp/1-11210 from 0.0.0.0/0", "b allow tcp/11212-65535 from 0.0.0.0/0")}, cloud.Blocked, cloud.None, "", "security_group", ""},
		{"another protocol", []cloud.Layer{group("a allow 132 from 0.0.0.0/0", "b allow udp from 0.0.0.0/0")}, cloud.Blocked, cloud.None, "", "security_group", ""},
		{"private sources", []cloud.Layer{group("a allow tcp from 10.0.0.0/8, 100.64.0.0/10")}, cloud.Blocked, cloud.None, "", "security_group", ""},
		{"documentation networks", []cloud.Layer{group("a allow tcp from 192.0.2.0/24")}, cloud.Blocked, cloud.None, "", "security_group", ""},
		{"a layer without lists", []cloud.Layer{{Name: "no_public_address", Kind: cloud.Mask}, open}, cloud.Blocked, cloud.None, "", "no_public_address", ""},

		{"a deny before", []cloud.Layer{group("d deny "+world, "a allow "+world)}, cloud.Blocked, cloud.None, "", "security_group", "d"},
		{"a deny behind is dead", []cloud.Layer{group("a allow "+world, "d deny "+world)}, cloud.Reachable, cloud.World, "a!", "", ""},
		{"a deny of a part", []cloud.Layer{group("d deny tcp from 0.0.0.0/1", "a allow "+world)}, cloud.Reachable, cloud.Wide, "a!", "", ""},
		{"a deny of less than one percent", []cloud.Layer{group("d deny tcp from 8.0.0.0/8", "a allow "+world)}, cloud.Reachable, cloud.World, "a!", "", ""},
		{"a pass past an allow", []cloud.Layer{group("p pass "+world, "a allow "+world)}, cloud.Blocked, cloud.None, "", "security_group", ""},
		{"a filter is never to blame", []cloud.Layer{nacl("100 allow " + world), open}, cloud.Reachable, cloud.World, "sgr-1!", "", ""},

		// The decision procedure for AWS: nacl_in if the groups admit some internet source or the ACL admits none.
		{"an ACL that admits none", []cloud.Layer{nacl("100 deny " + anything), open}, cloud.Blocked, cloud.None, "", "nacl_in", "100"},
		{"neither admits any", []cloud.Layer{nacl("100 deny " + anything), group()}, cloud.Blocked, cloud.None, "", "nacl_in", "100"},
		{"groups that admit none", []cloud.Layer{nacl("100 allow " + anything), group()}, cloud.Blocked, cloud.None, "", "security_group", ""},
		{"both admit some, and none the same", []cloud.Layer{nacl("100 allow "+other, "200 deny "+anything), group("sgr-1 allow " + partner)}, cloud.Blocked, cloud.None, "", "nacl_in", "200"},
		{"a dead deny took nothing", []cloud.Layer{nacl("50 deny tcp from 8.8.8.0/24", "100 allow tcp from 9.0.0.0/8", "200 deny tcp from 9.9.9.0/24"), group("sgr-1 allow " + partner)}, cloud.Blocked, cloud.None, "", "nacl_in", "50"},
		{"what two leave, a third takes", []cloud.Layer{
			nacl("1 allow tcp from 1.0.0.0/8, 2.0.0.0/8"), layerOf(t, "bpa", cloud.Mask, "2 allow tcp from 2.0.0.0/8, 3.0.0.0/8"), group("3 allow tcp from 1.0.0.0/8, 3.0.0.0/8"),
		}, cloud.Blocked, cloud.None, "", "security_group", ""},
		{"a stage that has nothing to do with it", []cloud.Layer{
			layerOf(t, "route", cloud.Mask, "0 allow "+anything), nacl("100 allow " + other), group("sgr-1 allow " + partner),
		}, cloud.Blocked, cloud.None, "", "nacl_in", ""},

		// Replies.
		{"no reply gets out", []cloud.Layer{stateless(t, nacl("100 allow "+anything), "nacl_out"), open}, cloud.OneWay, cloud.World, "sgr-1!", "nacl_out", ""},
		{"replies of the other protocol", []cloud.Layer{stateless(t, nacl("100 allow "+anything), "nacl_out", "r allow udp/1024-65535 from 0.0.0.0/0"), open}, cloud.OneWay, cloud.World, "sgr-1!", "nacl_out", ""},
		{"one client port will do", []cloud.Layer{stateless(t, nacl("100 allow "+anything), "nacl_out", "r allow tcp/443 from 0.0.0.0/0"), open}, cloud.Reachable, cloud.World, "sgr-1!", "", ""},
		{"port 0 is no client's", []cloud.Layer{stateless(t, nacl("100 allow "+anything), "nacl_out", "r allow tcp/0 from 0.0.0.0/0"), open}, cloud.OneWay, cloud.World, "sgr-1!", "nacl_out", ""},
		{"replies to a part", []cloud.Layer{stateless(t, nacl("100 allow "+anything), "return_route", "r allow all from 8.8.8.0/24"), open}, cloud.Reachable, cloud.Narrow, "sgr-1!", "", ""},
		{"replies, but not to those", []cloud.Layer{stateless(t, nacl("100 allow "+anything), "return_route", "r allow all from 9.9.9.0/24"), group("sgr-1 allow " + partner)}, cloud.OneWay, cloud.Narrow, "sgr-1!", "return_route", ""},
		{"two filters of replies with no port in common", []cloud.Layer{
			stateless(t, nacl("100 allow "+anything), "nacl_out", "r allow tcp/443 from 0.0.0.0/0"),
			stateless(t, layerOf(t, "outer", cloud.Filter, "100 allow "+anything), "outer_out", "r allow tcp/1024-65535 from 0.0.0.0/0"), open,
		}, cloud.OneWay, cloud.World, "sgr-1!", "outer_out", ""},
		{"a reply that may get out", []cloud.Layer{stateless(t, nacl("100 allow "+anything), "nacl_out", "nacl allow maybe unread "+"tcp from 0.0.0.0/0"), open}, cloud.Unknown, cloud.World, "sgr-1!", "nacl_unreadable", ""},
		{"a reply that may get out of the first, not of the second", []cloud.Layer{
			stateless(t, nacl("100 allow "+anything), "nacl_out", "nacl allow maybe unread tcp from 0.0.0.0/0"),
			stateless(t, layerOf(t, "outer", cloud.Filter, "100 allow "+anything), "outer_out"), open,
		}, cloud.OneWay, cloud.World, "sgr-1!", "outer_out", ""},

		// The provider's own block.
		{"only the provider keeps it away", []cloud.Layer{block, open}, cloud.ProviderOnly, cloud.World, "sgr-1!", "platform_block", ""},
		{"the provider's block is behind the firewall", []cloud.Layer{open, block}, cloud.ProviderOnly, cloud.World, "sgr-1!", "platform_block", ""},
		{"the provider and the firewall", []cloud.Layer{block, group("sgr-1 allow tcp/80 from 0.0.0.0/0")}, cloud.Blocked, cloud.None, "", "platform_block", "p"},
		{"the provider's block takes what the firewall leaves", []cloud.Layer{group("sgr-1 allow " + partner), layerOf(t, "platform_block", cloud.Platform, "p allow "+other)}, cloud.ProviderOnly, cloud.Narrow, "sgr-1!", "platform_block", ""},
		{"a block that keeps nothing away", []cloud.Layer{layerOf(t, "platform_block", cloud.Platform, "p allow "+anything), open}, cloud.Reachable, cloud.World, "sgr-1!", "", ""},
		{"no reply, behind the provider's block", []cloud.Layer{block, stateless(t, nacl("100 allow "+anything), "nacl_out"), open}, cloud.ProviderOnly, cloud.World, "sgr-1!", "platform_block", ""},
		{"only the provider keeps replies in", []cloud.Layer{
			layerOf(t, "platform_port", cloud.Platform, "p allow "+anything),
			stateless(t, layerOf(t, "platform_spoof", cloud.Platform, "p allow "+anything), "platform_out"), open,
		}, cloud.ProviderOnly, cloud.World, "sgr-1!", "platform_port", ""},
		{"in doubt behind the provider's block", []cloud.Layer{block, group("pl allow maybe unsized " + world)}, cloud.Unknown, cloud.None, "pl!", "pl_unreadable", ""},
		{"a provider's block that is in doubt itself", []cloud.Layer{layerOf(t, "platform_block", cloud.Platform, "lb allow maybe unread "+anything), open}, cloud.Unknown, cloud.World, "sgr-1!", "lb_unreadable", ""},

		// Doubts.
		{"a prefix list that cannot be read", []cloud.Layer{group("pl allow maybe unsized " + world)}, cloud.Unknown, cloud.None, "pl!", "pl_unreadable", ""},
		{"the same beside a partner", []cloud.Layer{group("pl allow maybe unsized "+world, "a allow "+partner)}, cloud.Reachable, cloud.Narrow, "a!", "", ""},
		{"a middlebox", []cloud.Layer{layerOf(t, "middlebox", cloud.Mask, "m allow maybe unread "+anything), open}, cloud.Unknown, cloud.World, "sgr-1!", "m_unreadable", ""},
		{"a middlebox before a partner", []cloud.Layer{layerOf(t, "middlebox", cloud.Mask, "m allow maybe unread "+anything), group("a allow " + partner)}, cloud.Unknown, cloud.Narrow, "a!", "m_unreadable", ""},
		{"an address group that cannot be read", []cloud.Layer{group("ag allow maybe unread " + world)}, cloud.Unknown, cloud.World, "ag!", "ag_unreadable", ""},
		{"a deny that cannot be read", []cloud.Layer{group("ag deny maybe unread "+world, "a allow "+world)}, cloud.Unknown, cloud.World, "a!", "ag_unreadable", ""},
		{"a deny by country closes nothing", []cloud.Layer{group("geo deny maybe dynamic "+world, "a allow "+world)}, cloud.Reachable, cloud.World, "a!", "", ""},
		{"an allow by country", []cloud.Layer{group("geo allow maybe dynamic " + world)}, cloud.Reachable, cloud.Opaque, "geo!", "", ""},
		{"an allow by country, no reply", []cloud.Layer{stateless(t, nacl("100 allow "+anything), "nacl_out"), group("geo allow maybe dynamic " + world)}, cloud.OneWay, cloud.Opaque, "geo!", "nacl_out", ""},
		{"an allow by country, the provider's block", []cloud.Layer{block, group("geo allow maybe dynamic " + world)}, cloud.ProviderOnly, cloud.Opaque, "geo!", "platform_block", ""},
		{"an allow by country behind the unread", []cloud.Layer{nacl("nacl allow maybe unread " + anything), group("geo allow maybe dynamic " + world)}, cloud.Unknown, cloud.None, "geo!", "nacl_unreadable", ""},
		{"by country first, unread second", []cloud.Layer{group("geo deny maybe dynamic "+world, "pl allow maybe unsized "+world)}, cloud.Unknown, cloud.None, "pl!", "pl_unreadable", ""},
		{"a pass in doubt, admitted either way", []cloud.Layer{{Name: "f", Kind: cloud.Firewall, Lists: []*cloud.List{
			listOf(t, "p pass maybe unread "+world, "a allow "+world), listOf(t, "b allow "+world),
		}}}, cloud.Reachable, cloud.World, "a! b!", "", ""},
		{"a pass in doubt, admitted one way", []cloud.Layer{{Name: "f", Kind: cloud.Firewall, Lists: []*cloud.List{
			listOf(t, "p pass maybe unread "+world, "a allow "+world), listOf(t, "b deny "+world),
		}}}, cloud.Unknown, cloud.World, "a!", "p_unreadable", ""},
		{"a pass in doubt, denied either way", []cloud.Layer{{Name: "f", Kind: cloud.Firewall, Lists: []*cloud.List{
			listOf(t, "p pass maybe unread "+world, "a deny "+world), listOf(t, "b deny "+world),
		}}}, cloud.Blocked, cloud.None, "", "f", "a b"},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := askTCP(t, endpointOf(hopOf(c.layers...)))
			if a.Exposure != c.exposure || a.Coverage != c.coverage || by(a) != c.by || a.Stage != c.stage || denied(a) != c.denied {
				t.Errorf("%s/%s by %q at %q denied by %q, want %s/%s by %q at %q denied by %q",
					a.Exposure, a.Coverage, by(a), a.Stage, denied(a), c.exposure, c.coverage, c.by, c.stage, c.denied)
			}
			if want := "grant " + strings.TrimSuffix(a.Stage, "_unreadable"); a.Exposure == cloud.Unknown && a.Hint != want {
				t.Errorf("the hint is %q, want %q", a.Hint, want)
			}
		})
	}
}

func TestWithoutPlatformBlock(t *testing.T) {
	e := endpointOf(hopOf(layerOf(t, "platform_block", cloud.Platform, "p deny "+world), layerOf(t, "f", cloud.Firewall, "a allow "+world)))
	a, steps, ok := cloud.Question{Ports: []uint16{11211}, NoPlatformBlock: true}.Trace(&e, traffic.TCP.Port(11211))
	if !ok || a.Exposure != cloud.Reachable || len(steps) != 1 || steps[0].Layer.Name != "f" {
		t.Errorf("%s by %d steps (%v), want reachable by one", a.Exposure, len(steps), ok)
	}
}

// A balancer maps ports and replaces the source: a rule for its address then opens the world.
func TestBalancer(t *testing.T) {
	balancer := func(layers ...cloud.Layer) cloud.Hop {
		return cloud.Hop{
			Ref: cloud.Ref{ID: "lb-1"}, Layers: layers,
			Forward: []cloud.Forward{{Front: traffic.TCP.Port(80), Target: traffic.TCP.Port(11211)}, {Front: traffic.TCP.Port(81), Target: traffic.TCP.Port(81)}},
			Source:  []netip.Prefix{netip.MustParsePrefix("10.0.0.7/32"), netip.MustParsePrefix("10.0.0.8/32")},
		}
	}
	front := layerOf(t, "front", cloud.Firewall, "f allow tcp/80 from 0.0.0.0/0")
	narrow := layerOf(t, "front", cloud.Firewall, "f allow tcp/80 from 8.8.8.0/24")
	vpc := layerOf(t, "target", cloud.Firewall, "vpc allow tcp/11211 from 10.0.0.0/16", "one allow tcp/11211 from 10.0.0.7", "pub allow tcp from 8.8.8.0/24")
	for _, c := range []struct {
		name     string
		endpoint cloud.Endpoint
		exposure cloud.Exposure
		coverage cloud.Coverage
		by       string
		stage    string
	}{
		{"the world through the balancer", endpointOf(balancer(front), hopOf(vpc)), cloud.Reachable, cloud.World, "vpc! one", ""},
		{"a partner through the balancer", endpointOf(balancer(narrow), hopOf(vpc)), cloud.Reachable, cloud.Narrow, "vpc! one", ""},
		{"not from the balancer", endpointOf(balancer(front), hopOf(layerOf(t, "target", cloud.Firewall, "pub allow tcp/11211 from 0.0.0.0/0"), layerOf(t, "mask", cloud.Mask, "m deny tcp from 10.0.0.0/8"))), cloud.Blocked, cloud.None, "", "mask"},
		{"closed in front", endpointOf(balancer(layerOf(t, "front", cloud.Firewall)), hopOf(vpc)), cloud.Blocked, cloud.None, "", "front"},
		{"no reply from the target", endpointOf(balancer(front), hopOf(stateless(t, vpc, "target_out"))), cloud.OneWay, cloud.World, "vpc! one", "target_out"},
		{"replies to the client, not to the balancer", endpointOf(balancer(front), hopOf(stateless(t, vpc, "target_out", "r allow tcp from 8.0.0.0/8"))), cloud.OneWay, cloud.World, "vpc! one", "target_out"},
		{"replies only to a balancer that does not get in", endpointOf(balancer(front), hopOf(
			stateless(t, layerOf(t, "target", cloud.Firewall, "one allow tcp from 10.0.0.7"), "target_out", "r allow tcp from 10.0.0.8"),
			stateless(t, layerOf(t, "late", cloud.Filter, "x allow tcp from 10.0.0.0/8"), "late_out"),
		)), cloud.OneWay, cloud.World, "one!", "target_out"},
		{"no reply from the balancer", endpointOf(balancer(stateless(t, front, "front_out")), hopOf(vpc)), cloud.OneWay, cloud.World, "vpc! one", "front_out"},
		{"a last hop has nothing behind it", endpointOf(balancer(front), cloud.Hop{Layers: []cloud.Layer{vpc}, Source: []netip.Prefix{}}), cloud.Reachable, cloud.World, "vpc! one", ""},
		{"a balancer that nothing comes from", endpointOf(cloud.Hop{Layers: []cloud.Layer{layerOf(t, "front", cloud.Firewall, "f allow tcp from 0.0.0.0/0")}, Source: []netip.Prefix{}}, hopOf(vpc)), cloud.Blocked, cloud.None, "", "target"},
		{"a target without layers", endpointOf(balancer(front), hopOf()), cloud.Reachable, cloud.World, "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := askTCP(t, c.endpoint)
			if a.Exposure != c.exposure || a.Coverage != c.coverage || by(a) != c.by || a.Stage != c.stage {
				t.Errorf("%s/%s by %q at %q, want %s/%s by %q at %q", a.Exposure, a.Coverage, by(a), a.Stage, c.exposure, c.coverage, c.by, c.stage)
			}
			for _, by := range a.AdmittedBy {
				if !by.Sources.Equal(a.Sources) {
					t.Errorf("%s admits %s, want all that comes through the balancer", by.Rule.Ref.ID, traffic.FormatIPs(by.Sources))
				}
			}
		})
	}
	e := endpointOf(balancer(front), hopOf(vpc))
	a := askTCP(t, e)
	if a.Front != traffic.TCP.Port(80) || a.Service != traffic.TCP.Port(11211) {
		t.Errorf("from %s to %s, want tcp/80 to tcp/11211", traffic.FormatService(a.Front), traffic.FormatService(a.Service))
	}
	q := cloud.Question{Ports: []uint16{11211, 443}}
	if answers := q.Judge(&cloud.Snapshot{Endpoints: []cloud.Endpoint{e}}); len(answers) != 1 {
		t.Errorf("%d answers, want one: nothing else is forwarded", len(answers))
	}
	if _, _, ok := q.Trace(&e, traffic.UDP.Port(11211)); ok {
		t.Error("there is a path for UDP, which is not forwarded")
	}
	if _, _, ok := q.Trace(&cloud.Endpoint{Family: traffic.V4}, traffic.TCP.Port(11211)); ok {
		t.Error("there is a path without hops")
	}
}

func TestJudgeOrder(t *testing.T) {
	hop := hopOf(layerOf(t, "f", cloud.Firewall, "a allow "+anything))
	v6 := endpointOf(hop)
	v6.Family = traffic.V6
	s := &cloud.Snapshot{Endpoints: []cloud.Endpoint{endpointOf(hop), v6}}
	q := cloud.Question{Ports: []uint16{11211, 11214}}
	var got []string
	for _, a := range q.Judge(s) {
		got = append(got, string('0'+rune(a.Endpoint.Family))+" "+traffic.FormatService(a.Service))
		if !a.Sources.Equal(a.Endpoint.Family.Internet()) || a.Share != 1 || a.Coverage != cloud.World {
			t.Errorf("IPv%d: %s of %s", a.Endpoint.Family, a.Coverage, traffic.FormatIPs(a.Sources))
		}
	}
	want := []string{"4 tcp/11211", "4 tcp/11214", "4 udp/11211", "4 udp/11214", "6 tcp/11211", "6 tcp/11214", "6 udp/11211", "6 udp/11214"}
	if !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

func TestTarget(t *testing.T) {
	q := cloud.Question{Ports: []uint16{11211}}
	want := traffic.Of(traffic.Internet(), traffic.TCP.Port(11211), traffic.TCP.Port(11211)).
		Union(traffic.Of(traffic.Internet(), traffic.UDP.Port(11211), traffic.UDP.Port(11211)))
	if got := q.Target(); !got.Equal(want) {
		t.Errorf("%v, want %v", got, want)
	}
}

func TestCover(t *testing.T) {
	ips := func(text string) *netipx.IPSet {
		s, err := traffic.ParseIPs(text)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	// first returns the first n addresses of the internet of family f.
	first := func(f traffic.Family, n *big.Int) *netipx.IPSet {
		var b netipx.IPSetBuilder
		left := new(big.Int).Set(n)
		for _, p := range f.Internet().Prefixes() {
			size := traffic.Size(traffic.IPs(p))
			for size.Cmp(left) > 0 && left.Sign() > 0 { // too large: its lower half, and again
				p = netip.PrefixFrom(p.Addr(), p.Bits()+1)
				size.Rsh(size, 1)
				if size.Cmp(left) <= 0 {
					b.AddPrefix(p)
					left.Sub(left, size)
					p = netipx.RangeOfPrefix(netip.PrefixFrom(netipx.RangeOfPrefix(p).To().Next(), p.Bits())).Prefixes()[0]
				}
			}
			if left.Sign() == 0 {
				break
			}
			if size.Cmp(left) <= 0 {
				b.AddPrefix(p)
				left.Sub(left, size)
			}
		}
		s, err := b.IPSet()
		if err != nil || traffic.Size(s).Cmp(n) != 0 {
			t.Fatalf("%v addresses, want %v (%v)", traffic.Size(s), n, err)
		}
		return s
	}
	// at returns the least whole number of addresses that is num/den of the internet or more.
	at := func(f traffic.Family, num, den int64) *big.Int {
		n := new(big.Int).Mul(traffic.Size(f.Internet()), big.NewInt(num))
		n.Add(n, big.NewInt(den-1))
		return n.Div(n, big.NewInt(den))
	}
	less := func(n *big.Int) *big.Int { return new(big.Int).Sub(n, big.NewInt(1)) }
	for _, c := range []struct {
		name    string
		sources *netipx.IPSet
		family  traffic.Family
		want    cloud.Coverage
	}{
		{"everything", ips("0.0.0.0/0, ::/0"), 4, cloud.World},
		{"everything", ips("0.0.0.0/0, ::/0"), 6, cloud.World},
		{"99 %", first(4, at(4, 99, 100)), 4, cloud.World},
		{"one address less", first(4, less(at(4, 99, 100))), 4, cloud.Wide},
		{"99 %", first(6, at(6, 99, 100)), 6, cloud.World},
		{"one address less", first(6, less(at(6, 99, 100))), 6, cloud.Wide},
		{"1/256", first(4, at(4, 1, 256)), 4, cloud.Wide},
		{"one address less", first(4, less(at(4, 1, 256))), 4, cloud.Narrow},
		{"1/8192", first(6, at(6, 1, 8192)), 6, cloud.Wide},
		{"one address less", first(6, less(at(6, 1, 8192))), 6, cloud.Narrow},
		{"a public /8", ips("8.0.0.0/8"), 4, cloud.Wide},
		{"a public /9", ips("8.0.0.0/9"), 4, cloud.Narrow},
		{"a quarter", ips("64.0.0.0/2"), 4, cloud.Wide},
		{"a /16", ips("2600::/16"), 6, cloud.Wide},
		{"a /17", ips("2600::/17"), 6, cloud.Narrow},
		{"a /24", ips("8.8.8.0/24"), 4, cloud.Narrow},
		{"one address", ips("8.8.8.8"), 4, cloud.Narrow},
		{"private networks", ips("10.0.0.0/8, 172.16.0.0/12, 192.168.0.0/16"), 4, cloud.None},
		{"unique local addresses", ips("fc00::/7"), 6, cloud.None},
		{"the other family", ips("::/0"), 4, cloud.None},
		{"the other family", ips("0.0.0.0/0"), 6, cloud.None},
		{"nothing", ips("nowhere"), 4, cloud.None},
		{"nil", nil, 6, cloud.None},
	} {
		got, share := cloud.Cover(c.sources, c.family)
		if got != c.want {
			t.Errorf("%s, IPv%d: %s, want %s", c.name, c.family, got, c.want)
		}
		part := traffic.Size(traffic.IntersectIPs(c.sources, c.family.Internet()))
		want, _ := new(big.Rat).SetFrac(part, traffic.Size(c.family.Internet())).Float64()
		if share != want || share < 0 || share > 1 {
			t.Errorf("%s, IPv%d: a share of %v, want %v", c.name, c.family, share, want)
		}
	}
}

func TestCoverageLess(t *testing.T) {
	order := [][]cloud.Coverage{{cloud.None}, {cloud.Narrow}, {cloud.Wide, cloud.Opaque}, {cloud.World}}
	for i, low := range order {
		for j, high := range order {
			for _, a := range low {
				for _, b := range high {
					if a.Less(b) != (i < j) {
						t.Errorf("%s is less than %s: %v, want %v", a, b, a.Less(b), i < j)
					}
				}
			}
		}
	}
}
