package cli

import (
	"context"
	"errors"
	"net/netip"
	"testing"

	"github.com/cloudaudit/cloudaudit/cloud"
	"github.com/cloudaudit/cloudaudit/findings"
	"github.com/cloudaudit/cloudaudit/probe"
)

// changing is a provider of one address that another instance holds at every reading.
type changing struct {
	cloud.Scope
	holders []string
	reads   int
}

func (c *changing) Scopes(context.Context) ([]cloud.Scope, error) { return []cloud.Scope{c.Scope}, nil }

func (c *changing) Read(context.Context, cloud.Scope) (*cloud.Snapshot, error) {
	holder := c.holders[min(c.reads, len(c.holders)-1)]
	c.reads++
	if holder == "" {
		return nil, errors.New("broken")
	}
	return &cloud.Snapshot{Scope: c.Scope, Endpoints: []cloud.Endpoint{{
		Ref: c.Ref("droplet", holder), Family: 4, Addr: netip.MustParseAddr("127.0.0.90"), Public: true,
	}}}, nil
}

// TestAddressThatChangesHands: an answer of an address that somebody else holds by then is dropped, and so is one whose
// holder cannot be read again.
func TestAddressThatChangesHands(t *testing.T) {
	for name, c := range map[string]struct {
		holders []string
		want    probe.Verdict
	}{
		"the same":       {[]string{"1", "1"}, probe.Closed},
		"another":        {[]string{"1", "2"}, probe.Stale},
		"cannot be read": {[]string{"1", ""}, probe.Stale},
	} {
		p := &changing{Scope: cloud.Scope{Provider: "do", Account: "team"}, holders: c.holders}
		report := &findings.Report{Exposures: []findings.Exposure{{
			Provider: "do", Account: "team", Address: "127.0.0.90", Protocol: "tcp", Port: 1, FrontPort: 1, Verdict: cloud.Reachable, Coverage: cloud.World,
		}}}
		allow := []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
		targets, left := probe.Targets(report, allow, nil)
		if len(targets) != 1 {
			t.Fatalf("%d targets, left %v", len(targets), left)
		}
		out, err := probe.Run(t.Context(), targets, probe.Options{Allow: allow, Owned: owners(report, []source{{"do", p}})})
		if err != nil {
			t.Fatal(err)
		}
		if len(out.Results) != 1 || out.Results[0].Answer.Verdict != c.want {
			t.Errorf("%s: %+v, want %s", name, out.Results, c.want)
		}
		if p.reads != 2 {
			t.Errorf("%s: who holds the address was read %d times, want before and after", name, p.reads)
		}
	}
}

// TestOwn: an address is inside the provider that holds it, and no other.
func TestOwn(t *testing.T) {
	inside := own([]*cloud.Snapshot{{Scope: cloud.Scope{Provider: "do", Account: "team"}, Endpoints: []cloud.Endpoint{
		{Addr: netip.MustParseAddr("159.65.1.2"), Public: true}, {Addr: netip.MustParseAddr("10.116.0.2")},
	}}})
	for _, c := range []struct {
		provider, source string
		want             bool
	}{{"do", "159.65.1.2", true}, {"do", "10.116.0.2", true}, {"do", "159.65.1.3", false}, {"aws", "159.65.1.2", false}, {"do", "", false}} {
		if got := inside(c.provider, c.source); got != c.want {
			t.Errorf("%s %s: %v, want %v", c.provider, c.source, got, c.want)
		}
	}
}
