package findings_test

import (
	"bytes"
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/cloudaudit/cloudaudit/cloud"
	"github.com/cloudaudit/cloudaudit/findings"
	"github.com/cloudaudit/cloudaudit/findings/findingstest"
	"github.com/cloudaudit/cloudaudit/findings/jsonreport"
	"github.com/cloudaudit/cloudaudit/traffic"
)

// organization returns projects that have the rules of a policy of their organization in common: a rule is wide open in
// one, shut by a tag in another, and in front of nothing in a third.
func organization(draw func(n int) int) []*cloud.Snapshot {
	policy := func(kind, id, match string) cloud.Rule {
		s, err := traffic.Parse(match)
		if err != nil {
			panic(err) // the matches are constant
		}
		return cloud.Rule{Ref: cloud.Ref{Provider: "gcp", Scope: "organization", Kind: kind, ID: id}, Match: s, Text: match}
	}
	rules := []cloud.Rule{
		policy("firewall-policy-rule", "base/1", "tcp/11211 from 0.0.0.0/1"),
		policy("firewall-policy-rule", "base/2", "tcp/11211 from 128.0.0.0/1; udp/11211 from 0.0.0.0/0"),
		policy("firewall-policy-rule", "base/3", "tcp/11211 from 8.8.4.0/24"),
		policy("firewall-policy-rule", "base/4", "tcp/11211 from 0.0.0.0/0, ::/0"),
	}
	var out []*cloud.Snapshot
	for i := range 5 {
		s := &cloud.Snapshot{Scope: cloud.Scope{Provider: "gcp", Account: fmt.Sprintf("project-%d", i)}}
		list := &cloud.List{Ref: cloud.Ref{Provider: "gcp", Scope: "organization", Kind: "firewall-policy", ID: "base"}, Rules: rules}
		s.Lists = []*cloud.List{list}
		for j := range draw(3) {
			of := &cloud.List{Ref: list.Ref}
			for _, r := range rules {
				if draw(2) == 0 {
					of.Rules = append(of.Rules, r)
				}
			}
			layers := []cloud.Layer{{Name: "firewall", Kind: cloud.Firewall, Lists: []*cloud.List{of}}}
			switch draw(4) {
			case 0:
				layers = append(layers, cloud.Layer{Name: "no_route", Kind: cloud.Mask})
			case 1:
				layers = append([]cloud.Layer{{Name: "edge", Kind: cloud.Platform}}, layers...)
			case 2: // a part of what the policy admits, and not the same part for all
				some := policy("filter-rule", "some", fmt.Sprintf("all from %d.0.0.0/3", 32+32*draw(3)))
				layers = append(layers, cloud.Layer{Name: "filter", Kind: cloud.Filter, Lists: []*cloud.List{{Rules: []cloud.Rule{some}}}})
			}
			ref := s.Scope.Ref("instance", fmt.Sprint("vm-", j))
			s.Endpoints = append(s.Endpoints, cloud.Endpoint{
				Ref: ref, Family: traffic.V4, Addr: netip.AddrFrom4([4]byte{34, 1, byte(i), byte(j)}), Public: true,
				Hops: []cloud.Hop{{Ref: ref, Layers: layers}},
			})
		}
		if draw(8) == 0 {
			s.Gaps = []cloud.Gap{{Subject: "compute.networks.list", Cause: "403"}}
		}
		out = append(out, s)
	}
	return out
}

func document(t interface {
	Helper()
	Fatal(args ...any)
}, r *findings.Report,
) string {
	t.Helper()
	var b bytes.Buffer
	if err := jsonreport.Write(&b, r); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// again returns r as it is read from its JSON form.
func again(t interface {
	Helper()
	Fatal(args ...any)
}, r *findings.Report,
) *findings.Report {
	t.Helper()
	out, err := jsonreport.Read(bytes.NewBufferString(document(t, r)))
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// TestMergeIsOneRun: the reports of the parts, written and read and in any order, are the report of the whole.
func TestMergeIsOneRun(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		snapshots := append(organization(func(n int) int { return rapid.IntRange(0, n-1).Draw(t, "choice") }), findingstest.Snapshots()...)
		of := rapid.IntRange(1, 5).Draw(t, "of")
		var parts []*findings.Report
		for p := 1; p <= of; p++ {
			shard := &findings.Shard{Of: of, Parts: []int{p}}
			var mine []*cloud.Snapshot
			for _, s := range snapshots {
				if shard.Has(s.Scope) {
					mine = append(mine, s)
				}
			}
			r := findings.Find(findingstest.Question(), mine)
			r.Shard = shard
			parts = append(parts, again(t, r))
		}
		parts = rapid.Permutation(parts).Draw(t, "order")
		cut := rapid.IntRange(0, of-1).Draw(t, "cut")
		if cut > 0 { // a merged report can be merged again
			first, err := findings.Merge(parts[:cut])
			if err != nil {
				t.Fatal(err)
			}
			if first.Complete || len(first.Shard.Missing()) != of-cut {
				t.Fatalf("%d of %d shards: complete %v, missing %v", cut, of, first.Complete, first.Shard.Missing())
			}
			parts = append([]*findings.Report{again(t, first)}, parts[cut:]...)
		}
		got, err := findings.Merge(parts)
		if err != nil {
			t.Fatal(err)
		}
		want := document(t, findings.Find(findingstest.Question(), snapshots))
		if diff := cmp.Diff(want, document(t, got)); diff != "" {
			t.Fatalf("merged (-one run +merged):\n%s", diff)
		}
	})
}

func TestMergeRefuses(t *testing.T) {
	of := func(n, part int) *findings.Report {
		return &findings.Report{Complete: true, Ports: []uint16{11211}, Shard: &findings.Shard{Of: n, Parts: []int{part}}}
	}
	other := of(4, 2)
	other.Ports = []uint16{11214}
	block := of(4, 2)
	block.NoPlatformBlock = true
	for name, reports := range map[string][]*findings.Report{
		"nothing": {}, "ports": {of(4, 1), other}, "assumption": {of(4, 1), block}, "number": {of(4, 1), of(3, 2)},
	} {
		if _, err := findings.Merge(reports); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// TestMergeOfOneScope: a complete reading is taken before one that is not, and the later of two that are alike.
func TestMergeOfOneScope(t *testing.T) {
	find := func(change func(s *cloud.Snapshot)) *findings.Report {
		s := organization(func(n int) int { return (n - 1) / 2 * 2 })[0]
		change(s)
		return findings.Find(findingstest.Question(), []*cloud.Snapshot{s})
	}
	whole := find(func(*cloud.Snapshot) {})
	broken := find(func(s *cloud.Snapshot) {
		s.Endpoints, s.Lists, s.Gaps = nil, nil, []cloud.Gap{{Subject: "everything", Cause: "403"}}
	})
	for _, order := range [][]*findings.Report{{whole, broken}, {broken, whole}} {
		got, err := findings.Merge(order)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(document(t, whole), document(t, got)); diff != "" {
			t.Errorf("a complete and a broken reading (-complete +merged):\n%s", diff)
		}
	}
	later := find(func(s *cloud.Snapshot) { s.Endpoints = s.Endpoints[:1] })
	later.Run.Finished = later.Run.Finished.AddDate(1, 0, 0)
	for _, order := range [][]*findings.Report{{whole, later}, {later, whole}} {
		got, err := findings.Merge(order)
		if err != nil {
			t.Fatal(err)
		}
		if len(got.Exposures) != len(later.Exposures) || len(got.Exposures) == len(whole.Exposures) {
			t.Errorf("%d exposures, want those of the later report: %d", len(got.Exposures), len(later.Exposures))
		}
	}
}

func TestShard(t *testing.T) {
	for _, text := range []string{"", "1", "0/4", "5/4", "a/4", "1/b", "-1/4", "1/4/2", "1/99999999"} {
		if s, err := findings.ParseShard(text); err == nil {
			t.Errorf("%q is %v", text, s)
		}
	}
	count := map[int]int{}
	for i := range 4000 {
		scope := cloud.Scope{Provider: "aws", Account: fmt.Sprint(i), Region: "eu-west-1"}
		for p := 1; p <= 4; p++ {
			if s, err := findings.ParseShard(fmt.Sprintf("%d/4", p)); err != nil || !s.Valid() {
				t.Fatal(s, err)
			} else if s.Has(scope) {
				count[p]++
			}
		}
	}
	total := 0
	for p, n := range count {
		total += n
		if n < 900 {
			t.Errorf("shard %d has %d of 4000 scopes", p, n)
		}
	}
	if total != 4000 || len(count) != 4 {
		t.Errorf("%d scopes in %d shards", total, len(count))
	}
	// The share of a scope is a promise to machines of other versions.
	if s := (&findings.Shard{Of: 4, Parts: []int{1}}); !s.Has(cloud.Scope{Provider: "aws", Account: "111122223333", Region: "us-east-1"}) {
		t.Error("a scope has moved to another shard")
	}
	for _, s := range []*findings.Shard{{}, {Of: 4}, {Of: 4, Parts: []int{5}}, {Of: 4, Parts: []int{2, 1}}, {Of: 4, Parts: []int{0}}} {
		if s.Valid() {
			t.Errorf("%+v is valid", s)
		}
	}
	if got := (&findings.Shard{Of: 4, Parts: []int{1, 3}}).Missing(); !slices.Equal(got, []int{2, 4}) {
		t.Errorf("missing %v", got)
	}
}
