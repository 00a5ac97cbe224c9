package cloud_test

import (
	"bytes"
	"encoding/json"
	"net/netip"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/cloudaudit/cloudaudit/cloud"
	"github.com/cloudaudit/cloudaudit/traffic"
)

func written(t interface{ Fatal(...any) }, snapshots ...*cloud.Snapshot) string {
	var out bytes.Buffer
	if err := cloud.WriteSnapshots(&out, snapshots); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func read(t interface{ Fatal(...any) }, text string) []*cloud.Snapshot {
	snapshots, err := cloud.ReadSnapshots(strings.NewReader(text))
	if err != nil {
		t.Fatal(err, text)
	}
	return snapshots
}

// compare compares snapshots but for the difference between no elements and nil, which only Forward and Source make, and
// for the space in what an API gave.
func compare(a, b *cloud.Snapshot) string {
	kept := func(s *cloud.Snapshot) (nilness []bool) {
		for _, e := range s.Endpoints {
			for _, h := range e.Hops {
				nilness = append(nilness, h.Forward == nil, h.Source == nil)
			}
		}
		return nilness
	}
	raw := func(p cmp.Path) bool { return p.Last().Type() == reflect.TypeFor[json.RawMessage]() }
	return cmp.Diff(a, b, cmp.FilterPath(func(p cmp.Path) bool { return !raw(p) }, cmpopts.EquateEmpty()), cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{}), cmp.Comparer(traffic.Set.Equal),
		cmp.Comparer(func(a, b json.RawMessage) bool { return compact(a) == compact(b) })) + cmp.Diff(kept(a), kept(b))
}

func compact(raw json.RawMessage) string {
	var out bytes.Buffer
	if err := json.Compact(&out, raw); err != nil {
		return string(raw)
	}
	return out.String()
}

func TestSnapshotsReadBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := drawWorld(t)
		text := written(t, s, s)
		back := read(t, text)
		if len(back) != 2 {
			t.Fatalf("%d snapshots, want 2", len(back))
		}
		for _, again := range back {
			if diff := compare(s, again); diff != "" {
				t.Fatalf("-want +got:\n%s", diff)
			}
		}
		if again := written(t, back...); again != text {
			t.Fatalf("written again it differs:\n%s", cmp.Diff(text, again))
		}
		q := cloud.Question{Ports: []uint16{11211}}
		before, after := q.Judge(s), q.Judge(back[0])
		if len(before) != len(after) {
			t.Fatalf("%d answers, want %d", len(after), len(before))
		}
		for i := range before {
			if got, want := describe(after[i]), describe(before[i]); got != want {
				t.Fatalf("%s\nwant\n%s", got, want)
			}
		}
	})
}

func TestListsStandOnce(t *testing.T) {
	shared := &cloud.List{Ref: cloud.Ref{ID: "listed"}, Rules: []cloud.Rule{{Ref: cloud.Ref{ID: "r"}, Match: traffic.All()}}}
	apart := &cloud.List{Ref: cloud.Ref{ID: "in layers only"}}
	layer := cloud.Layer{Name: "l", Kind: cloud.Filter, Lists: []*cloud.List{apart, shared}, Stateless: true, ReplyName: "out", Reply: []*cloud.List{apart}}
	s := &cloud.Snapshot{
		Lists:     []*cloud.List{shared},
		Endpoints: []cloud.Endpoint{{Family: traffic.V4, Hops: []cloud.Hop{{Layers: []cloud.Layer{layer, layer}}}}},
	}
	text := written(t, s)
	if n := strings.Count(text, "in layers only"); n != 1 {
		t.Errorf("a list stands %d times in %s", n, text)
	}
	back := read(t, text)[0]
	if len(back.Lists) != 1 || back.Lists[0].Ref.ID != "listed" {
		t.Fatalf("the lists are %v, want the listed one", back.Lists)
	}
	layers := back.Endpoints[0].Hops[0].Layers
	if layers[0].Lists[1] != back.Lists[0] || layers[1].Lists[1] != back.Lists[0] || layers[0].Lists[0] != layers[1].Reply[0] {
		t.Error("one list has become several")
	}
}

func TestReadSnapshotsRefuses(t *testing.T) {
	doc := func(snapshot string) string {
		return `{"schema":"cloudaudit.snapshot/v1","snapshots":[` + snapshot + `]}`
	}
	endpoint := func(text string) string { return doc(`{"lists":[{}],"endpoints":[` + text + `]}`) }
	for text, want := range map[string]string{
		``:                                  "snapshot: EOF",
		`[]`:                                "cannot unmarshal array",
		`{}`:                                `schema is "", want "cloudaudit.snapshot/v1"`,
		`{"schema":"cloudaudit.report/v1"}`: `schema is "cloudaudit.report/v1"`,
		doc(`null`):                         "entry 0 is null",
		doc(`{}`) + `{}`:                    "something follows the document",
		doc(`{}`) + `]`:                     "something follows the document",
		doc(`{"listed":1}`):                 "listed is 1, of 0 lists",
		doc(`{"listed":-1}`):                "listed is -1, of 0 lists",
		doc(`{"lists":[null]}`):             "list 0 is null",
		doc(`{"lists":{}}`):                 "cannot unmarshal object",
		doc(`{"lists":[{"rules":[{"verdict":"drop"}]}]}`):                         `rule verdict "drop": want allow, deny or pass`,
		doc(`{"lists":[{"rules":[{"match":"tcp/11211"}]}]}`):                      `packet set "tcp/11211"`,
		doc(`{"lists":[{"rules":[{"ref":{"id":"r"},"maybe":"all from ::/0"}]}]}`): `rule ///r: doubt is ""`,
		doc(`{"lists":[{"rules":[{"maybe":"all from ::/0","doubt":"vague"}]}]}`):  `doubt is "vague"`,

		endpoint(`{"family":5}`): "family is 5, want 4 or 6",
		endpoint(`{"family":4}`): "no hops",

		endpoint(`{"family":4,"hops":[{"layers":[{"lists":[1]}]}]}`):            "a layer has list 1, of 1",
		endpoint(`{"family":4,"hops":[{"layers":[{"lists":[-1]}]}]}`):           "a layer has list -1, of 1",
		endpoint(`{"family":4,"hops":[{"layers":[{"lists":[],"reply":[7]}]}]}`): "a layer has list 7, of 1",
		endpoint(`{"family":4,"hops":[{"source":[""]}]}`):                       "a hop has a source that is not a prefix",
		endpoint(`{"family":4,"hops":[{"source":["10.0.0.0"]}]}`):               "no '/'",
		endpoint(`{"family":4,"addr":"x"}`):                                     "x",
	} {
		if _, err := cloud.ReadSnapshots(strings.NewReader(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want an error that says %q", text, err, want)
		}
	}
	if got, err := cloud.ReadSnapshots(strings.NewReader(doc(""))); err != nil || len(got) != 0 {
		t.Errorf("no snapshots: %v (%v)", got, err)
	}
}

func FuzzReadSnapshots(f *testing.F) {
	for seed := range 20 {
		f.Add(written(f, rapid.Custom(drawWorld).Example(seed)))
	}
	f.Add(written(f))
	f.Add(`{"schema":"cloudaudit.snapshot/v1","snapshots":[{"lists":[{"rules":[{"verdict":"pass","maybe":"all from ::/0","doubt":"unread"}]}],
		"endpoints":[{"family":6,"hops":[{"layers":[{"lists":[0,0],"stateless":true,"reply":[0]}],"source":[],"forward":[]},{"source":["::ffff:1.2.3.0/120"]}]}]}]}`)
	f.Fuzz(func(t *testing.T, text string) {
		snapshots, err := cloud.ReadSnapshots(strings.NewReader(text))
		if err != nil {
			return
		}
		q := cloud.Question{Ports: []uint16{11211}}
		for _, s := range snapshots {
			for _, a := range q.Judge(s) {
				if _, _, ok := q.Trace(a.Endpoint, a.Service); !ok {
					t.Errorf("%s has an answer and no path", a.Endpoint.Ref)
				}
			}
		}
		once := written(t, snapshots...)
		if again := written(t, read(t, once)...); again != once {
			t.Errorf("written again it differs:\n%s", cmp.Diff(once, again))
		}
	})
}
