package cloud_test

import (
	"bytes"
	"encoding/json"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/cloudaudit/cloudaudit/cloud"
	"github.com/cloudaudit/cloudaudit/traffic"
)

func encoded(t interface{ Fatal(...any) }, s *cloud.Snapshot) string {
	var b bytes.Buffer
	if err := cloud.WriteSnapshots(&b, []*cloud.Snapshot{s}); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// TestUndoRestoresTheModel: in any world, an edit that replaces rules of a list by others, some with the ids of old ones,
// changes every copy of the list; its inverse restores the world to the byte; and the world it was applied to stays as is.
func TestUndoRestoresTheModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := drawWorld(t)
		list := s.Lists[rapid.IntRange(0, len(s.Lists)-1).Draw(t, "list")]
		same := 0 // lists without rules get the id of the next one
		for _, l := range s.Lists {
			if l.Ref == list.Ref {
				same++
			}
		}
		if len(list.Rules) == 0 || same > 1 {
			return
		}
		e := cloud.Edit{List: list.Ref}
		at := rapid.IntRange(0, len(list.Rules)-1).Draw(t, "rule")
		e.Old = append(e.Old, list.Rules[at])
		shrunk := list.Rules[at]
		shrunk.Native, shrunk.Match = json.RawMessage(`{"shrunk":true}`), traffic.Of(traffic.Internet(), 7, 9)
		extra := shrunk
		extra.Ref.ID, extra.Native = "extra", json.RawMessage(`{"extra":true}`)
		e.New = append(e.New, shrunk, extra)
		if rapid.Bool().Draw(t, "insert") {
			e.Old, e.New, e.At = nil, e.New[1:], list.Rules[at].Ref
		}
		before := encoded(t, s)
		after := s.With(e)
		if encoded(t, s) != before {
			t.Fatal("the world that the edit was applied to has changed")
		}
		if encoded(t, after) == before {
			t.Fatal("the edit changed nothing")
		}
		for _, endpoint := range after.Endpoints {
			for _, hop := range endpoint.Hops {
				for _, layer := range hop.Layers {
					for _, l := range layer.Lists {
						if l.Ref == list.Ref && !slices.ContainsFunc(l.Rules, func(r cloud.Rule) bool { return r.Ref.ID == "extra" }) {
							t.Fatal("a copy in a layer did not take the edit")
						}
					}
				}
			}
		}
		if diff := cmp.Diff(before, encoded(t, after.With(e.Inverse()))); diff != "" {
			t.Fatal(diff)
		}
		var again cloud.Edit
		text, err := json.Marshal(e)
		if err != nil || json.Unmarshal(text, &again) != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(encoded(t, after), encoded(t, s.With(again))); diff != "" {
			t.Fatalf("the edit changed on its way through JSON:\n%s", diff)
		}
	})
}

func rule(id string, verdict cloud.Verdict) cloud.Rule {
	return cloud.Rule{
		Ref: cloud.Ref{Kind: "rule", ID: id}, Verdict: verdict, Match: traffic.Of(traffic.Internet(), 1, 2),
		Native: json.RawMessage(`{"name":"` + id + `"}`),
	}
}

func ids(l *cloud.List) (out []string) {
	for _, r := range l.Rules {
		out = append(out, r.Ref.ID)
	}
	return out
}

// TestCopiesOfOneList: parts take the rules of their verdict; copies for one endpoint take a new rule if they hold the one
// that it stands before, and only then.
func TestCopiesOfOneList(t *testing.T) {
	ref := cloud.Ref{Kind: "firewall", ID: "fw"}
	a, b := rule("a", cloud.Allow), rule("b", cloud.Allow)
	whole := &cloud.List{Ref: ref, Rules: []cloud.Rule{a, b}}
	layers := []cloud.Layer{{Kind: cloud.Firewall, Lists: []*cloud.List{
		{Ref: ref, Part: cloud.Denies},
		{Ref: ref, Part: cloud.Allows, Rules: []cloud.Rule{a, b}},
		{Ref: ref, Rules: []cloud.Rule{a}},
		{Ref: ref, Rules: []cloud.Rule{b}},
		{Ref: cloud.Ref{Kind: "firewall", ID: "other"}, Rules: []cloud.Rule{a}},
	}}}
	s := &cloud.Snapshot{Lists: []*cloud.List{whole}, Endpoints: []cloud.Endpoint{{Family: traffic.V4, Hops: []cloud.Hop{{Layers: layers}}}}}
	of := func(s *cloud.Snapshot) [][]string {
		out := [][]string{ids(s.Lists[0])}
		for _, l := range s.Endpoints[0].Hops[0].Layers[0].Lists {
			out = append(out, ids(l))
		}
		return out
	}
	deny := cloud.Edit{List: ref, New: []cloud.Rule{rule("d", cloud.Deny)}, At: b.Ref}
	if diff := cmp.Diff([][]string{{"a", "d", "b"}, {"d"}, {"a", "b"}, {"a"}, {"d", "b"}, {"a"}}, of(s.With(deny))); diff != "" {
		t.Errorf("before b:\n%s", diff)
	}
	shrunk := rule("a", cloud.Allow)
	shrunk.Native = json.RawMessage(`{"name":"a","less":true}`)
	shrink := cloud.Edit{List: ref, Old: []cloud.Rule{a}, New: []cloud.Rule{rule("n", cloud.Allow), shrunk}}
	if diff := cmp.Diff([][]string{{"n", "a", "b"}, nil, {"n", "a", "b"}, {"n", "a"}, {"b"}, {"a"}}, of(s.With(shrink))); diff != "" {
		t.Errorf("in place of a:\n%s", diff)
	}
	if diff := cmp.Diff(of(s), of(s.With(deny).With(shrink).With(shrink.Inverse()).With(deny.Inverse()))); diff != "" {
		t.Errorf("undone:\n%s", diff)
	}
}

// TestGuard: an edit can put a list in front of what no list protects, and take it away again.
func TestGuard(t *testing.T) {
	none := &cloud.List{Ref: cloud.Ref{Kind: "firewall", ID: "none"}, Rules: []cloud.Rule{{Match: traffic.All(), Implied: true}}}
	one, two := cloud.Ref{Kind: "droplet", ID: "1"}, cloud.Ref{Kind: "droplet", ID: "2"}
	s := &cloud.Snapshot{}
	for _, ref := range []cloud.Ref{one, two} {
		s.Endpoints = append(s.Endpoints, cloud.Endpoint{
			Ref: ref, Family: traffic.V4, Addr: netip.MustParseAddr("54.84.1.2"), Public: true,
			Hops: []cloud.Hop{{Layers: []cloud.Layer{{Name: "l", Kind: cloud.Firewall, Lists: []*cloud.List{none}}}}},
		})
	}
	e := cloud.Edit{
		List: cloud.Ref{Kind: "firewall", ID: "new"}, New: []cloud.Rule{rule("a", cloud.Allow), rule("d", cloud.Deny)},
		Guard: &cloud.Guard{Name: "new", Endpoints: []cloud.Ref{two}, Was: none},
	}
	after := s.With(e)
	if len(after.Lists) != 1 || len(after.Lists[0].Rules) != 2 {
		t.Errorf("lists: %+v", after.Lists)
	}
	lists := func(i int) []*cloud.List { return after.Endpoints[i].Hops[0].Layers[0].Lists }
	if l := lists(0); len(l) != 1 || l[0] != none {
		t.Errorf("the other endpoint: %+v", l)
	}
	if l := lists(1); len(l) != 2 || !slices.Equal(ids(l[0]), []string{"d"}) || !slices.Equal(ids(l[1]), []string{"a"}) {
		t.Errorf("the endpoint: %+v", l)
	}
	if diff := cmp.Diff(encoded(t, s), encoded(t, after.With(e.Inverse()))); diff != "" {
		t.Errorf("undone:\n%s", diff)
	}
}

func TestIs(t *testing.T) {
	for _, test := range []struct {
		plan, cloud string
		want        bool
	}{
		{`{"a":[1,2]}`, `{"id":"x","a":[2,1]}`, true},
		{`{"a":[1,2]}`, `{"a":[1]}`, false},
		{`{"a":1,"action":"deny"}`, `{"a":1}`, false},
		{`{"s":{"x":[1],"y":2}}`, `{"s":{"y":2,"x":[1]}}`, true},
	} {
		r, s := cloud.Rule{Native: json.RawMessage(test.plan)}, cloud.Rule{Native: json.RawMessage(test.cloud)}
		if got := r.Is(&s); got != test.want {
			t.Errorf("%s is %s: %v", test.plan, test.cloud, got)
		}
	}
	a, b := rule("a", cloud.Allow), rule("b", cloud.Allow)
	if (&cloud.List{Rules: []cloud.Rule{a, b}}).Digest() != (&cloud.List{Rules: []cloud.Rule{b, a}}).Digest() {
		t.Error("the digest depends on the order")
	}
	if (&cloud.List{Rules: []cloud.Rule{a, b}}).Digest() == (&cloud.List{Rules: []cloud.Rule{a}}).Digest() {
		t.Error("the digest does not depend on the rules")
	}
}
