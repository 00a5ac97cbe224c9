package gcp

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"
	"pgregory.net/rapid"

	"github.com/cloudaudit/cloudaudit/cloud"
	"github.com/cloudaudit/cloudaudit/internal/emulate/gce"
	"github.com/cloudaudit/cloudaudit/providers"
	"github.com/cloudaudit/cloudaudit/providers/providertest"
	"github.com/cloudaudit/cloudaudit/remedy"
)

// planOf plans the mending of project p.
func planOf(t testing.TB, p providers.Rewriter, s *cloud.Snapshot, o remedy.Options) *remedy.Plan {
	t.Helper()
	o.Ports = []uint16{11211}
	return remedy.New([]*cloud.Snapshot{s}, providertest.Findings(o.Ports, []*cloud.Snapshot{s}), map[string]providers.Rewriter{Name: p}, o)
}

// packet is one packet, as the oracle asks about it.
type packet struct {
	src, proto string
	port       int
}

// universe returns packets from one address each of what rules tell apart: the internet's halves, a partner, Google's health
// checks, private networks, addresses that no host has, and the same for IPv6.
func universe() []packet {
	var out []packet
	for _, src := range []string{
		"8.8.8.8", "130.0.0.1", "5.5.5.5", "35.191.0.1", "10.116.0.9", "172.16.1.1", "192.168.7.7", "100.64.1.1", "169.254.1.1", "203.0.113.1", "2a00::1", "fd00::1",
	} {
		for _, proto := range []string{"tcp", "udp", "icmp", "esp", "sctp", "47"} {
			for _, port := range []int{0, 22, 11210, 11211, 11212, 65535} {
				out = append(out, packet{src, proto, port})
			}
		}
	}
	return out
}

// asked says whether a fix of port 11211 is to close p, or may.
func (p packet) asked() (must, may bool) {
	if p.port != 11211 || p.proto != "tcp" && p.proto != "udp" {
		return false, false
	}
	must = slices.Contains([]string{"8.8.8.8", "130.0.0.1", "5.5.5.5", "35.191.0.1", "2a00::1"}, p.src)
	return must, must || p.src == "203.0.113.1"
}

// from says whether p is from one of ranges.
func (p packet) from(ranges []string) bool {
	return slices.ContainsFunc(ranges, func(r string) bool { return netip.MustParsePrefix(r).Contains(netip.MustParseAddr(p.src)) })
}

// of says whether p is of a protocol and one of ports, of which none means any.
func (p packet) of(protocol string, ports []string) bool {
	number := map[string]string{"6": "tcp", "17": "udp", "50": "esp"}
	if n := number[protocol]; n != "" {
		protocol = n
	}
	if protocol != "all" && protocol != p.proto {
		return false
	}
	if len(ports) == 0 || protocol == "all" || !slices.Contains([]string{"tcp", "udp", "sctp"}, p.proto) {
		return true
	}
	return slices.ContainsFunc(ports, func(text string) bool {
		var low, high int
		if n, _ := fmt.Sscanf(text, "%d-%d", &low, &high); n < 2 {
			high = low
		}
		return low <= p.port && p.port <= high
	})
}

func share1(a, b []string) bool {
	return slices.ContainsFunc(a, func(x string) bool { return slices.Contains(b, x) })
}

// admits says whether p gets to an instance by the first interface, one packet at a time, in the words of Google's
// documentation: https://cloud.google.com/firewall/docs/firewall-policies-rule-eval-order and
// https://cloud.google.com/firewall/docs/firewalls#priority_order_for_firewall_rules.
func admits(pr *gce.Project, vm *gce.Instance, p packet) bool {
	nic := vm.NetworkInterfaces[0]
	if v6 := strings.Contains(p.src, ":"); v6 && len(nic.IPv6AccessConfigs) == 0 {
		return false
	}
	const allowed, denied, undecided = 1, 2, 3
	vpc := func() int {
		best, verdict := int32(65536), undecided
		for _, f := range pr.Firewalls {
			at := int32(1000)
			if f.Priority != nil {
				at = *f.Priority
			}
			if f.Network != nic.Network || f.Disabled || f.Direction == "EGRESS" || at > best || !p.from(f.SourceRanges) ||
				len(f.TargetTags) > 0 && !share1(f.TargetTags, vm.Tags) ||
				len(f.TargetServiceAccounts) > 0 && !share1(f.TargetServiceAccounts, vm.ServiceAccounts) ||
				!slices.ContainsFunc(slices.Concat(f.Allowed, f.Denied), func(x gce.Protocol) bool { return p.of(x.IPProtocol, x.Ports) }) {
				continue
			}
			switch {
			case len(f.Denied) > 0:
				best, verdict = at, denied
			case at < best:
				best, verdict = at, allowed
			}
		}
		return verdict
	}
	policies := func() int {
		for _, regional := range []bool{false, true} {
			for _, pol := range pr.NetworkPolicies {
				if pol.Network != nic.Network || (pol.Region != "") != regional || regional && pol.Region != vm.Zone[:strings.LastIndexByte(vm.Zone, '-')] {
					continue
				}
				rules := slices.SortedFunc(slices.Values(pol.Rules), func(a, b gce.PolicyRule) int { return cmp.Compare(a.Priority, b.Priority) })
				for _, r := range rules {
					if r.Disabled || r.Direction == "EGRESS" || !p.from(r.Match.SrcIPRanges) ||
						len(r.TargetServiceAccounts) > 0 && !share1(r.TargetServiceAccounts, vm.ServiceAccounts) ||
						!slices.ContainsFunc(r.Match.Layer4Configs, func(x gce.Layer4) bool { return p.of(x.IPProtocol, x.Ports) }) {
						continue
					}
					switch r.Action {
					case "allow":
						return allowed
					case "deny":
						return denied
					}
					break // goto_next
				}
			}
		}
		return undecided
	}
	order := []func() int{vpc, policies}
	for _, n := range pr.Networks {
		if n.Name == nic.Network && n.EnforcementOrder == "BEFORE_CLASSIC_FIREWALL" {
			slices.Reverse(order)
		}
	}
	for _, ask := range order {
		if v := ask(); v != undecided {
			return v == allowed
		}
	}
	return false
}

// answers returns every instance's answer to every packet.
func answers(p *gce.Project) map[string]bool {
	out := map[string]bool{}
	for i := range p.Instances {
		for _, pkt := range universe() {
			out[fmt.Sprint(p.Instances[i].Name, pkt)] = admits(p, &p.Instances[i], pkt)
		}
	}
	return out
}

// later is a rewriter that only knows the later ways of another.
type later struct{ *Provider }

func (l later) Rewrite(c providers.Change) ([]providers.Way, error) {
	ways, err := l.Provider.Rewrite(c)
	if err == nil && len(ways) > 1 {
		ways = ways[1:]
	}
	return ways, err
}

// TestFixVectors fixes every configuration of testdata/fixes.yaml over HTTP, in the first way and in the last, and compares
// every packet's answer with that of the configuration that is expected after it.
//
// Ours keep more of what is private, link-local addresses for one. They do not keep Google's health checks where no rule is
// about them: those addresses are of the internet.
func TestFixVectors(t *testing.T) {
	text, err := os.ReadFile("testdata/fixes.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Fixes []struct {
			ID, Title     string
			Before, After gce.Project
		}
	}
	if err := yaml.Unmarshal(text, &file); err != nil || len(file.Fixes) < 3 {
		t.Fatalf("%d fixes: %v", len(file.Fixes), err)
	}
	names := map[string]bool{}
	for _, v := range file.Fixes {
		for _, last := range []bool{false, true} {
			t.Run(fmt.Sprint(v.ID, last), func(t *testing.T) {
				w := &gce.World{Projects: []gce.Project{v.Before}}
				p := &w.Projects[0]
				p.Firewalls = slices.Clone(p.Firewalls)
				provider := open(t, w, Config{})
				var rewriter providers.Rewriter = provider
				if last {
					rewriter = later{provider}
				}
				plan := planOf(t, rewriter, read(t, provider, "p"), remedy.Options{})
				if len(plan.Hunks) != 1 || plan.Hunks[0].Lossy() {
					t.Fatalf("%s: plan %+v", v.Title, plan)
				}
				names[plan.Hunks[0].Ways[0].Name] = true
				before := answers(p)
				r := providertest.Runner(Name, provider, &providertest.Journal{})
				outcome, err := r.Do(t.Context(), plan)
				if err == nil {
					err = r.Verify(t.Context(), plan, outcome)
				}
				if err != nil || !outcome.OK() {
					t.Errorf("%+v, %v", outcome, err)
				}
				want, got := answers(&v.After), answers(p)
				for _, pkt := range universe() {
					key := fmt.Sprint(p.Instances[0].Name, pkt)
					closes, _ := pkt.asked()
					closes = closes && !(pkt.src == "5.5.5.5" && v.ID == "FG3")
					if want[key] && !got[key] && pkt.src != "35.191.0.1" || got[key] && (!before[key] || closes) {
						t.Errorf("%s: %s: before %v, want %v, is %v", v.Title, key, before[key], want[key], got[key])
					}
				}
			})
		}
	}
	if diff := gocmp.Diff(map[string]bool{"deny rules": true, "cutting the ports out": true}, names); diff != "" {
		t.Errorf("ways that were taken (-want +got):\n%s", diff)
	}
}

// TestPlansAgainstAnOracle: in random projects, after every single write of a plan, no packet gets through that did not
// before, and none is lost that nobody asked to close or that another rule admits; after the last one nothing is open that
// was asked for; and undo restores every rule.
func TestPlansAgainstAnOracle(t *testing.T) {
	states := map[remedy.State]int{}
	planned, ways := 0, map[string]int{}
	rapid.Check(t, func(rt *rapid.T) {
		w := &gce.World{Projects: []gce.Project{drawProject(rt)}, Settle: rapid.IntRange(0, 2).Draw(rt, "settle")}
		pr := &w.Projects[0]
		full := rapid.IntRange(0, 3).Draw(rt, "full") == 0
		if full {
			pr.FirewallQuota = len(pr.Firewalls) + rapid.IntRange(0, 1).Draw(rt, "room")
		}
		o := open(t, w, Config{Projects: []string{"p"}})
		s := read(t, o, "p")
		var rewriter providers.Rewriter = o
		if rapid.IntRange(0, 3).Draw(rt, "later") == 0 {
			rewriter = later{o}
		}
		plan := planOf(t, rewriter, s, remedy.Options{})
		planned += len(plan.Hunks)
		for _, h := range plan.Hunks {
			ways[h.Ways[0].Name]++
			if h.Lossy() {
				rt.Fatalf("a loss: %v", h.Ways[0].Proof.Words)
			}
		}
		before, was := answers(pr), stored(pr)
		// What rules admit that are not to be changed has to stay; what those admit that cannot be changed may.
		changed := map[string]bool{}
		for _, h := range plan.Hunks {
			for _, r := range h.Rules {
				changed[r.Ref.ID] = true
			}
		}
		may := lacking(pr, changed)
		for _, u := range plan.Unmet {
			for _, r := range u.Rules {
				changed[r.Ref.ID] = true
			}
		}
		must := lacking(pr, changed)
		look := func(rest bool) {
			now := answers(pr)
			for i := range pr.Instances {
				for _, p := range universe() {
					key := fmt.Sprint(pr.Instances[i].Name, p)
					closes, trash := p.asked()
					switch {
					case now[key] && !before[key]:
						rt.Fatalf("%s got through to nothing before", key)
					case before[key] && !now[key] && !trash:
						rt.Fatalf("%s is lost", key)
					case before[key] && !now[key] && must[key]:
						rt.Fatalf("%s is lost, and a rule that stays admits it", key)
					case rest && now[key] && closes && !may[key]:
						rt.Fatalf("%s is still open", key)
					}
				}
			}
		}
		r := providertest.Runner(Name, looking{o, func() { look(false) }}, &providertest.Journal{})
		outcome, err := r.Do(t.Context(), plan)
		if err == nil {
			err = r.Verify(t.Context(), plan, outcome)
		}
		if err != nil {
			rt.Fatal(err)
		}
		for _, h := range outcome.Hunks {
			hidden := h.State == remedy.Skipped && strings.Contains(h.Reason, "is there already") // a priority that a rule has that does not show
			if h.State != remedy.Fixed && !full && !hidden {
				rt.Fatalf("%s: %s: %s", h.List, h.State, h.Reason)
			}
			states[h.State]++
		}
		look(outcome.OK())
		history, err := remedy.ReadHistory(r.Journal.(*providertest.Journal).Records)
		if err == nil {
			err = r.Undo(t.Context(), history, false)
		}
		if err != nil {
			rt.Fatal(err)
		}
		if diff := gocmp.Diff(was, stored(pr)); diff != "" {
			rt.Fatalf("undone:\n%s", diff)
		}
	})
	if planned == 0 || states[remedy.Fixed] < planned/2 {
		t.Errorf("%d lists were planned: %v, in ways %v", planned, states, ways)
	}
}

// lacking returns the answers of p without some rules.
func lacking(p *gce.Project, rules map[string]bool) map[string]bool {
	stays := *p
	stays.Firewalls = slices.DeleteFunc(slices.Clone(p.Firewalls), func(f gce.Firewall) bool { return rules[f.Name] })
	stays.NetworkPolicies = slices.Clone(p.NetworkPolicies)
	for i := range stays.NetworkPolicies {
		pol := &stays.NetworkPolicies[i]
		pol.Rules = slices.DeleteFunc(slices.Clone(pol.Rules), func(r gce.PolicyRule) bool { return rules[fmt.Sprint(pol.Name, "/", r.Priority)] })
	}
	return answers(&stays)
}

// looking is a fixer that looks after every write.
type looking struct {
	*Provider
	look func()
}

func (l looking) Apply(ctx context.Context, e cloud.Edit) (cloud.Edit, error) {
	done, err := l.Provider.Apply(ctx, e)
	l.look()
	return done, err
}

// stored returns all rules, in an order of their own.
func stored(p *gce.Project) []string {
	var out []string
	add := func(where string, rule any) {
		text, err := json.Marshal(rule)
		if err != nil {
			panic(err)
		}
		out = append(out, where+" "+string(text))
	}
	for _, f := range p.Firewalls {
		f.Priority = priority(cmp.Or(deref(f.Priority), 0))
		f.Direction = cmp.Or(f.Direction, "INGRESS")
		add("network", f)
	}
	for _, pol := range p.NetworkPolicies {
		for _, r := range pol.Rules {
			r.Direction = cmp.Or(r.Direction, "INGRESS")
			add(pol.Name, r)
		}
	}
	slices.Sort(out)
	return out
}

func deref(n *int32) int32 {
	if n == nil {
		return 1000
	}
	return *n
}

func drawProject(t *rapid.T) gce.Project {
	p := gce.Project{ID: "p"}
	for _, n := range []string{"net", "other"} {
		p.Networks = append(p.Networks, gce.Network{Name: n, EnforcementOrder: rapid.SampledFrom([]string{"", "BEFORE_CLASSIC_FIREWALL"}).Draw(t, "order")})
	}
	network := rapid.SampledFrom([]string{"net", "net", "net", "other"})
	sources := rapid.SampledFrom([][]string{
		everyone(), everyone(), everyone(),
		{"0.0.0.0/1", "128.0.0.0/1"},
		{"128.0.0.0/1", "10.0.0.0/8"},
		{"5.5.5.0/24"},
		{"10.116.0.0/20"},
		{"::/0"},
		{"2a00::/12"},
		{"35.191.0.0/16", "130.211.0.0/22"},
		{"8.0.0.0/8"},
	})
	protocol := func() gce.Protocol {
		x := gce.Protocol{IPProtocol: rapid.SampledFrom([]string{"all", "tcp", "tcp", "udp", "udp", "6", "icmp", "esp", "sctp"}).Draw(t, "protocol")}
		if slices.Contains([]string{"tcp", "udp", "6", "sctp"}, x.IPProtocol) && rapid.IntRange(0, 3).Draw(t, "ports") > 0 {
			x.Ports = rapid.SampledFrom([][]string{{"11211"}, {"11211"}, {"11211", "22"}, {"11000-12000"}, {"11211-65535"}, {"0-11211"}, {"22"}, {"443", "0-65535"}}).Draw(t, "port")
		}
		return x
	}
	for i := range rapid.IntRange(1, 3).Draw(t, "instances") {
		vm := machine(fmt.Sprint("vm-", i), "us-central1-a", network.Draw(t, "network"), fmt.Sprint("10.1.0.", i+2), fmt.Sprint("34.68.1.", i+2))
		vm.Tags = rapid.SampledFrom([][]string{nil, {"a"}, {"b"}, {"a", "b"}}).Draw(t, "tags")
		vm.ServiceAccounts = rapid.SampledFrom([][]string{nil, {"x@p"}, {"y@p"}}).Draw(t, "account")
		if rapid.Bool().Draw(t, "v6") {
			nic := &vm.NetworkInterfaces[0]
			nic.StackType, nic.IPv6AccessType = "IPV4_IPV6", "EXTERNAL"
			nic.IPv6AccessConfigs = []gce.AccessConfig{{Type: "DIRECT_IPV6", ExternalIPv6: fmt.Sprintf("2600:1900:4000:%d::", i+1), ExternalIPv6PrefixLength: 96}}
		}
		p.Instances = append(p.Instances, vm)
	}
	for i := range rapid.IntRange(1, 6).Draw(t, "firewalls") {
		f := gce.Firewall{
			Name: fmt.Sprint("f", i), Network: network.Draw(t, "network"), Priority: rapid.SampledFrom([]*int32{nil, priority(0), priority(999), priority(1001)}).Draw(t, "priority"),
			SourceRanges: sources.Draw(t, "sources"), Disabled: rapid.IntRange(0, 9).Draw(t, "disabled") == 0,
		}
		switch rapid.IntRange(0, 4).Draw(t, "targets") {
		case 0:
			f.TargetTags = []string{"a"}
		case 1:
			f.TargetTags = []string{"a", "b"}
		case 2:
			f.TargetServiceAccounts = []string{"x@p"}
		}
		rules := []gce.Protocol{protocol()}
		if rapid.Bool().Draw(t, "two") {
			rules = append(rules, protocol())
		}
		if rapid.IntRange(0, 3).Draw(t, "deny") == 0 {
			f.Denied = rules
		} else {
			f.Allowed = rules
			if len(f.TargetServiceAccounts) == 0 && rapid.IntRange(0, 3).Draw(t, "source tags") == 0 {
				f.SourceTags = []string{"web"}
			}
		}
		p.Firewalls = append(p.Firewalls, f)
	}
	for _, region := range []string{"", "us-central1"} {
		if rapid.Bool().Draw(t, "policy") {
			continue
		}
		pol := gce.Policy{Name: "np" + region, Network: network.Draw(t, "network"), Region: region}
		for _, at := range rapid.SampledFrom([][]int32{{0}, {1}, {5, 6}, {0, 1, 2}, {10, 20, 30}}).Draw(t, "priorities") {
			r := gce.PolicyRule{
				Priority: at, Action: rapid.SampledFrom([]string{"allow", "allow", "deny", "goto_next"}).Draw(t, "action"),
				Direction: rapid.SampledFrom([]string{"INGRESS", "INGRESS", "INGRESS", "EGRESS"}).Draw(t, "direction"),
			}
			x := protocol()
			r.Match.Layer4Configs = []gce.Layer4{{IPProtocol: x.IPProtocol, Ports: x.Ports}}
			if r.Direction == "EGRESS" {
				r.Match.DestIPRanges = everyone()
			} else {
				r.Match.SrcIPRanges = sources.Draw(t, "sources")
			}
			if rapid.IntRange(0, 3).Draw(t, "targets") == 0 {
				r.TargetServiceAccounts = []string{"x@p"}
			}
			pol.Rules = append(pol.Rules, r)
		}
		p.NetworkPolicies = append(p.NetworkPolicies, pol)
	}
	return p
}
