package do

import (
	"testing"

	world "github.com/cloudaudit/cloudaudit/internal/emulate/do"
	"github.com/cloudaudit/cloudaudit/providers"
)

// TestNoProbeTag: the tag of a droplet keeps the probe away from it, and from no other.
func TestNoProbeTag(t *testing.T) {
	machine := func(id int, name, address string, tags ...string) world.Droplet {
		d := world.Droplet{ID: id, Name: name, Tags: tags}
		d.Networks.V4 = []world.Address{{IPAddress: address, Type: "public"}}
		return d
	}
	p := open(t, world.Single("token", world.Scene{Droplets: []world.Droplet{
		machine(1, "plain", "159.65.1.2", "web"), machine(2, "tagged", "159.65.1.3", "web", providers.NoProbeTag),
	}}), nil, "token")
	scopes, err := p.Scopes(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	s, err := p.Read(t.Context(), scopes[0])
	if err != nil {
		t.Fatal(err)
	}
	if len(s.Endpoints) < 2 {
		t.Fatalf("%d endpoints", len(s.Endpoints))
	}
	for _, e := range s.Endpoints {
		if e.NoProbe != (e.Name == "tagged") {
			t.Errorf("%s: no probe is %v", e.Name, e.NoProbe)
		}
	}
}
