package aws_test

import (
	"bytes"
	"context"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"
	"pgregory.net/rapid"

	"github.com/cloudaudit/cloudaudit/cloud"
	"github.com/cloudaudit/cloudaudit/internal/emulate/ec2"
	"github.com/cloudaudit/cloudaudit/providers/aws"
	"github.com/cloudaudit/cloudaudit/providers/providertest"
	"github.com/cloudaudit/cloudaudit/remedy"
)

// packet is one packet, as the oracle asks about it.
type packet struct {
	src   string
	proto string
	port  int
}

// universe returns packets from one address each of what rules tell apart.
func universe() []packet {
	var out []packet
	for _, src := range []string{
		"8.8.8.8", "130.0.0.1", "5.5.5.5", "10.0.1.9", "172.16.1.1", "192.168.7.7", "100.64.1.1", "169.254.1.1", "203.0.113.1", "2a00::1", "fd00::1", "fe80::1",
	} {
		icmp := "icmp"
		if strings.Contains(src, ":") {
			icmp = "icmpv6"
		}
		for _, proto := range []string{"tcp", "udp", icmp, "50", "47"} {
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
	must = slices.Contains([]string{"8.8.8.8", "130.0.0.1", "5.5.5.5", "2a00::1"}, p.src)
	return must, must || p.src == "203.0.113.1"
}

// admits says whether some rule of the group admits p, by the words of the EC2 API reference.
func admits(rules []ec2.SecurityGroupRule, group string, p packet) bool {
	src := netip.MustParseAddr(p.src)
	return slices.ContainsFunc(rules, func(r ec2.SecurityGroupRule) bool {
		cidr, err := netip.ParsePrefix(r.CidrIPv4 + r.CidrIPv6)
		if r.GroupID != group || r.IsEgress || err != nil || !cidr.Contains(src) {
			return false
		}
		switch r.IPProtocol {
		case "-1":
			return true
		case p.proto:
			return p.proto != "tcp" && p.proto != "udp" || *r.FromPort <= p.port && p.port <= *r.ToPort
		}
		return false
	})
}

// answers returns every group's answer to every packet.
func answers(r *ec2.Region) map[string]bool {
	out := map[string]bool{}
	for _, g := range r.SecurityGroups {
		for _, p := range universe() {
			out[fmt.Sprint(g.GroupID, p)] = admits(r.SecurityGroupRules, g.GroupID, p)
		}
	}
	return out
}

// stored returns the rules of r as they are, without the ids where ids is false, in an order of their own.
func stored(r *ec2.Region, ids bool) []string {
	var out []string
	for _, v := range r.SecurityGroupRules {
		from, to := -1, -1
		if v.FromPort != nil && v.IPProtocol != "-1" {
			from, to = *v.FromPort, *v.ToPort
		}
		tags := map[string]string{}
		for _, t := range v.Tags {
			tags[t.Key] = t.Value
		}
		line := fmt.Sprintf("%s %v %s %d-%d %s%s%s %v %q %v", v.GroupID, v.IsEgress, v.IPProtocol, from, to, v.CidrIPv4, v.CidrIPv6, v.PrefixListID, v.ReferencedGroupInfo != nil, v.Description, tags)
		if ids {
			line = v.SecurityGroupRuleID + " " + line
		}
		out = append(out, line)
	}
	slices.Sort(out)
	return out
}

// TestFixVectors fixes every configuration of testdata/fixes.yaml over HTTP and compares every packet's answer with that of
// the configuration that is expected after it.
//
// Ours keep more: link-local and unique local sources, which are private.
func TestFixVectors(t *testing.T) {
	text, err := os.ReadFile("testdata/fixes.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Fixes []struct {
			ID, Title     string
			Exact         bool
			Before, After yaml.Node
		}
	}
	if err := yaml.Unmarshal(text, &file); err != nil || len(file.Fixes) < 3 {
		t.Fatalf("%d fixes: %v", len(file.Fixes), err)
	}
	world := func(n *yaml.Node) *ec2.World {
		var b bytes.Buffer
		if err := yaml.NewEncoder(&b).Encode(n); err != nil {
			t.Fatal(err)
		}
		return parseRegion(t, b.String())
	}
	for _, v := range file.Fixes {
		t.Run(v.ID, func(t *testing.T) {
			w := world(&v.Before)
			here := w.Accounts[0].Regions[0]
			plan, p, _ := planOf(t, w, remedy.Options{}, nil)
			if len(plan.Hunks) != 1 || plan.Hunks[0].Lossy() == v.Exact {
				t.Fatalf("%s: plan %+v", v.Title, plan)
			}
			if words := strings.Join(plan.Hunks[0].Ways[0].Proof.Words, " "); strings.Contains(words, "To lose less") == v.Exact {
				t.Errorf("the words are %s", words)
			}
			before, was := answers(here), stored(here, true)
			if !v.Exact {
				outcome, err := providertest.Runner("aws", p, &providertest.Journal{}).Do(t.Context(), plan)
				if err != nil || outcome.Hunks[0].State != remedy.Skipped || !strings.Contains(outcome.Hunks[0].Reason, "allow the loss") {
					t.Errorf("a loss without consent: %+v, %v", outcome, err)
				}
			}
			r, j := mend(t, p, plan, true)
			want, got := answers(world(&v.After).Accounts[0].Regions[0]), answers(here)
			for _, q := range universe() {
				key := fmt.Sprint("sg-1", q)
				if closes, _ := q.asked(); want[key] && !got[key] || got[key] && (!before[key] || closes) {
					t.Errorf("%s: %s: before %v, want %v, is %v", v.Title, key, before[key], want[key], got[key])
				}
			}
			if !slices.ContainsFunc(here.SecurityGroupRules, func(r ec2.SecurityGroupRule) bool { return r.SecurityGroupRuleID == "r" }) {
				t.Error("the rule does not live on")
			}
			undo(t, r, j)
			if diff := cmp.Diff(was, stored(here, true)); diff != "" {
				t.Errorf("undone:\n%s", diff)
			}
		})
	}
}

// looking is a fixer that looks after every write.
type looking struct {
	*aws.Provider
	look func()
}

func (l looking) Apply(ctx context.Context, e cloud.Edit) (cloud.Edit, error) {
	done, err := l.Provider.Apply(ctx, e)
	l.look()
	return done, err
}

// drawWorld draws a group or two with rules of every kind, in front of one interface.
func drawWorld(t *rapid.T) *ec2.World {
	w, err := ec2.ParseRegion(testAccount, []byte(strings.Split(fixScene, "security_group_rules:")[0]+
		"network_interfaces:"+strings.Split(fixScene, "network_interfaces:")[1]))
	if err != nil {
		t.Fatal(err)
	}
	here := w.Accounts[0].Regions[0]
	// What a list holds can change, so that a rule that names it stands for no other: the oracle does not even see it.
	here.PrefixLists[0].Entries = []string{"5.5.5.0/24", "10.0.0.0/8"}
	seen := map[string]bool{}
	for i := range rapid.IntRange(1, 7).Draw(t, "rules") {
		v := ec2.SecurityGroupRule{
			SecurityGroupRuleID: fmt.Sprint("sgr-", i), GroupOwnerID: testAccount, GroupID: rapid.SampledFrom([]string{"sg-1", "sg-2"}).Draw(t, "group"),
			IPProtocol: rapid.SampledFrom([]string{"tcp", "tcp", "tcp", "udp", "udp", "icmp", "-1"}).Draw(t, "protocol"),
		}
		ports := rapid.SampledFrom([][2]int{{11211, 11211}, {0, 65535}, {11211, 12000}, {0, 11211}, {11000, 12000}, {22, 22}, {11210, 11212}}).Draw(t, "ports")
		if v.IPProtocol == "icmp" || v.IPProtocol == "-1" {
			ports = [2]int{-1, -1}
		}
		v.FromPort, v.ToPort = &ports[0], &ports[1]
		switch source := rapid.SampledFrom([]string{
			"0.0.0.0/0", "0.0.0.0/0", "::/0", "0.0.0.0/1", "128.0.0.0/1", "5.5.5.0/24", "10.0.0.0/8", "172.0.0.0/8", "fc00::/7", "pl-1", "sg-2",
		}).Draw(t, "source"); {
		case source == "pl-1":
			v.PrefixListID = source
		case source == "sg-2":
			v.ReferencedGroupInfo = &ec2.ReferencedGroup{GroupID: source}
		case strings.Contains(source, ":"):
			v.CidrIPv6 = source
		default:
			v.CidrIPv4 = source
		}
		v.Description = rapid.SampledFrom([]string{"", "it's $(all)\n"}).Draw(t, "description")
		if rapid.Bool().Draw(t, "tagged") {
			v.Tags = []ec2.Tag{{Key: "team", Value: "shop"}}
		}
		key := fmt.Sprint(v.GroupID, v.IPProtocol, ports, v.CidrIPv4, v.CidrIPv6, v.PrefixListID, v.ReferencedGroupInfo != nil)
		if !seen[key] {
			here.SecurityGroupRules = append(here.SecurityGroupRules, v)
		}
		seen[key] = true
	}
	return w
}

// TestPlansAgainstAnOracle: in random groups, after every single write of a plan, no packet gets through that did not before,
// and none is lost that nobody asked to close; after the last one nothing is open that was asked for; rules that are not
// changed are as they were; and undo restores every rule.
func TestPlansAgainstAnOracle(t *testing.T) {
	t.Parallel()
	planned := 0
	rapid.Check(t, func(rt *rapid.T) {
		w := drawWorld(rt)
		here := w.Accounts[0].Regions[0]
		none := rapid.Bool().Draw(rt, "keep none")
		plan, p, _ := planOf(t, w, remedy.Options{KeepPrivate: remedy.KeepPrivate{None: none}}, nil)
		planned += len(plan.Hunks)
		before, was, wasIDs := answers(here), stored(here, false), stored(here, true)
		// What rules admit that are not to be changed has to stay.
		changed := map[string]bool{}
		lossy := map[string]bool{}
		for _, h := range plan.Hunks {
			lossy[h.List.Ref.ID] = h.Lossy()
			for _, r := range h.Rules {
				changed[r.Ref.ID] = true
			}
		}
		stays := &ec2.Region{SecurityGroups: here.SecurityGroups}
		for _, v := range here.SecurityGroupRules {
			if !changed[v.SecurityGroupRuleID] {
				stays.SecurityGroupRules = append(stays.SecurityGroupRules, v)
			}
		}
		must := answers(stays)
		look := func(rest bool) {
			now := answers(here)
			for _, g := range here.SecurityGroups {
				for _, q := range universe() {
					key := fmt.Sprint(g.GroupID, q)
					closes, may := q.asked()
					private := none && q.port == 11211 && (q.proto == "tcp" || q.proto == "udp")
					switch {
					case now[key] && !before[key]:
						rt.Fatalf("%s got through to nothing before", key)
					case before[key] && !now[key] && must[key]:
						rt.Fatalf("%s is lost, and a rule that stays admits it", key)
					case before[key] && !now[key] && !may && !private && !(lossy[g.GroupID] && (q.proto == "47" || q.proto == "50")):
						rt.Fatalf("%s is lost", key)
					case rest && now[key] && closes && !must[key]:
						rt.Fatalf("%s is still open", key)
					}
				}
			}
		}
		r, j := mend(rt, looking{p, func() { look(false) }}, plan, true)
		look(true)
		for _, line := range wasIDs {
			if id, _, _ := strings.Cut(line, " "); !changed[id] && !slices.Contains(stored(here, true), line) {
				rt.Fatalf("a rule was touched: %s", line)
			}
		}
		undo(rt, r, j)
		if diff := cmp.Diff(was, stored(here, false)); diff != "" {
			rt.Fatalf("undone:\n%s", diff)
		}
	})
	if planned == 0 {
		t.Error("nothing was ever planned")
	}
}
