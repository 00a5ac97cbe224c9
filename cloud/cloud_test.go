package cloud_test

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/cloudaudit/cloudaudit/cloud"
)

func TestScopeAndRef(t *testing.T) {
	for _, c := range []struct {
		scope     cloud.Scope
		text, ref string
	}{
		{cloud.Scope{Provider: "aws", Account: "1", Region: "eu-west-1"}, "aws/1/eu-west-1", "aws/1/eu-west-1/security-group/sg-1"},
		{cloud.Scope{Provider: "gcp", Account: "proj"}, "gcp/proj", "gcp/proj/security-group/sg-1"},
	} {
		if got := c.scope.String(); got != c.text {
			t.Errorf("%s, want %s", got, c.text)
		}
		r := c.scope.Ref("security-group", "sg-1")
		if r.String() != c.ref || r.IsZero() || r.Provider != c.scope.Provider || r.Kind != "security-group" || r.ID != "sg-1" {
			t.Errorf("%s (%+v), want %s", r, r, c.ref)
		}
	}
	if !(cloud.Ref{}).IsZero() {
		t.Error("the zero ref names something")
	}
}

func TestRefCompare(t *testing.T) {
	refs := []cloud.Ref{
		{},
		{Provider: "aws"},
		{Provider: "aws", Scope: "1", Kind: "b", ID: "z"},
		{Provider: "aws", Scope: "2", Kind: "a", ID: "z"},
		{Provider: "aws", Scope: "2", Kind: "b", ID: "a"},
		{Provider: "aws", Scope: "2", Kind: "b", ID: "b"},
		{Provider: "do", Scope: "1"},
	}
	for i, a := range refs {
		for j, b := range refs {
			want := 0
			switch {
			case i < j:
				want = -1
			case i > j:
				want = 1
			}
			if got := a.Compare(b); got != want {
				t.Errorf("%v to %v: %d, want %d", a, b, got, want)
			}
		}
	}
	shuffled := []cloud.Ref{refs[4], refs[1], refs[6], refs[0], refs[3], refs[5], refs[2]}
	slices.SortFunc(shuffled, cloud.Ref.Compare)
	if !slices.Equal(shuffled, refs) {
		t.Errorf("sorted: %v", shuffled)
	}
}

func TestVerdictText(t *testing.T) {
	for v, want := range map[cloud.Verdict]string{cloud.Allow: "allow", cloud.Deny: "deny", cloud.Pass: "pass"} {
		text, err := v.MarshalText()
		if err != nil || string(text) != want || v.String() != want {
			t.Errorf("%d is %q (%v), want %q", v, text, err, want)
		}
		back := cloud.Verdict(99)
		if err := back.UnmarshalText(text); err != nil || back != v {
			t.Errorf("%q reads back as %d (%v)", text, back, err)
		}
	}
	v := cloud.Deny
	if err := v.UnmarshalText([]byte("Allow")); err == nil || v != cloud.Deny {
		t.Errorf("an unknown verdict reads as %v (%v)", v, err)
	}
}

func TestEndpointAddress(t *testing.T) {
	addr, prefix := netip.MustParseAddr("54.84.1.2"), netip.MustParsePrefix("2600:1f18::/80")
	for _, c := range []struct {
		endpoint cloud.Endpoint
		want     string
	}{
		{cloud.Endpoint{Addr: addr}, "54.84.1.2"},
		{cloud.Endpoint{Addr: addr, Host: "lb.example"}, "54.84.1.2"},
		{cloud.Endpoint{Addr: prefix.Addr(), Prefix: prefix}, "2600:1f18::/80"},
		{cloud.Endpoint{Host: "lb.example"}, "lb.example"},
	} {
		if got := c.endpoint.Address(); got != c.want {
			t.Errorf("%q, want %q", got, c.want)
		}
	}
}

func TestSnapshotRules(t *testing.T) {
	s := cloud.Snapshot{Lists: []*cloud.List{{Rules: make([]cloud.Rule, 2)}, {}, {Rules: make([]cloud.Rule, 3)}}}
	if got := s.Rules(); got != 5 {
		t.Errorf("%d rules, want 5", got)
	}
}
