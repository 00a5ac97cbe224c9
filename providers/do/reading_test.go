package do

import (
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/digitalocean/godo"

	"github.com/cloudaudit/cloudaudit/cloud"
	world "github.com/cloudaudit/cloudaudit/internal/emulate/do"
	"github.com/cloudaudit/cloudaudit/traffic"
)

// balancer returns an external balancer of TCP.
func balancer(id string, entry, target int, droplets ...int) world.LoadBalancer {
	return world.LoadBalancer{ID: id, Name: id, DropletIDs: droplets, ForwardingRules: []world.ForwardingRule{
		{EntryProtocol: "tcp", EntryPort: entry, TargetProtocol: "tcp", TargetPort: target},
	}}
}

// from returns a rule for TCP 11211 from balancers.
func from(action string, balancers ...string) world.InboundRule {
	return world.InboundRule{Action: action, Protocol: "tcp", Ports: "11211", Sources: &world.Peers{LoadBalancerUIDs: balancers}}
}

func TestRules(t *testing.T) {
	tr := &translation{}
	for _, test := range []struct {
		protocol, ports, action string
		addresses               []string
		match, maybe            string
	}{
		{"tcp", "11211", "", []string{"0.0.0.0/0"}, "tcp/11211 from 0.0.0.0/0", "nothing"},
		{"udp", "0", "allow", []string{"::/0"}, "udp from ::/0", "nothing"},
		{"tcp", "all", "", []string{"1.2.3.4"}, "tcp from 1.2.3.4", "nothing"},
		{"TCP", " 8000 - 9000 ", "", []string{"1.2.3.4/24"}, "tcp/8000-9000 from 1.2.3.0/24", "nothing"},
		{"tcp", "11210", "", []string{"2604:a880::1"}, "tcp/11210 from 2604:a880::1", "nothing"},
		{"tcp", "22", "", []string{"::ffff:1.2.3.4"}, "tcp/22 from 1.2.3.4", "nothing"},
		{"tcp", "22", "", nil, "nothing", "nothing"},
		{"icmp", "0", "", []string{"0.0.0.0/0"}, "icmp from 0.0.0.0/0; icmpv6 from 0.0.0.0/0", "nothing"},
		{"icmp", "nonsense", "", []string{"1.1.1.1"}, "icmp from 1.1.1.1; icmpv6 from 1.1.1.1", "nothing"},
		{"tcp", "ssh", "", []string{"1.1.1.1"}, "nothing", "tcp from 1.1.1.1"},
		{"tcp", "9-8", "", []string{"1.1.1.1"}, "nothing", "tcp from 1.1.1.1"},
		{"tcp", "70000", "", []string{"1.1.1.1"}, "nothing", "tcp from 1.1.1.1"},
		{"gre", "0", "", []string{"1.1.1.1"}, "nothing", "all from 1.1.1.1"},
		{"tcp", "22", "", []string{"1.1.1.1", "office"}, "tcp/22 from 1.1.1.1", "tcp/22 from 0.0.0.0-1.1.1.0, 1.1.1.2-255.255.255.255, ::/0"},
		{"tcp", "22", "reject", []string{"1.1.1.1"}, "nothing", "tcp/22 from 1.1.1.1"},
	} {
		in := &godo.InboundRule{Protocol: test.protocol, PortRange: test.ports, Action: godo.FirewallRuleAction(test.action), Sources: &godo.Sources{Addresses: test.addresses}}
		r := tr.rule("fw", 3, in, nil)
		maybe := r.Maybe.String()
		if r.Match.String() != test.match || maybe != test.maybe && !strings.HasPrefix(test.maybe, "tcp/22 from 0.0.0.0-") {
			t.Errorf("%+v: matches %s, maybe %s", test, r.Match, maybe)
		}
		if r.Ref.ID != "fw#3" || r.Maybe.IsEmpty() == (r.Cause != "") || r.Maybe.IsEmpty() == (r.Doubt != "") {
			t.Errorf("%+v: %+v", test, r)
		}
		if strings.Contains(test.maybe, "::/0") && !traffic.Subset(traffic.V6.Internet(), r.Maybe.From(traffic.TCP.Port(22))) {
			t.Errorf("%+v: an unreadable source may be anything, not %s", test, maybe)
		}
	}
	nothing := tr.rule("fw", 0, &godo.InboundRule{Protocol: "tcp", PortRange: "1"}, nil)
	if !nothing.Match.IsEmpty() || !nothing.Maybe.IsEmpty() || nothing.Text != "allow tcp 1 from nowhere" {
		t.Errorf("a rule without sources: %+v", nothing)
	}
	all := tr.rule("fw", 0, &godo.InboundRule{Protocol: "udp", PortRange: "0", Action: "deny", Sources: &godo.Sources{
		Addresses: []string{"::/0"}, Tags: []string{"web"}, DropletIDs: []int{7}, LoadBalancerUIDs: []string{"lb"}, KubernetesIDs: []string{"k"},
	}}, nil)
	if all.Text != "deny udp all ports from ::/0, tag web, droplet 7, load balancer lb, Kubernetes cluster k" || all.Verdict != cloud.Deny {
		t.Errorf("%+v", all)
	}
}

func TestRulesKeepWhatTheAPISaid(t *testing.T) {
	s := single(t, world.Scene{Firewalls: []world.Firewall{{ID: "fw", Name: "fw", InboundRules: []world.InboundRule{
		inbound("", "tcp", "all", "1.2.3.4"), inbound("deny", "tcp", "22", "0.0.0.0/0"),
	}}}})
	rules := s.Lists[0].Rules
	if len(rules) != 2 || rules[0].Ref.ID != "fw#1" || rules[0].Verdict != cloud.Deny || rules[1].Ref.ID != "fw#0" {
		t.Fatalf("rules: %+v", rules)
	}
	if got := string(rules[1].Native); got != `{"protocol":"tcp","ports":"0","sources":{"addresses":["1.2.3.4"]}}` {
		t.Errorf("native: %s", got)
	}
}

func TestAddresses(t *testing.T) {
	v6 := public(2, "both", "159.65.1.3")
	v6.Networks.V6 = []world.Address{{IPAddress: "2604:a880:2:d0::1", Type: "public"}}
	none := world.Droplet{ID: 3, Name: "private", Networks: world.Networks{V4: []world.Address{{IPAddress: "10.116.0.9", Type: "private"}}}}
	bare := world.Droplet{ID: 4, Name: "bare"}
	s := single(t, world.Scene{
		Droplets:     []world.Droplet{public(1, "one", "159.65.1.2"), v6, none, bare},
		ReservedIPs:  []world.ReservedIP{{IP: "45.55.96.47", Droplet: &world.DropletRef{ID: 1}}, {IP: "45.55.96.48"}, {IP: "159.65.1.2", Droplet: &world.DropletRef{ID: 1}}},
		ReservedIPv6: []world.ReservedIP{{IP: "2604:a880:2:f0::9", Droplet: &world.DropletRef{ID: 3}}},
	})
	var got []string
	for _, e := range s.Endpoints {
		text := e.Name + " " + e.Address()
		if !e.Public {
			text += " not public"
		}
		got = append(got, text)
	}
	want := []string{
		"one 45.55.96.47", "one 159.65.1.2", "both 159.65.1.3", "both 2604:a880:2:d0::1", "private 2604:a880:2:f0::9", "bare bare not public",
	}
	if !slices.Equal(got, want) {
		t.Errorf("endpoints %q, want %q", got, want)
	}
	expect(t, s, "private", "v6.tcp provider_only/world v4.tcp blocked")
	expect(t, s, "bare", "v4.tcp blocked")
	if got := ask(s, "bare", "v4.tcp"); got.stages[0] != stageNoAddress {
		t.Errorf("bare is blocked by %v", got.stages)
	}
}

func TestAttachment(t *testing.T) {
	strict := []world.InboundRule{inbound("", "tcp", "22", "0.0.0.0/0")}
	wide := []world.InboundRule{inbound("", "tcp", "11211", "0.0.0.0/1", "128.0.0.0/1")}
	s := single(t, world.Scene{
		Droplets: []world.Droplet{
			public(1, "by-id", "159.65.1.2"), public(2, "by-tag", "159.65.1.3", "a", "b"), public(3, "twice", "159.65.1.4", "b"),
			public(4, "elsewhere", "159.65.1.5", "B"), public(5, "no-rules", "159.65.1.6"),
		},
		Firewalls: []world.Firewall{
			{ID: "f1", DropletIDs: []int{1, 3}, InboundRules: strict},
			{ID: "f2", Tags: []string{"b"}, InboundRules: wide},
			{ID: "f3", DropletIDs: []int{5}},
			{ID: "f4", DropletIDs: []int{999}, Tags: []string{"none"}, InboundRules: wide},
		},
	})
	expect(t, s, "by-id", "v4.tcp blocked v4.udp blocked")
	expect(t, s, "by-tag", "v4.tcp provider_only/world v4.udp blocked")
	expect(t, s, "twice", "v4.tcp provider_only/world v4.udp blocked")
	expect(t, s, "elsewhere", "v4.tcp provider_only/world v4.udp provider_only/world")
	expect(t, s, "no-rules", "v4.tcp blocked v4.udp blocked")
	if len(s.Lists) != 4 {
		t.Errorf("%d lists", len(s.Lists))
	}
}

func TestPlatformBlockIsOnePort(t *testing.T) {
	s := single(t, world.Scene{Droplets: []world.Droplet{public(1, "cache", "159.65.1.2")}})
	expect(t, s, "cache", "v4.tcp provider_only/world v4.udp provider_only/world")
	other := cloud.Question{Ports: []uint16{11214}}
	if got := askWith(other, s, "cache", "v4.tcp"); got.text != "reachable/world" {
		t.Errorf("port 11214: %s", got.text)
	}
	off := cloud.Question{Ports: []uint16{11211}, NoPlatformBlock: true}
	if got := askWith(off, s, "cache", "v4.udp"); got.text != "reachable/world" || !slices.Equal(got.admitted, []string{"none"}) {
		t.Errorf("without the block: %+v", got)
	}
}

func TestPendingChanges(t *testing.T) {
	ssh := []world.InboundRule{inbound("", "tcp", "22", "0.0.0.0/0")}
	s := single(t, world.Scene{
		Droplets: []world.Droplet{public(1, "settled", "159.65.1.2"), public(2, "adding", "159.65.1.3"), public(3, "removing", "159.65.1.4")},
		Firewalls: []world.Firewall{
			{ID: "fw", DropletIDs: []int{1, 2}, InboundRules: ssh, Status: "waiting", PendingChanges: []world.PendingChange{
				{DropletID: 2, Status: "waiting"}, {DropletID: 3, Removing: true, Status: "waiting"},
			}},
		},
		ReservedIPs:   []world.ReservedIP{{IP: "45.55.96.47", Droplet: &world.DropletRef{ID: 2}}},
		LoadBalancers: []world.LoadBalancer{balancer("lb", 443, 11211, 2)},
	})
	expect(t, s, "settled", "v4.tcp blocked v4.udp blocked")
	expect(t, s, "adding", "v4.tcp unknown/none v4.udp unknown/none")
	expect(t, s, "removing", "v4.tcp unknown/none v4.udp unknown/none")
	got := ask(s, "adding", "v4.tcp")
	if len(got.stages) != 3 || slices.ContainsFunc(got.stages, func(s string) bool { return s != stagePending }) {
		t.Errorf("stages %v, want both addresses and the balancer", got.stages)
	}
	if len(got.admitted) > 0 {
		t.Errorf("admitted by %v, of which nothing is known", got.admitted)
	}
}

func TestBalancers(t *testing.T) {
	lb := func(edit func(*world.LoadBalancer)) world.LoadBalancer {
		b := balancer("lb-1", 443, 11211, 1)
		edit(&b)
		return b
	}
	same := func(*world.LoadBalancer) {}
	inVPC := func(action string, addresses ...string) world.InboundRule {
		return inbound(action, "tcp", "11211", addresses...)
	}
	for name, test := range map[string]struct {
		lb    world.LoadBalancer
		rules []world.InboundRule // nil: no firewall
		want  string
	}{
		"no firewall":                    {lb(same), nil, "reachable/world"},
		"by id":                          {lb(same), []world.InboundRule{from("", "lb-1")}, "reachable/world"},
		"another id":                     {lb(same), []world.InboundRule{from("", "lb-2")}, "blocked"},
		"id and deny of id":              {lb(same), []world.InboundRule{from("", "lb-1"), from("deny", "lb-1")}, "blocked"},
		"id and deny of another":         {lb(same), []world.InboundRule{from("", "lb-1"), from("deny", "lb-2")}, "reachable/world"},
		"the whole VPC":                  {lb(same), []world.InboundRule{inVPC("", "10.116.0.0/20")}, "reachable/world"},
		"the whole VPC in parts":         {lb(same), []world.InboundRule{inVPC("", "10.116.0.0/21", "10.116.8.0/21")}, "reachable/world"},
		"all of 10/8":                    {lb(same), []world.InboundRule{inVPC("", "10.0.0.0/8")}, "reachable/world"},
		"another VPC":                    {lb(same), []world.InboundRule{inVPC("", "10.117.0.0/20")}, "blocked"},
		"a part of the VPC":              {lb(same), []world.InboundRule{inVPC("", "10.116.3.0/24")}, "unknown/world"},
		"the VPC but for a part":         {lb(same), []world.InboundRule{inVPC("", "10.116.0.0/20"), inVPC("deny", "10.116.3.0/24")}, "unknown/world"},
		"the VPC and a deny of it":       {lb(same), []world.InboundRule{inVPC("", "10.116.0.0/20"), inVPC("deny", "10.0.0.0/8")}, "blocked"},
		"id and a deny of private":       {lb(same), []world.InboundRule{from("", "lb-1"), inVPC("deny", "10.0.0.0/8")}, "blocked"},
		"half the internet, not the VPC": {lb(same), []world.InboundRule{inVPC("", "128.0.0.0/1")}, "provider_only/wide"},
		"IPv6 addresses alone":           {lb(same), []world.InboundRule{inVPC("", "::/0")}, "blocked"},
		"deny of the internet alone":     {lb(same), []world.InboundRule{from("", "lb-1"), inVPC("deny", "0.0.0.0/5", "12.0.0.0/6")}, "reachable/world"},
		"entry 11211":                    {lb(func(b *world.LoadBalancer) { b.ForwardingRules[0].EntryPort = 11211 }), nil, "unknown/world"},
		"another target": {
			lb(func(b *world.LoadBalancer) { b.ForwardingRules[0].TargetPort = 11210 }), []world.InboundRule{from("", "lb-1")}, "blocked",
		},
		"internal":         {lb(func(b *world.LoadBalancer) { b.Network = "INTERNAL" }), []world.InboundRule{from("", "lb-1")}, "blocked"},
		"other droplet":    {lb(func(b *world.LoadBalancer) { b.DropletIDs = []int{2} }), []world.InboundRule{from("", "lb-1")}, "blocked"},
		"by tag":           {lb(func(b *world.LoadBalancer) { b.DropletIDs, b.Tag = nil, "web" }), []world.InboundRule{from("", "lb-1")}, "reachable/world"},
		"network balancer": {lb(func(b *world.LoadBalancer) { b.Type = "REGIONAL_NETWORK" }), []world.InboundRule{from("", "lb-1")}, "unknown/world"},
		"new, without address": {
			lb(func(b *world.LoadBalancer) { b.Status = "new" }), []world.InboundRule{from("", "lb-1")}, "reachable/world",
		},
		"HTTP": {
			lb(func(b *world.LoadBalancer) {
				b.ForwardingRules[0].EntryProtocol, b.ForwardingRules[0].TargetProtocol = "https", "http"
			}), []world.InboundRule{from("", "lb-1")}, "reachable/world",
		},
		"UDP": {
			lb(func(b *world.LoadBalancer) {
				b.ForwardingRules[0].EntryProtocol, b.ForwardingRules[0].TargetProtocol = "udp", "udp"
			}), []world.InboundRule{from("", "lb-1")}, "blocked",
		},
		"two fronts, one of them 11211": {
			lb(func(b *world.LoadBalancer) {
				b.ForwardingRules = append([]world.ForwardingRule{{EntryProtocol: "tcp", EntryPort: 11211, TargetProtocol: "tcp", TargetPort: 11211}}, b.ForwardingRules...)
			}), []world.InboundRule{from("", "lb-1")}, "reachable/world",
		},
		"firewall allows a /24": {
			lb(func(b *world.LoadBalancer) { b.Firewall = &world.LBFirewall{Allow: []string{"cidr:5.5.5.0/24"}} }), nil, "reachable/narrow",
		},
		"firewall denies a half": {
			lb(func(b *world.LoadBalancer) { b.Firewall = &world.LBFirewall{Deny: []string{"cidr:0.0.0.0/1"}} }), nil, "reachable/wide",
		},
		"firewall denies what it allows": {
			lb(func(b *world.LoadBalancer) {
				b.Firewall = &world.LBFirewall{Allow: []string{"ip:5.5.5.5"}, Deny: []string{"cidr:5.0.0.0/8"}}
			}), []world.InboundRule{from("", "lb-1")}, "blocked",
		},
		"firewall with an entry unheard of": {
			lb(func(b *world.LoadBalancer) { b.Firewall = &world.LBFirewall{Allow: []string{"asn:64500"}} }), []world.InboundRule{from("", "lb-1")}, "unknown/world",
		},
	} {
		scene := world.Scene{Droplets: []world.Droplet{public(1, "cache", "159.65.1.2", "web"), public(2, "other", "159.65.1.3")}, LoadBalancers: []world.LoadBalancer{test.lb}}
		if test.rules != nil {
			scene.Firewalls = []world.Firewall{{ID: "fw", Name: "fw", DropletIDs: []int{1}, InboundRules: test.rules}}
		}
		if got := ask(single(t, scene), "cache", "v4.tcp"); got.text != test.want {
			t.Errorf("%s: %s (admitted by %v, stages %v), want %s", name, got.text, got.admitted, got.stages, test.want)
		}
	}
}

func TestBalancerReport(t *testing.T) {
	b := balancer("lb-1", 443, 11211, 1)
	b.IP, b.IPv6 = "104.131.186.241", "2604:a880:800:14::85f5:c000"
	scene := world.Scene{
		Droplets: []world.Droplet{public(1, "cache", "159.65.1.2")}, LoadBalancers: []world.LoadBalancer{b},
		Firewalls: []world.Firewall{{ID: "fw", DropletIDs: []int{1}, InboundRules: []world.InboundRule{from("", "lb-1"), from("", "lb-1")}}},
	}
	s := single(t, scene)
	found := 0
	for _, a := range (cloud.Question{Ports: []uint16{11211}}).Judge(s) {
		if a.Exposure != cloud.Reachable {
			continue
		}
		found++
		if a.Endpoint.Ref.ID != "1" || a.Endpoint.Via.ID != "lb-1" || a.Front != traffic.TCP.Port(443) || a.Coverage != cloud.World ||
			len(a.AdmittedBy) != 2 || a.AdmittedBy[0].Rule.Ref.ID != "fw#0" || !a.AdmittedBy[0].Alone {
			t.Errorf("%+v", a)
		}
		if address := a.Endpoint.Address(); address != b.IP && address != b.IPv6 {
			t.Errorf("address %s", address)
		}
	}
	if found != 2 {
		t.Errorf("%d fronts are reachable, want both addresses of the balancer", found)
	}

	// The block is what is in doubt: without it nothing is.
	b.ForwardingRules[0].EntryPort = 11211
	scene.LoadBalancers = []world.LoadBalancer{b}
	s = single(t, scene)
	if got := ask(s, "cache", "v4.tcp"); got.text != "unknown/world" || got.stages[0] != stageOnBalancer || !slices.Equal(got.admitted, []string{"fw#0", "fw#1"}) {
		t.Errorf("%+v", got)
	}
	if got := askWith(cloud.Question{Ports: []uint16{11211}, NoPlatformBlock: true}, s, "cache", "v4.tcp"); got.text != "reachable/world" {
		t.Errorf("without the block: %+v", got)
	}
}

// Where networks cannot be read, a balancer may speak from any private address.
func TestBalancerWithoutNetworks(t *testing.T) {
	scene := world.Scene{
		Droplets:      []world.Droplet{public(1, "vpc", "159.65.1.2"), public(2, "private", "159.65.1.3"), public(3, "id", "159.65.1.4")},
		LoadBalancers: []world.LoadBalancer{balancer("lb-1", 443, 11211, 1, 2, 3)},
		Firewalls: []world.Firewall{
			{ID: "f1", DropletIDs: []int{1}, InboundRules: []world.InboundRule{inbound("", "tcp", "11211", "10.116.0.0/20")}},
			{ID: "f2", DropletIDs: []int{2}, InboundRules: []world.InboundRule{inbound("", "tcp", "11211", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16")}},
			{ID: "f3", DropletIDs: []int{3}, InboundRules: []world.InboundRule{from("", "lb-1")}},
		},
	}
	w := world.Single("token", scene)
	w.Teams[0].Tokens[0].Scopes = slices.DeleteFunc(Permissions(), func(p string) bool { return p == "vpc:read" })
	s := open(t, w, nil, "token").read(t)
	if gapSubjects(s) != "vpc:read" {
		t.Errorf("gaps %+v", s.Gaps)
	}
	expect(t, s, "vpc", "v4.tcp unknown/world")
	expect(t, s, "private", "v4.tcp reachable/world")
	expect(t, s, "id", "v4.tcp reachable/world")
	if got := ask(s, "vpc", "v4.tcp"); !slices.Contains(got.stages, "load_balancer_address_unknown") {
		t.Errorf("stages %v", got.stages)
	}
}

func TestGlobalBalancers(t *testing.T) {
	regional := balancer("regional", 8080, 11211, 1)
	regional.Network = "INTERNAL"
	guarded := balancer("guarded", 8080, 11211, 2)
	guarded.Network, guarded.Firewall = "INTERNAL", &world.LBFirewall{Allow: []string{"ip:5.5.5.5"}}
	global := world.LoadBalancer{
		ID: "global", Type: "GLOBAL", DropletIDs: []int{3}, TargetIDs: []string{"regional", "guarded"},
		GLBSettings: &world.GLBSettings{TargetProtocol: "http", TargetPort: 8080},
	}
	direct := world.LoadBalancer{ID: "direct", Type: "GLOBAL", DropletIDs: []int{4}, GLBSettings: &world.GLBSettings{TargetProtocol: "http", TargetPort: 11211}}
	s := single(t, world.Scene{
		Droplets: []world.Droplet{
			public(1, "behind-two", "159.65.1.2"), public(2, "guarded", "159.65.1.3"), public(3, "other-port", "159.65.1.4"), public(4, "direct", "159.65.1.5"),
		},
		LoadBalancers: []world.LoadBalancer{regional, guarded, global, direct},
		Firewalls: []world.Firewall{
			{ID: "f1", DropletIDs: []int{1, 2, 3}, InboundRules: []world.InboundRule{from("", "regional", "guarded", "global")}},
			{ID: "f4", DropletIDs: []int{4}, InboundRules: []world.InboundRule{inbound("", "tcp", "11211", "10.0.0.0/8")}},
		},
	})
	expect(t, s, "behind-two", "v4.tcp reachable/world v4.udp blocked")
	expect(t, s, "guarded", "v4.tcp unknown/world")
	expect(t, s, "other-port", "v4.tcp blocked")
	expect(t, s, "direct", "v4.tcp unknown/world")
}

func TestStandInsAreDistinctAndStable(t *testing.T) {
	v := &inventory{}
	for i := range 2000 {
		v.balancers = append(v.balancers, loadBalancer{id: "lb-" + strconv.Itoa(i)})
	}
	seen := map[string]bool{}
	for _, s := range v.standIns() {
		seen[s.addr.String()] = true
		if !strings.HasPrefix(s.addr.String(), "24") && !strings.HasPrefix(s.addr.String(), "25") || traffic.Internet().Contains(s.addr) {
			t.Fatalf("stand-in %s", s.addr)
		}
	}
	if len(seen) != 2000 {
		t.Errorf("%d distinct", len(seen))
	}
	alone := &inventory{balancers: []loadBalancer{{id: "lb-7"}}}
	if alone.standIns()["lb-7"].addr != v.standIns()["lb-7"].addr {
		t.Error("the stand-in of a balancer depends on the others")
	}
}
