package findings_test

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/cloudaudit/cloudaudit/cloud"
	"github.com/cloudaudit/cloudaudit/findings"
	"github.com/cloudaudit/cloudaudit/traffic"
)

var scope = cloud.Scope{Provider: "aws", Account: "111122223333", Region: "eu-west-1"}

// rule reads "ID VERDICT SET"; a doubtful one is "ID VERDICT maybe DOUBT SET".
func rule(t testing.TB, text string) cloud.Rule {
	t.Helper()
	id, rest, _ := strings.Cut(text, " ")
	verdict, set, _ := strings.Cut(rest, " ")
	r := cloud.Rule{Ref: scope.Ref("security-group-rule", id)}
	if err := r.Verdict.UnmarshalText([]byte(verdict)); err != nil {
		t.Fatal(err)
	}
	into := &r.Match
	if doubt, ok := strings.CutPrefix(set, "maybe "); ok {
		var name string
		name, set, _ = strings.Cut(doubt, " ")
		r.Doubt, r.Cause, r.Hint = cloud.Doubt(name), "prefix_list_unreadable", "grant ec2:GetManagedPrefixListEntries."
		into = &r.Maybe
	}
	var err error
	if *into, err = traffic.Parse(set); err != nil {
		t.Fatal(err)
	}
	return r
}

func group(t testing.TB, id string, rules ...string) *cloud.List {
	t.Helper()
	l := &cloud.List{Ref: scope.Ref("security-group", id)}
	for _, text := range rules {
		l.Rules = append(l.Rules, rule(t, text))
	}
	return l
}

func behind(lists ...*cloud.List) []cloud.Layer {
	return []cloud.Layer{{Name: "security_group", Kind: cloud.Firewall, Lists: lists}}
}

// public returns an endpoint with a public address: eni-N at 54.84.1.N.
func public(n int, layers ...cloud.Layer) cloud.Endpoint {
	return cloud.Endpoint{
		Ref: scope.Ref("network-interface", fmt.Sprintf("eni-%d", n)), Family: traffic.V4, Public: true,
		Addr: netip.AddrFrom4([4]byte{54, 84, 1, byte(n)}), Hops: []cloud.Hop{{Layers: layers}},
	}
}

// find judges one snapshot for tcp and udp 11211, and checks what is true of every report.
func find(t testing.TB, lists []*cloud.List, endpoints ...cloud.Endpoint) *findings.Report {
	t.Helper()
	return findAll(t, &cloud.Snapshot{Scope: scope, Lists: lists, Endpoints: endpoints})
}

func findAll(t testing.TB, snapshots ...*cloud.Snapshot) *findings.Report {
	t.Helper()
	r := findings.Find(cloud.Question{Ports: []uint16{11211}}, snapshots)
	for _, x := range r.Exposures {
		oneSentence(t, x.Reason)
	}
	seen := map[string]bool{}
	for _, f := range r.Findings {
		oneSentence(t, f.Message)
		for _, s := range f.Path {
			oneSentence(t, s.Text)
		}
		check, ok := findings.CheckOf(f.RuleID)
		if !ok || check.Level != f.Level {
			t.Errorf("finding %s of level %s: check is %+v", f.RuleID, f.Level, check)
		}
		if seen[f.Fingerprint] || len(f.Fingerprint) != 32 {
			t.Errorf("the fingerprint %q is another finding's, or too short", f.Fingerprint)
		}
		seen[f.Fingerprint] = true
		if f.Exposures == nil || f.With == nil || !slices.IsSorted(f.With) {
			t.Errorf("%s: exposures %v, with %v", f.Subject.ID, f.Exposures, f.With)
		}
		if (len(f.Exposures) == 0) != (f.RuleID == findings.OpenRuleLatent) {
			t.Errorf("%s about %s has %d exposures", f.RuleID, f.Subject.ID, len(f.Exposures))
		}
		if (len(f.Path) == 0) != (len(f.Exposures) == 0) {
			t.Errorf("%s about %s has a path of %d steps for %d exposures", f.RuleID, f.Subject.ID, len(f.Path), len(f.Exposures))
		}
	}
	return r
}

var inQuotes = regexp.MustCompile(`'[^']*'|\([^)]*\)`)

// oneSentence fails unless text is one: a capital, one full stop, which ends it, and no name that is missing.
func oneSentence(t testing.TB, text string) {
	t.Helper()
	bare := inQuotes.ReplaceAllString(text, "NAME")
	if text == "" || strings.ToUpper(bare[:1]) != bare[:1] || !strings.HasSuffix(bare, ".") || strings.HasSuffix(bare, "..") ||
		strings.Contains(bare, ". ") || strings.ContainsAny(bare, "\n!?") || strings.Contains(text, "''") || strings.Contains(text, "  ") ||
		strings.Contains(bare, " .") {
		t.Errorf("not one sentence: %q", text)
	}
}

// summary lists findings as "CHECK SUBJECT with OTHERS of ADDRESSES", with ! for a rule that suffices alone.
func summary(r *findings.Report) string {
	var out []string
	for _, f := range r.Findings {
		line := f.RuleID + " " + f.Subject.ID
		if f.Alone {
			line += "!"
		}
		if len(f.With) > 0 {
			line += " with " + strings.Join(f.With, ",")
		}
		var at []string
		for _, i := range f.Exposures {
			x := r.Exposures[i]
			at = append(at, x.Protocol+" "+x.Address)
		}
		if len(at) > 0 {
			line += " of " + strings.Join(at, ", ")
		}
		out = append(out, line)
	}
	return strings.Join(out, "\n")
}

const (
	world   = "tcp/11211 from 0.0.0.0/0"
	partner = "tcp/11211 from 8.8.8.0/24"
	all     = "all from 0.0.0.0/0, ::/0"
)

func TestFind(t *testing.T) {
	layer := func(name string, kind cloud.Kind, rules ...string) cloud.Layer {
		return cloud.Layer{Name: name, Kind: kind, Lists: []*cloud.List{group(t, name, rules...)}}
	}
	silent := layer("nacl_in", cloud.Filter, "n allow "+all)
	silent.Stateless, silent.ReplyName = true, "nacl_out"
	block := layer("do_platform_block", cloud.Platform, "p deny "+all)
	implied := func() cloud.Layer {
		l := layer("security_group", cloud.Firewall, "none allow "+all)
		l.Lists[0].Rules[0].Implied = true
		return l
	}
	plus := func(l cloud.Layer, more []cloud.Layer) []cloud.Layer { return append([]cloud.Layer{l}, more...) }
	for _, c := range []struct {
		name  string
		group *cloud.List
		ends  func(sg []cloud.Layer) []cloud.Endpoint
		want  string
		says  string // part of the first message
	}{
		{
			name: "one finding a rule, with every endpoint as evidence", group: group(t, "sg-1", "sgr-1 allow all from 0.0.0.0/0"),
			ends: func(sg []cloud.Layer) []cloud.Endpoint { return []cloud.Endpoint{public(2, sg...), public(1, sg...)} },
			want: "CA102 sgr-1! of tcp 54.84.1.1, udp 54.84.1.1, tcp 54.84.1.2, udp 54.84.1.2",
			says: "Security group rule 'sgr-1' of 'sg-1' admits 100 % of the internet to tcp/11211 and udp/11211 of '54.84.1.1' and '54.84.1.2'.",
		},
		{
			name: "halves are the world, and both are named", group: group(t, "sg-1", "a allow tcp/11211 from 0.0.0.0/1", "b allow tcp/11211 from 128.0.0.0/1"),
			ends: func(sg []cloud.Layer) []cloud.Endpoint { return []cloud.Endpoint{public(1, sg...)} },
			want: "CA102 a with b of tcp 54.84.1.1\nCA102 b with a of tcp 54.84.1.1",
			says: "; so does 'b'.",
		},
		{
			name: "a partner beside the world", group: group(t, "sg-1", "a allow "+partner, "b allow "+world),
			ends: func(sg []cloud.Layer) []cloud.Endpoint { return []cloud.Endpoint{public(1, sg...)} },
			want: "CA102 b! with a of tcp 54.84.1.1\nCA110 a with b of tcp 54.84.1.1",
		},
		{
			name: "a partner beside a wide range", group: group(t, "sg-1", "a allow "+partner, "b allow tcp from 8.0.0.0/7"),
			ends: func(sg []cloud.Layer) []cloud.Endpoint { return []cloud.Endpoint{public(1, sg...)} },
			want: "CA106 b! with a of tcp 54.84.1.1\nCA110 a with b of tcp 54.84.1.1",
		},
		{
			name: "a wide range beside the world", group: group(t, "sg-1", "a allow tcp from 8.0.0.0/7", "b allow "+world),
			ends: func(sg []cloud.Layer) []cloud.Endpoint { return []cloud.Endpoint{public(1, sg...)} },
			want: "CA102 b! with a of tcp 54.84.1.1\nCA106 a with b of tcp 54.84.1.1",
		},
		{
			name: "a wide range that the world needs, beside a partner", group: group(t, "sg-1", "a allow tcp from 0.0.0.0/1", "b allow tcp from 128.0.0.0/1", "c allow "+partner),
			ends: func(sg []cloud.Layer) []cloud.Endpoint { return []cloud.Endpoint{public(1, sg...)} },
			want: "CA102 a with b,c of tcp 54.84.1.1\nCA102 b with a,c of tcp 54.84.1.1\nCA110 c with a,b of tcp 54.84.1.1",
		},
		{
			name: "two protocols by two rules", group: group(t, "sg-1", "a allow "+world, "b allow udp from 0.0.0.0/0"),
			ends: func(sg []cloud.Layer) []cloud.Endpoint { return []cloud.Endpoint{public(1, sg...)} },
			want: "CA102 a! of tcp 54.84.1.1\nCA102 b! of udp 54.84.1.1",
		},
		{
			name: "a partner", group: group(t, "sg-1", "a allow "+partner),
			ends: func(sg []cloud.Layer) []cloud.Endpoint { return []cloud.Endpoint{public(1, sg...)} },
			want: "CA110 a! of tcp 54.84.1.1", says: "admits less than 0.1 % of the internet to tcp/11211 of '54.84.1.1'.",
		},
		{
			name: "a wide range", group: group(t, "sg-1", "a allow tcp from 0.0.0.0/1"),
			ends: func(sg []cloud.Layer) []cloud.Endpoint { return []cloud.Endpoint{public(1, sg...)} },
			want: "CA106 a! of tcp 54.84.1.1", says: "admits 56.",
		},
		{
			name: "region codes", group: group(t, "sg-1", "geo allow maybe dynamic "+world),
			ends: func(sg []cloud.Layer) []cloud.Endpoint { return []cloud.Endpoint{public(1, sg...)} },
			want: "CA106 geo! of tcp 54.84.1.1", says: "admits an unknown part of the internet to",
		},
		{
			name: "nothing else", group: group(t, "sg-1", "a allow tcp/80 from 0.0.0.0/0", "b allow tcp from 10.0.0.0/8"),
			ends: func(sg []cloud.Layer) []cloud.Endpoint { return []cloud.Endpoint{public(1, sg...)} },
		},

		// No firewall.
		{
			name: "no firewall", group: group(t, "sg-1"),
			ends: func([]cloud.Layer) []cloud.Endpoint { return []cloud.Endpoint{public(1, implied())} },
			want: "CA105 eni-1! of tcp 54.84.1.1, udp 54.84.1.1",
			says: "Network interface 'eni-1' is behind no firewall: tcp/11211 and udp/11211 of '54.84.1.1' are open to the internet.",
		},
		{
			name: "no firewall, and the provider's block", group: group(t, "sg-1"),
			ends: func([]cloud.Layer) []cloud.Endpoint { return []cloud.Endpoint{public(1, block, implied())} },
			want: "CA105 eni-1! of tcp 54.84.1.1, udp 54.84.1.1",
			says: "; only the provider's own block ('do_platform_block') keeps the internet away.",
		},
		{
			name: "not even a layer of one", group: group(t, "sg-1"),
			ends: func([]cloud.Layer) []cloud.Endpoint {
				return []cloud.Endpoint{public(1, layer("route", cloud.Mask, "r allow "+all))}
			},
			want: "CA105 eni-1! of tcp 54.84.1.1, udp 54.84.1.1",
			says: "Network interface 'eni-1' is behind no firewall",
		},
		{
			name: "no firewall at two addresses", group: group(t, "sg-1"),
			ends: func([]cloud.Layer) []cloud.Endpoint {
				a, b := public(1, implied()), public(1, implied())
				b.Addr, a.Name, b.Name = netip.MustParseAddr("54.84.1.9"), "web-1", "web-1"
				return []cloud.Endpoint{b, a}
			},
			want: "CA105 eni-1! of tcp 54.84.1.1, udp 54.84.1.1, tcp 54.84.1.9, udp 54.84.1.9",
			says: "Network interface 'web-1' (eni-1) is behind no firewall",
		},
		{
			name: "no firewall, as far as is known", group: group(t, "sg-1"),
			ends: func([]cloud.Layer) []cloud.Endpoint {
				return []cloud.Endpoint{public(1, layer("middlebox", cloud.Mask, "m allow maybe unread tcp from 0.0.0.0/0"), implied())}
			},
			want: "CA109 eni-1! of tcp 54.84.1.1",
			says: "Whether the internet reaches tcp/11211 of '54.84.1.1' is decided by 'prefix_list_unreadable': grant ec2:GetManagedPrefixListEntries.",
		},

		// The other verdicts.
		{
			name: "only the provider", group: group(t, "sg-1", "a allow "+world),
			ends: func(sg []cloud.Layer) []cloud.Endpoint { return []cloud.Endpoint{public(1, plus(block, sg)...)} },
			want: "CA107 a! of tcp 54.84.1.1", says: ", and only the provider's own block ('do_platform_block') keeps it away.",
		},
		{
			name: "only the provider, before a partner", group: group(t, "sg-1", "a allow "+partner),
			ends: func(sg []cloud.Layer) []cloud.Endpoint { return []cloud.Endpoint{public(1, plus(block, sg)...)} },
			want: "CA110 a! of tcp 54.84.1.1",
		},
		{
			name: "one way", group: group(t, "sg-1", "a allow "+world),
			ends: func(sg []cloud.Layer) []cloud.Endpoint { return []cloud.Endpoint{public(1, plus(silent, sg)...)} },
			want: "CA108 a! of tcp 54.84.1.1", says: ", and 'nacl_out' keeps replies in.",
		},
		{
			name: "one way, a wide range", group: group(t, "sg-1", "a allow tcp from 0.0.0.0/1"),
			ends: func(sg []cloud.Layer) []cloud.Endpoint { return []cloud.Endpoint{public(1, plus(silent, sg)...)} },
			want: "CA108 a! of tcp 54.84.1.1",
		},
		{
			name: "one way, a partner", group: group(t, "sg-1", "a allow "+partner),
			ends: func(sg []cloud.Layer) []cloud.Endpoint { return []cloud.Endpoint{public(1, plus(silent, sg)...)} },
			want: "CA110 a! of tcp 54.84.1.1",
		},
		{
			name: "undetermined", group: group(t, "sg-1", "pl allow maybe unsized "+world),
			ends: func(sg []cloud.Layer) []cloud.Endpoint { return []cloud.Endpoint{public(1, sg...)} },
			want: "CA109 pl! of tcp 54.84.1.1",
			says: "Security group rule 'pl' of 'sg-1' may admit the internet to tcp/11211 of '54.84.1.1', which 'prefix_list_unreadable' leaves in doubt: grant ec2:GetManagedPrefixListEntries.",
		},
		{
			name: "undetermined, and no rule to name", group: group(t, "sg-1"),
			ends: func([]cloud.Layer) []cloud.Endpoint {
				return []cloud.Endpoint{public(1, layer("carrier", cloud.Mask, "c allow maybe unsized "+world))}
			},
			want: "CA109 eni-1! of tcp 54.84.1.1", says: "Whether the internet reaches tcp/11211 of '54.84.1.1' is decided by",
		},

		// The strongest evidence decides, and the message speaks of it.
		{
			name: "reachable here, one way there", group: group(t, "sg-1", "a allow "+world),
			ends: func(sg []cloud.Layer) []cloud.Endpoint {
				return []cloud.Endpoint{public(1, plus(silent, sg)...), public(2, sg...)}
			},
			want: "CA102 a! of tcp 54.84.1.2, tcp 54.84.1.1",
		},
		{
			name: "a wide range here, one way there", group: group(t, "sg-1", "a allow "+world),
			ends: func(sg []cloud.Layer) []cloud.Endpoint {
				return []cloud.Endpoint{public(1, plus(layer("mask", cloud.Mask, "m allow tcp from 0.0.0.0/1"), sg)...), public(2, plus(silent, sg)...)}
			},
			want: "CA108 a! of tcp 54.84.1.2, tcp 54.84.1.1", says: ", and 'nacl_out' keeps replies in.",
		},
		{
			name: "few here, in doubt there", group: group(t, "sg-1", "a allow "+world),
			ends: func(sg []cloud.Layer) []cloud.Endpoint {
				return []cloud.Endpoint{
					public(1, plus(layer("mask", cloud.Mask, "m allow tcp from 8.8.8.0/24"), sg)...),
					public(2, plus(layer("middlebox", cloud.Mask, "m allow maybe unread "+all), sg)...),
				}
			},
			want: "CA109 a! of tcp 54.84.1.2, tcp 54.84.1.1", says: "which 'prefix_list_unreadable' leaves in doubt",
		},
		{
			name: "few here, only the provider there", group: group(t, "sg-1", "a allow "+world),
			ends: func(sg []cloud.Layer) []cloud.Endpoint {
				return []cloud.Endpoint{public(1, plus(layer("mask", cloud.Mask, "m allow tcp from 8.8.8.0/24"), sg)...), public(2, plus(block, sg)...)}
			},
			want: "CA107 a! of tcp 54.84.1.2, tcp 54.84.1.1", says: "the provider's own block ('do_platform_block')",
		},
		{
			name: "suffices here, and not there", group: group(t, "sg-1", "a allow "+world),
			ends: func(sg []cloud.Layer) []cloud.Endpoint {
				more := group(t, "sg-2", "b allow udp from 0.0.0.0/0", "c allow tcp/11211 from 0.0.0.0/0")
				return []cloud.Endpoint{public(1, sg...), public(2, behind(sg[0].Lists[0], more)...)}
			},
			want: "CA102 a! with c of tcp 54.84.1.1, tcp 54.84.1.2\nCA102 b! of udp 54.84.1.2\nCA102 c! with a of tcp 54.84.1.2",
		},

		{
			name: "suffices for its half here, and not for the world there", group: group(t, "sg-1", "a allow tcp from 0.0.0.0/1"),
			ends: func(sg []cloud.Layer) []cloud.Endpoint {
				return []cloud.Endpoint{public(1, sg...), public(2, behind(sg[0].Lists[0], group(t, "sg-2", "b allow tcp from 128.0.0.0/1"))...)}
			},
			want: "CA102 a with b of tcp 54.84.1.2, tcp 54.84.1.1\nCA102 b with a of tcp 54.84.1.2",
		},
		{
			name: "one half here, the other there", group: group(t, "sg-1", "a allow "+world),
			ends: func(sg []cloud.Layer) []cloud.Endpoint {
				return []cloud.Endpoint{
					public(1, plus(layer("mask", cloud.Mask, "m allow tcp from 0.0.0.0/1"), sg)...),
					public(2, plus(layer("mask", cloud.Mask, "m allow tcp from 128.0.0.0/1"), sg)...),
				}
			},
			want: "CA106 a! of tcp 54.84.1.1, tcp 54.84.1.2", says: "admits 100 % of the internet to",
		},
		{
			name: "all of IPv4, a little of IPv6", group: group(t, "sg-1", "a allow tcp from 0.0.0.0/0, 2600::/20"),
			ends: func(sg []cloud.Layer) []cloud.Endpoint {
				v6 := public(1, sg...)
				v6.Family, v6.Addr = traffic.V6, netip.MustParseAddr("2600::1")
				return []cloud.Endpoint{v6, public(1, sg...)}
			},
			want: "CA102 a! of tcp 54.84.1.1, tcp 2600::1", says: "admits 100 % of the internet to",
		},
		{
			name: "a thousandth", group: group(t, "sg-1", "a allow tcp from 8.0.0.0/10"),
			ends: func(sg []cloud.Layer) []cloud.Endpoint { return []cloud.Endpoint{public(1, sg...)} },
			want: "CA110 a! of tcp 54.84.1.1", says: "admits 0.113 % of the internet to",
		},
		{
			name: "two lists of countries", group: group(t, "sg-1", "g1 allow maybe dynamic "+world, "g2 allow maybe dynamic "+partner),
			ends: func(sg []cloud.Layer) []cloud.Endpoint { return []cloud.Endpoint{public(1, sg...)} },
			want: "CA106 g1! with g2 of tcp 54.84.1.1\nCA106 g2 with g1 of tcp 54.84.1.1",
		},
		{
			name: "reachable at an address that is not public", group: group(t, "sg-1", "a allow "+world),
			ends: func(sg []cloud.Layer) []cloud.Endpoint {
				e := public(1, sg...)
				e.Public = false
				return []cloud.Endpoint{e}
			},
			want: "CA102 a! of tcp 54.84.1.1",
		},

		// Latent rules.
		{
			name: "what stands for no rule is not latent", group: implied().Lists[0],
			ends: func([]cloud.Layer) []cloud.Endpoint { return nil },
		},
		{
			name: "behind nothing", group: group(t, "sg-1", "a allow all from 0.0.0.0/0", "b allow "+partner, "c allow tcp/80 from 0.0.0.0/0", "d deny "+all, "e allow tcp from 10.0.0.0/8"),
			ends: func([]cloud.Layer) []cloud.Endpoint { return nil },
			want: "CA101 a!", says: "Security group rule 'a' of 'sg-1' admits the internet to tcp/11211 and udp/11211, and no public endpoint is behind it today.",
		},
		{
			name: "IPv6 behind nothing", group: group(t, "sg-1", "a allow udp/11211 from ::/0", "b allow udp/11211 from 2600::/17"),
			ends: func([]cloud.Layer) []cloud.Endpoint { return nil },
			want: "CA101 a!", says: "admits the internet to udp/11211, and",
		},
		{
			name: "a wide range behind nothing", group: group(t, "sg-1", "a allow tcp from 8.0.0.0/8"),
			ends: func([]cloud.Layer) []cloud.Endpoint { return nil },
			want: "CA101 a!",
		},
		{
			name: "behind a private endpoint only", group: group(t, "sg-1", "a allow "+world),
			ends: func(sg []cloud.Layer) []cloud.Endpoint {
				e := public(1, plus(cloud.Layer{Name: "no_public_address", Kind: cloud.Mask}, sg)...)
				e.Addr, e.Public = netip.MustParseAddr("10.0.0.1"), false
				return []cloud.Endpoint{e}
			},
			want: "CA101 a!",
		},
		{
			name: "behind a blocked public endpoint", group: group(t, "sg-1", "a allow "+world),
			ends: func(sg []cloud.Layer) []cloud.Endpoint {
				return []cloud.Endpoint{public(1, plus(cloud.Layer{Name: "route", Kind: cloud.Mask}, sg)...)}
			},
		},
		{
			name: "a prefix list that cannot be read behind nothing", group: group(t, "sg-1", "pl allow maybe unsized "+world),
			ends: func([]cloud.Layer) []cloud.Endpoint { return nil },
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := find(t, []*cloud.List{c.group}, c.ends(behind(c.group))...)
			if got := summary(r); got != c.want {
				t.Errorf("found\n%s\nwant\n%s", got, c.want)
			}
			if c.says != "" && (len(r.Findings) == 0 || !strings.Contains(r.Findings[0].Message, c.says)) {
				t.Errorf("the message is not %q: %+v", c.says, r.Findings)
			}
		})
	}
}

func TestManyNarrowRulesAreTheWorld(t *testing.T) {
	var rules []string
	for i := range 512 {
		rules = append(rules, fmt.Sprintf("r-%d allow tcp/11211 from %d.%d.0.0/9", i, i/2, i%2*128))
	}
	sg := group(t, "sg-1", rules...)
	want := 0
	for _, r := range sg.Rules {
		sources := traffic.IntersectIPs(r.Match.Sources(), traffic.Internet())
		if traffic.IsEmptyIPs(sources) {
			continue
		}
		if c, _ := cloud.Cover(sources, traffic.V4); c != cloud.Narrow {
			t.Fatalf("%s is %s", r.Match, c)
		}
		want++
	}
	report := find(t, []*cloud.List{sg}, public(1, behind(sg)...))
	for _, f := range report.Findings {
		if f.RuleID != findings.ReachableFromInternet || len(f.With) != want-1 || f.Alone {
			t.Fatalf("%s of %s with %d others, want CA102 with %d", f.RuleID, f.Subject.ID, len(f.With), want-1)
		}
	}
	if len(report.Findings) != want {
		t.Errorf("%d findings, want %d", len(report.Findings), want)
	}
}

// A rule of another scope's list, as in a shared network, is covered by the endpoint that is behind it there.
func TestCoveredAcrossScopes(t *testing.T) {
	sg := group(t, "sg-1", "a allow "+world)
	other := cloud.Scope{Provider: "aws", Account: "444455556666", Region: "eu-west-1"}
	owner := &cloud.Snapshot{Scope: scope, Lists: []*cloud.List{sg}}
	user := &cloud.Snapshot{Scope: other, Endpoints: []cloud.Endpoint{public(1, behind(sg)...)}}
	if got, want := summary(findAll(t, owner, user)), "CA102 a! of tcp 54.84.1.1"; got != want {
		t.Errorf("found\n%s\nwant\n%s", got, want)
	}
}

func TestExposure(t *testing.T) {
	sg := group(t, "sg-1", "a allow tcp/11211 from 0.0.0.0/1", "b allow tcp/11211 from 128.0.0.0/1")
	e := public(1, behind(sg)...)
	e.Name, e.Instance, e.Assumes, e.Via = "cache-1", "i-1", []string{"vpc-block-public-access-off"}, scope.Ref("load-balancer", "lb-1")
	e.Hops = append([]cloud.Hop{{
		Name: "load balancer lb-1", Layers: []cloud.Layer{{Name: "front", Kind: cloud.Filter, Lists: []*cloud.List{group(t, "lb", "f allow "+all)}}},
		Forward: []cloud.Forward{{Front: traffic.TCP.Port(443), Target: traffic.TCP.Port(11211)}},
	}}, e.Hops...)
	r := find(t, []*cloud.List{sg}, e)
	want := []findings.Exposure{{
		Provider: "aws", Account: "111122223333", Region: "eu-west-1",
		Resource: findings.Resource{Type: "network-interface", ID: "eni-1", Name: "cache-1", Instance: "i-1"},
		Address:  "54.84.1.1", Family: 4, Protocol: "tcp", Port: 11211, FrontPort: 443, Via: "lb-1",
		Verdict: cloud.Reachable, Coverage: cloud.World, Share: 1,
		AdmittedBy: []string{"a", "b"}, Assumes: []string{"vpc-block-public-access-off"}, Reason: "Admitted by 'a' and 'b'.",
	}}
	if diff := cmp.Diff(want, r.Exposures); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	f := r.Findings[0]
	if !strings.Contains(f.Message, "to tcp/11211 of '54.84.1.1' port 443;") {
		t.Errorf("the message does not say where: %s", f.Message)
	}
	var path []string
	for _, s := range f.Path {
		path = append(path, s.Stage+": "+s.Text)
	}
	wantPath := []string{
		"internet: A packet from the IPv4 internet is sent to '54.84.1.1', tcp/443.",
		"front: Admits tcp/443 at 'load balancer lb-1' by 'f'.",
		"security_group: Admits tcp/11211 by 'a' and 'b'.",
		"endpoint: It arrives at 'cache-1' as tcp/11211.",
	}
	if diff := cmp.Diff(wantPath, path); diff != "" {
		t.Errorf("path: -want +got:\n%s", diff)
	}
}

// The path to what only the provider keeps away leads past its block, to what the firewall says.
func TestPathPastTheProvidersBlock(t *testing.T) {
	sg := group(t, "sg-1", "a allow "+world)
	block := cloud.Layer{Name: "block", Kind: cloud.Platform, Lists: []*cloud.List{group(t, "block", "p deny "+all)}}
	r := find(t, []*cloud.List{sg}, public(1, append([]cloud.Layer{block}, behind(sg)...)...))
	var stages []string
	for _, s := range r.Findings[0].Path {
		stages = append(stages, s.Stage)
	}
	if want := []string{"internet", "block", "security_group", "endpoint"}; !slices.Equal(stages, want) {
		t.Errorf("the path is %v, want %v", stages, want)
	}
}

func TestScopes(t *testing.T) {
	sg := group(t, "sg-1", "a allow "+world, "b deny "+world)
	closed := group(t, "sg-2")
	private := public(3, behind(closed)...)
	private.Public = false
	gap := cloud.Gap{Subject: "ec2:DescribeNetworkAcls", Cause: "UnauthorizedOperation", Hint: "grant it"}
	other := cloud.Scope{Provider: "aws", Account: "111122223333", Region: "us-east-1"}
	r := findAll(t,
		&cloud.Snapshot{Scope: other, Gaps: []cloud.Gap{gap}, Skipped: true},
		&cloud.Snapshot{Scope: scope, Lists: []*cloud.List{sg, closed}, Endpoints: []cloud.Endpoint{public(1, behind(sg)...), public(2, behind(closed)...), private}},
	)
	want := []findings.Scope{
		{Scope: scope, Complete: true, Endpoints: 2, Blocked: 1, Rules: 2, Gaps: []cloud.Gap{}},
		{Scope: other, Interrupt: true, Gaps: []cloud.Gap{gap}},
	}
	if diff := cmp.Diff(want, r.Scopes); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if r.Complete {
		t.Error("a report with a gap is complete")
	}
	if r := findAll(t, &cloud.Snapshot{Scope: scope, Gaps: []cloud.Gap{gap}}, &cloud.Snapshot{Scope: other}); r.Complete {
		t.Error("a report with a gap in its first scope is complete")
	}
	if r := findAll(t, &cloud.Snapshot{Scope: scope}); !r.Complete {
		t.Error("a report without a gap is not complete")
	}
	if r := findAll(t); !r.Complete || r.Scopes == nil || r.Exposures == nil || r.Findings == nil {
		t.Errorf("the report of nothing is %+v", r)
	}
	if !slices.Equal(r.Ports, []uint16{11211}) {
		t.Errorf("asked for %v", r.Ports)
	}
}

func TestFingerprint(t *testing.T) {
	// fingerprint returns that of the only finding about a rule of a firewall.
	fingerprint := func(change func(l *cloud.List, s *cloud.Snapshot)) string {
		t.Helper()
		l := &cloud.List{Ref: scope.Ref("firewall", "fw-1"), Name: "web"}
		for i, set := range []string{"tcp/22 from 10.0.0.0/8", "tcp/80 from 0.0.0.0/0", world} {
			r := rule(t, fmt.Sprintf("fw-1#%d allow %s", i, set))
			r.Name, r.Text = "memcached", set
			l.Rules = append(l.Rules, r)
		}
		s := &cloud.Snapshot{Scope: scope, Lists: []*cloud.List{l}, Endpoints: []cloud.Endpoint{public(1, behind(l)...)}}
		change(l, s)
		r := findAll(t, s)
		if len(r.Findings) != 1 {
			t.Fatalf("found %s, want one finding", summary(r))
		}
		return r.Findings[0].Fingerprint
	}
	last := func(l *cloud.List) *cloud.Rule { return &l.Rules[len(l.Rules)-1] }
	was := fingerprint(func(*cloud.List, *cloud.Snapshot) {})
	for name, change := range map[string]func(*cloud.List, *cloud.Snapshot){
		"a new name": func(l *cloud.List, _ *cloud.Snapshot) { l.Name, last(l).Name, last(l).Text = "x", "y", "z" },
		"another place in the list": func(l *cloud.List, _ *cloud.Snapshot) {
			l.Rules = append(l.Rules[:1:1], l.Rules[2:]...)
			last(l).Ref.ID = "fw-1#1"
		},
		"another order":  func(l *cloud.List, _ *cloud.Snapshot) { slices.Reverse(l.Rules) },
		"more evidence":  func(l *cloud.List, s *cloud.Snapshot) { s.Endpoints = append(s.Endpoints, public(2, behind(l)...)) },
		"other evidence": func(l *cloud.List, s *cloud.Snapshot) { s.Endpoints[0] = public(7, behind(l)...) },
		"another list in the scope": func(_ *cloud.List, s *cloud.Snapshot) {
			s.Lists = append([]*cloud.List{group(t, "fw-0", "x allow tcp/22 from 0.0.0.0/0")}, s.Lists...)
		},
		"what is for the fix alone": func(l *cloud.List, _ *cloud.Snapshot) { last(l).Native = json.RawMessage(`{}`) },
	} {
		if got := fingerprint(change); got != was {
			t.Errorf("%s changes the fingerprint", name)
		}
	}
	seen := map[string]string{was: "nothing"}
	for name, change := range map[string]func(*cloud.List, *cloud.Snapshot){
		"other sources": func(l *cloud.List, _ *cloud.Snapshot) {
			last(l).Match = rule(t, "x allow tcp/11211 from 0.0.0.0/0, ::/0").Match
		},
		"other services": func(l *cloud.List, _ *cloud.Snapshot) {
			last(l).Match = rule(t, "x allow tcp/11000-12000 from 0.0.0.0/0").Match
		},
		"a doubt": func(l *cloud.List, _ *cloud.Snapshot) {
			last(l).Maybe, last(l).Doubt, last(l).Cause = rule(t, "x allow udp/53 from ::/0").Match, cloud.Unread, "c"
		},
		"another list":    func(l *cloud.List, _ *cloud.Snapshot) { l.Ref.ID = "fw-2" },
		"another rule":    func(l *cloud.List, _ *cloud.Snapshot) { last(l).Ref.ID = "fw-9#2" },
		"another kind":    func(l *cloud.List, _ *cloud.Snapshot) { last(l).Ref.Kind = "other" },
		"another account": func(l *cloud.List, _ *cloud.Snapshot) { last(l).Ref.Scope = "444455556666/eu-west-1" },
		"another cloud":   func(l *cloud.List, _ *cloud.Snapshot) { last(l).Ref.Provider = "do" },
		"another check":   func(_ *cloud.List, s *cloud.Snapshot) { s.Endpoints = nil },
	} {
		got := fingerprint(change)
		if seen[got] != "" {
			t.Errorf("%s gives the fingerprint of %s", name, seen[got])
		}
		seen[got] = name
	}
}

// TestSameSnapshotsSameBytes shuffles what has no order of its own.
func TestSameSnapshotsSameBytes(t *testing.T) {
	block := cloud.Layer{Name: "block", Kind: cloud.Platform, Lists: []*cloud.List{group(t, "block", "p deny udp from 0.0.0.0/0")}}
	var snapshots []*cloud.Snapshot
	for n, region := range []string{"eu-west-1", "us-east-1"} {
		s := &cloud.Snapshot{Scope: cloud.Scope{Provider: "aws", Account: "1", Region: region}, Gaps: make([]cloud.Gap, n%2)}
		for g := range 3 {
			s.Lists = append(s.Lists, group(t, fmt.Sprintf("sg-%d-%d", n, g),
				fmt.Sprintf("a-%d-%d allow tcp/11211 from 0.0.0.0/1", n, g), fmt.Sprintf("b-%d-%d allow all from 128.0.0.0/1", n, g),
				fmt.Sprintf("c-%d-%d allow maybe unsized udp from 0.0.0.0/0", n, g), fmt.Sprintf("d-%d-%d allow %s", n, g, partner)))
		}
		for e := range 4 {
			layers := behind(s.Lists[e%3], s.Lists[(e+1)%3])
			if e%2 == 0 {
				layers = append(layers, block)
			}
			s.Endpoints = append(s.Endpoints, public(10*n+e, layers...))
		}
		snapshots = append(snapshots, s)
	}
	bytes := func(snapshots []*cloud.Snapshot) string {
		data, err := json.Marshal(findAll(t, snapshots...))
		if err != nil {
			t.Fatal(err)
		}
		return string(data)
	}
	want := bytes(snapshots)
	if got := bytes(snapshots); got != want {
		t.Fatal("the same snapshots give other bytes")
	}
	rapid.Check(t, func(t *rapid.T) {
		var shuffled []*cloud.Snapshot
		for _, s := range rapid.Permutation(snapshots).Draw(t, "snapshots") {
			c := *s
			c.Lists = rapid.Permutation(s.Lists).Draw(t, "lists")
			c.Endpoints = nil
			for _, i := range rapid.Permutation([]int{0, 1, 2, 3}).Draw(t, "endpoints") {
				c.Endpoints = append(c.Endpoints, s.Endpoints[i])
			}
			shuffled = append(shuffled, &c)
		}
		if got := bytes(shuffled); got != want {
			t.Fatalf("the order shows (-want +got):\n%s", cmp.Diff(want, got))
		}
	})
}
