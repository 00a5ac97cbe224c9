// Package findingstest is the report that the tests of all writers share: every check, gaps, several scopes, and names
// that try to break out of the output. It is made by findings.Find from snapshots, so that it stays a report that the
// program can make.
package findingstest

import (
	"bytes"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cloudaudit/cloudaudit/cloud"
	"github.com/cloudaudit/cloudaudit/findings"
	"github.com/cloudaudit/cloudaudit/traffic"
)

var update = flag.Bool("update", false, "write the golden files anew")

// Golden compares got with the golden file of the given name in testdata. With -update it writes the file instead.
func Golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(want, got) {
		t.Errorf("%s (-want +got; run the test with -update if the change is meant):\n%s", path, cmp.Diff(string(want), string(got)))
	}
}

// Hostile are names that try to break out of the output: by terminal control, by lines of their own, by text direction,
// by HTML, by Markdown and by workflow commands.
func Hostile() []string {
	return []string{
		"\x1b[2J\x1b]0;owned\x07red\x1b[31m",
		"two\nlines\r\n::error file=a.go::injected",
		"::error::injected",
		"##[error]injected ##vso[task.complete]",
		"bidi\u202etxt.exe\u2066\u200b",
		"<script>alert(1)</script><img src=x onerror=alert(1)>",
		"</code></td></details><h1>owned",
		"pipe | and `tick` and **bold** [link](javascript:alert(1)) ![i](http://evil.example/x.png)",
		"percent %0A%0D::warning::injected",
		"@octocat fixes #1 https://evil.example www.evil.example",
		"c1 \u009b31m \u0085 \u2028 bytes \xff\xfe",
		"-->{{7*7}} ${x} $x^2$ &lt;b&gt;",
	}
}

// Question is what Report is the answer to.
func Question() cloud.Question { return cloud.Question{Ports: []uint16{11211}} }

// Report returns the report that the writers are tested on.
func Report() *findings.Report {
	r := findings.Find(Question(), Snapshots())
	// Two of the open endpoints were asked, and one of the answers is as hostile as names are.
	proofs := []*Answer{
		{Verdict: "open", Detail: "noop", Version: Hostile()[0], Check: findings.MemcachedAmplifier},
		{Verdict: "open", Detail: "ascii", Version: "1.6.18", Check: findings.MemcachedAnswersTCP},
	}
	asked := map[int]bool{}
	for _, f := range r.Findings {
		if len(proofs) == 0 || f.RuleID != findings.ReachableFromInternet || len(f.Exposures) != 1 || asked[f.Exposures[0]] {
			continue
		}
		asked[f.Exposures[0]] = true
		r.Exposures[f.Exposures[0]].Probe = proofs[0]
		proofs = proofs[1:]
	}
	r.Raise()
	r.Findings[0].Location = &findings.Location{File: "network.tf", Line: 12}
	return r
}

// Answer is an answer of the probe.
type Answer struct {
	Verdict string `json:"verdict"`
	Detail  string `json:"detail"`
	Version string `json:"version"`
	Check   string `json:"-"` // that it proves
}

// Sentence says what was seen, in the words of the one who was asked.
func (a *Answer) Sentence() string { return "memcached " + a.Version + " answers" }

// Proves returns the check.
func (a *Answer) Proves() string { return a.Check }

// scene makes the objects of one snapshot.
type scene struct {
	*cloud.Snapshot
	next int // the last byte of the next address
}

func newScene(provider, account, region string) *scene {
	return &scene{&cloud.Snapshot{Scope: cloud.Scope{Provider: provider, Account: account, Region: region}}, 1}
}

// rule returns a rule that matches what the text form of packet sets says.
func (s *scene) rule(kind, id string, v cloud.Verdict, match, text string) cloud.Rule {
	return cloud.Rule{Ref: s.Scope.Ref(kind, id), Verdict: v, Match: set(match), Text: text}
}

func set(text string) traffic.Set {
	s, err := traffic.Parse(text)
	if err != nil {
		panic(err) // the scenes are constant
	}
	return s
}

// list adds a list to the snapshot.
func (s *scene) list(kind, id, name string, rules ...cloud.Rule) *cloud.List {
	l := &cloud.List{Ref: s.Scope.Ref(kind, id), Name: name, Rules: rules}
	s.Lists = append(s.Lists, l)
	return l
}

// endpoint adds a public endpoint of family 4 behind one hop of layers, and returns it until the next is added.
func (s *scene) endpoint(kind, id, name string, layers ...cloud.Layer) *cloud.Endpoint {
	ref := s.Scope.Ref(kind, id)
	s.Endpoints = append(s.Endpoints, cloud.Endpoint{
		Ref: ref, Name: name, Family: traffic.V4, Addr: netip.AddrFrom4([4]byte{54, 84, 1, byte(s.next)}), Public: true,
		Hops: []cloud.Hop{{Ref: ref, Layers: layers}},
	})
	s.next++
	return &s.Endpoints[len(s.Endpoints)-1]
}

// Snapshots returns the scopes that Report is about.
func Snapshots() []*cloud.Snapshot {
	unread := newScene("aws", "111122223333", "us-east-1").Snapshot
	unread.Gaps = []cloud.Gap{{
		Subject: "ec2:DescribeSecurityGroups", Cause: "UnauthorizedOperation: You are not authorized to perform this operation.",
		Hint: "grant ec2:DescribeSecurityGroups to the role of the scan",
	}}
	quiet := newScene("aws", "111122223333", "eu-north-1").Snapshot
	return []*cloud.Snapshot{amazon(), unread, quiet, google(), ocean(), hostile()}
}

func amazon() *cloud.Snapshot {
	s := newScene("aws", "111122223333", "eu-west-1")
	const sgr = "security-group-rule"
	acl := s.list("network-acl", "acl-1", "default",
		s.rule("network-acl-rule", "acl-1#90", cloud.Deny, "udp/11211 from 203.0.113.0/24", "90 deny udp 11211 from 203.0.113.0/24"),
		s.rule("network-acl-rule", "acl-1#100", cloud.Allow, "all from 0.0.0.0/0, ::/0", "100 allow all from 0.0.0.0/0"))
	closed := s.list("network-acl", "acl-2", "closed",
		s.rule("network-acl-rule", "acl-2#50", cloud.Deny, "tcp/11211 from 0.0.0.0/0; udp/11211 from 0.0.0.0/0", "50 deny tcp, udp 11211 from 0.0.0.0/0"),
		s.rule("network-acl-rule", "acl-2#100", cloud.Allow, "all from 0.0.0.0/0", "100 allow all from 0.0.0.0/0"))
	silent := s.list("network-acl", "acl-3", "no way out")
	nacl := func(in, out *cloud.List) cloud.Layer {
		return cloud.Layer{Name: "nacl_in", Kind: cloud.Filter, Lists: []*cloud.List{in}, Stateless: true, ReplyName: "nacl_out", Reply: []*cloud.List{out}}
	}
	groups := func(lists ...*cloud.List) cloud.Layer {
		return cloud.Layer{Name: "security_group", Kind: cloud.Firewall, Lists: lists}
	}
	web := s.list("security-group", "sg-web", "web",
		s.rule(sgr, "sgr-0a1b", cloud.Allow, "tcp/11211 from 0.0.0.0/0; udp/11211 from 0.0.0.0/0", "tcp, udp 11211 from 0.0.0.0/0"),
		s.rule(sgr, "sgr-0a1c", cloud.Allow, "tcp/22 from 10.0.0.0/8", "tcp 22 from 10.0.0.0/8"),
		s.rule(sgr, "sgr-0a1d", cloud.Allow, "tcp/11211 from 10.0.0.0/8", "tcp 11211 from 10.0.0.0/8"))
	halves := s.list("security-group", "sg-halves", "halves",
		s.rule(sgr, "sgr-half1", cloud.Allow, "tcp/11211 from 0.0.0.0/1", "tcp 11211 from 0.0.0.0/1"),
		s.rule(sgr, "sgr-half2", cloud.Allow, "tcp/11211 from 128.0.0.0/1", "tcp 11211 from 128.0.0.0/1"))
	wide := s.list("security-group", "sg-wide", "provider ranges",
		s.rule(sgr, "sgr-wide", cloud.Allow, "tcp/11211 from 52.0.0.0/6", "tcp 11211 from 52.0.0.0/6"))
	partner := s.list("security-group", "sg-partner", "partner",
		s.rule(sgr, "sgr-partner", cloud.Allow, "tcp/11211 from 8.8.4.0/24", "tcp 11211 from 8.8.4.0/24"))
	prefixes := s.rule(sgr, "sgr-prefixes", cloud.Allow, "nothing", "tcp 11211 from pl-0f00 (shared by 999988887777)")
	prefixes.Maybe, prefixes.Doubt, prefixes.Cause = set("tcp/11211 from 0.0.0.0/0"), cloud.Unsized, "prefix_list_unreadable"
	prefixes.Hint = "grant ec2:GetManagedPrefixListEntries on pl-0f00, or ask its owner what is in it"
	listed := s.list("security-group", "sg-listed", "listed", prefixes)
	s.list("security-group", "sg-unused", "unused",
		s.rule(sgr, "sgr-unused", cloud.Allow, "tcp from 0.0.0.0/0, ::/0", "tcp 0-65535 from 0.0.0.0/0, ::/0"))

	for i := range 14 {
		e := s.endpoint("network-interface", fmt.Sprintf("eni-%02d", i+1), fmt.Sprintf("cache-%d", i+1), nacl(acl, acl), groups(web))
		e.Instance = fmt.Sprintf("i-%02d", i+1)
	}
	s.endpoint("network-interface", "eni-halves", "split", nacl(acl, acl), groups(halves))
	s.endpoint("network-interface", "eni-wide", "ranges", nacl(acl, acl), groups(wide))
	s.endpoint("network-interface", "eni-partner", "partner", nacl(acl, acl), groups(partner))
	s.endpoint("network-interface", "eni-listed", "listed", nacl(acl, acl), groups(listed)).Assumes = []string{"vpc-block-public-access-off"}
	s.endpoint("network-interface", "eni-closed", "shut by its ACL", nacl(closed, acl), groups(web))
	s.endpoint("network-interface", "eni-private", "only private", nacl(acl, acl), groups(s.list("security-group", "sg-private", "private",
		s.rule(sgr, "sgr-private", cloud.Allow, "tcp/11211 from 10.0.0.0/8", "tcp 11211 from 10.0.0.0/8"))))

	oneway := s.list("security-group", "sg-oneway", "one way",
		s.rule(sgr, "sgr-oneway", cloud.Allow, "udp/11211 from 0.0.0.0/0", "udp 11211 from 0.0.0.0/0"))
	s.endpoint("network-interface", "eni-oneway", "mute", nacl(acl, silent), groups(oneway))

	six := s.endpoint("network-interface", "eni-six", "cache-v6", nacl(acl, acl), groups(s.list("security-group", "sg-six", "six",
		s.rule(sgr, "sgr-six", cloud.Allow, "tcp/11211 from ::/0", "tcp 11211 from ::/0"))))
	six.Family, six.Addr = traffic.V6, netip.MustParseAddr("2600:1f18::11")

	inner := s.list("security-group", "sg-inner", "behind the balancer",
		s.rule(sgr, "sgr-inner", cloud.Allow, "tcp/11211 from 10.0.0.0/16", "tcp 11211 from 10.0.0.0/16"))
	front := s.list("security-group", "sg-front", "front",
		s.rule(sgr, "sgr-front", cloud.Allow, "tcp/443 from 0.0.0.0/0", "tcp 443 from 0.0.0.0/0"))
	behind := s.endpoint("network-interface", "eni-behind", "cache-behind", nacl(acl, acl), groups(inner))
	behind.Via = s.Scope.Ref("load-balancer", "lb-1")
	behind.Hops = append([]cloud.Hop{{
		Ref: behind.Via, Name: "network load balancer lb-1", Layers: []cloud.Layer{groups(front)},
		Forward: []cloud.Forward{{Front: traffic.TCP.Port(443), Target: traffic.TCP.Port(11211)}},
		Source:  []netip.Prefix{netip.MustParsePrefix("10.0.7.0/24")},
	}}, behind.Hops...)
	return s.Snapshot
}

func google() *cloud.Snapshot {
	s := newScene("gcp", "shop-prod", "")
	policy := s.list("firewall-policy", "org-baseline", "org-baseline",
		s.rule("firewall-policy-rule", "org-baseline/100", cloud.Deny, "udp/11211 from 0.0.0.0/0", "100 deny udp 11211 from 0.0.0.0/0"),
		s.rule("firewall-policy-rule", "org-baseline/200", cloud.Pass, "tcp/11211 from 0.0.0.0/0", "200 goto_next tcp 11211 from 0.0.0.0/0"))
	geo := s.rule("firewall", "allow-geo", cloud.Allow, "nothing", "1000 allow tcp 11211 from regions DE, FR")
	geo.Maybe, geo.Doubt, geo.Cause = set("tcp/11211 from 0.0.0.0/0"), cloud.Dynamic, "region_codes"
	network := s.list("network", "default", "default",
		s.rule("firewall", "allow-all-tcp", cloud.Allow, "tcp from 0.0.0.0/0", "1000 allow tcp from 0.0.0.0/0"),
		s.rule("firewall", "allow-all-udp", cloud.Allow, "udp from 0.0.0.0/0", "1000 allow udp from 0.0.0.0/0"))
	other := s.list("network", "geo", "geo", geo)
	firewall := func(lists ...*cloud.List) cloud.Layer {
		return cloud.Layer{Name: "firewall", Kind: cloud.Firewall, Lists: lists}
	}
	s.endpoint("instance", "4411", "vm-1", firewall(policy, network)).Addr = netip.MustParseAddr("34.90.1.1")
	s.endpoint("instance", "4412", "vm-geo", firewall(policy, other)).Addr = netip.MustParseAddr("34.90.1.2")
	return s.Snapshot
}

func ocean() *cloud.Snapshot {
	s := newScene("do", "team-7f", "")
	edge := s.list("platform", "edge", "")
	block := cloud.Layer{Name: "platform_block", Kind: cloud.Platform, Lists: []*cloud.List{edge}}
	none := &cloud.List{Ref: s.Scope.Ref("firewall", "none"), Rules: []cloud.Rule{{
		Ref: s.Scope.Ref("firewall-rule", "none"), Verdict: cloud.Allow, Match: traffic.All(), Implied: true, Text: "no firewall: everything is admitted",
	}}}
	open := s.list("firewall", "fw-1", "web",
		s.rule("firewall-rule", "fw-1#0", cloud.Allow, "tcp/11211 from 0.0.0.0/0, ::/0", "tcp 11211 from 0.0.0.0/0, ::/0"))
	firewall := func(lists ...*cloud.List) cloud.Layer {
		return cloud.Layer{Name: "firewall", Kind: cloud.Firewall, Lists: lists}
	}
	s.endpoint("droplet", "3001", "bare", block, firewall(none)).Addr = netip.MustParseAddr("159.65.1.1")
	s.endpoint("droplet", "3002", "guarded", block, firewall(open)).Addr = netip.MustParseAddr("159.65.1.2")
	s.Gaps = []cloud.Gap{{
		Subject: "GET /v2/load_balancers", Cause: "403 You are not authorized to perform this operation",
		Hint: "give the token the scope load_balancer:read",
	}}
	return s.Snapshot
}

// hostile is a scope in which everything that may be named has a name that tries to break out of the output.
func hostile() *cloud.Snapshot {
	s := newScene("gcp", "hostile-project", "")
	for i, name := range slices.Backward(Hostile()) {
		r := s.rule("firewall", name, cloud.Allow, "tcp/11211 from 0.0.0.0/0", "tcp 11211 from "+name)
		r.Name = name
		twin := s.rule("firewall", fmt.Sprintf("twin-%d", i), cloud.Allow, "tcp/11211 from 0.0.0.0/0", name)
		l := s.list("network", name, name, r, twin)
		e := s.endpoint("instance", name, name, cloud.Layer{Name: "firewall", Kind: cloud.Firewall, Lists: []*cloud.List{l}})
		e.Instance, e.Assumes, e.Via = name, []string{name}, s.Scope.Ref("forwarding-rule", name)
		e.Hops[0].Name = name
		e.Addr = netip.AddrFrom4([4]byte{35, 1, 1, byte(i + 1)})
		s.Gaps = append(s.Gaps, cloud.Gap{Subject: name, Cause: name, Hint: name})
	}
	dark := s.endpoint("instance", "dark", "dark", cloud.Layer{Name: "firewall", Kind: cloud.Firewall, Lists: []*cloud.List{s.list("network", "dark", "dark", cloud.Rule{
		Ref: s.Scope.Ref("firewall", "dark"), Verdict: cloud.Allow, Maybe: set("tcp/11211 from 0.0.0.0/0"), Doubt: cloud.Unread,
		Cause: Hostile()[0], Hint: Hostile()[1], Text: Hostile()[2],
	})}})
	dark.Addr, dark.Host = netip.Addr{}, Hostile()[3]
	return s.Snapshot
}

// Renamed returns a report in which everything that a cloud says is text.
func Renamed(text string) *findings.Report {
	scope := cloud.Scope{Provider: "gcp", Account: text, Region: text}
	return &findings.Report{
		Scopes: []findings.Scope{{Scope: scope, Endpoints: 1, Gaps: []cloud.Gap{{Subject: text, Cause: text, Hint: text}}}},
		Exposures: []findings.Exposure{{
			Provider: "gcp", Account: text, Region: text, Resource: findings.Resource{Type: text, ID: text, Name: text, Instance: text},
			Address: text, Family: 4, Protocol: "tcp", Port: 11211, FrontPort: 443, Via: text, Verdict: cloud.Reachable, Coverage: cloud.World, Share: 1,
			AdmittedBy: []string{text}, Assumes: []string{text}, Stage: text, Reason: text, Hint: text,
		}},
		Findings: []findings.Finding{
			{
				RuleID: findings.ReachableFromInternet, Level: findings.Error, Message: text, Fingerprint: "0", Scope: scope, Exposures: []int{0}, With: []string{text},
				Subject:  findings.Subject{Provider: "gcp", Scope: text, Type: text, ID: text + "1", Name: text, List: text + "2", ListName: text, Text: text},
				Location: &findings.Location{File: text, Line: 1},
				Path:     []findings.Step{{Stage: text, Text: text}},
				Fixes:    []findings.Fix{{Name: text, List: text, Changes: 1, Commands: []string{text}, Proof: []string{text}, Loss: text, Flag: text, Closes: []string{"0"}}},
			},
			{
				RuleID: text, Level: findings.Warning, Message: text, Fingerprint: "1", Scope: scope,
				Subject: findings.Subject{Provider: "gcp", Scope: text, Type: text, ID: text, List: text},
				NoFix:   &findings.NoFix{Reason: text, Instead: text},
			},
		},
		Repair: &findings.Repair{Plan: text, Journal: text, Error: text, Results: []findings.Repaired{{
			State: "failed", Reason: text, List: findings.Subject{Type: text, ID: text, Name: text},
			Findings: []findings.Brief{{RuleID: text, Subject: findings.Subject{ID: text}}},
		}}},
	}
}

// Compared returns Report as it stands against an earlier report: its first finding is new, the second is ignored, one of
// the earlier report is gone, and one of a scope that cannot be read any more is carried on.
func Compared() *findings.Report {
	now, old := Report(), Report()
	why := &findings.Suppression{Reason: "partner <b>" + Hostile()[0], Expires: "2030-01-31", At: &findings.Location{File: "cloudaudit.yaml", Line: 7}}
	now.Findings[1].Suppressed, old.Findings[1].Suppressed = why, why
	gone := old.Findings[3]
	gone.Fingerprint, gone.Exposures, gone.Message = "gone", []int{}, "The finding that is gone."
	gone.Scope = cloud.Scope{Provider: "aws", Account: "111122223333", Region: "eu-north-1"}
	carried := gone
	carried.Fingerprint, carried.Message, carried.Scope.Region = "carried", "The finding that is carried on.", "us-east-1"
	old.Findings = append(old.Findings[1:], gone, carried)
	now.Since(old)
	return now
}
