package do

import (
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/cloudaudit/cloudaudit/internal/emulate"
	world "github.com/cloudaudit/cloudaudit/internal/emulate/do"
	"github.com/cloudaudit/cloudaudit/providers"
	"github.com/cloudaudit/cloudaudit/providers/providertest"
	"github.com/cloudaudit/cloudaudit/remedy"
)

// everyone is the whole internet, and all private networks.
func everyone() []string { return []string{"0.0.0.0/0", "::/0"} }

// fixScene has a wide rule, one about nothing but the port, one at the edge of a range, a partner, and a firewall with 46
// rules, all of whose neighbours must stay.
func fixScene() *world.World {
	partner := inbound("", "tcp", "11211", "5.5.5.0/24")
	all := world.Firewall{
		ID: "fw-all", Name: "all", DropletIDs: []int{1}, OutboundRules: []world.OutboundRule{{Protocol: "tcp", Ports: "0", Destinations: &world.Peers{Addresses: everyone()}}},
		InboundRules: []world.InboundRule{
			inbound("", "tcp", "0", everyone()...), inbound("", "udp", "0", everyone()...), inbound("", "icmp", "0", everyone()...), partner,
		},
	}
	mixed := inbound("", "tcp", "11211", "0.0.0.0/0", "10.116.0.0/20")
	mixed.Sources.Tags, mixed.Sources.DropletIDs = []string{"web"}, []int{1}
	narrow := world.Firewall{
		ID: "fw-port", Name: "port", Tags: []string{"cache"},
		InboundRules: []world.InboundRule{mixed, inbound("allow", "udp", "11211-12000", "0.0.0.0/1", "128.0.0.0/1"), inbound("", "tcp", "22", everyone()...)},
	}
	return world.Single("token", world.Scene{
		Droplets:  []world.Droplet{public(1, "one", "159.65.1.2", "cache"), public(2, "two", "159.65.1.3", "cache")},
		Firewalls: []world.Firewall{all, narrow},
	})
}

func fixer(t *testing.T, w *world.World, match func(string, *http.Request) emulate.Fault) (providers.Fixer, *emulate.Faults, func()) {
	o := open(t, w, match, "token")
	return o, o.calls, func() {
		for i := range w.Teams[0].Scene.Firewalls {
			f := &w.Teams[0].Scene.Firewalls[i]
			f.InboundRules = append(f.InboundRules, inbound("", "tcp", "8443", "1.1.1.1"))
			if f.ID == "fw-all" {
				f.DropletIDs = append(f.DropletIDs, 3)
			}
		}
	}
}

func writes(op string) bool { return strings.HasPrefix(op, "POST") || strings.HasPrefix(op, "DELETE") }

func TestFixerConformance(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*world.World)
		loss   bool
	}{
		"deny rules":               {func(*world.World) {}, false},
		"changes that are pending": {func(w *world.World) { w.Settle = 3 }, false},
		"an API before deny rules": {func(w *world.World) {
			w.OldAPI = true
			w.Teams[0].Scene.Firewalls[1].InboundRules[1].Action = "" // which it does not know
		}, false},
		"49 of 50 rules": {func(w *world.World) {
			for i := range 43 {
				f := &w.Teams[0].Scene.Firewalls[0]
				f.InboundRules = append(f.InboundRules, inbound("", "tcp", strconv.Itoa(20000+i), "1.1.1.1"))
			}
		}, false},
		"a droplet without a firewall": {func(w *world.World) {
			w.Teams[0].Scene.Droplets = append(w.Teams[0].Scene.Droplets, public(3, "bare", "159.65.1.4"))
		}, true},
	} {
		t.Run(name, func(t *testing.T) {
			providertest.RunFixer(t, providertest.FixerCloud{
				Open: func(t *testing.T, match func(string, *http.Request) emulate.Fault) (providers.Fixer, *emulate.Faults, func()) {
					w := fixScene()
					c.change(w)
					return fixer(t, w, match)
				},
				Options: remedy.Options{Ports: []uint16{11211}, Guard: true, AllowLoss: true}, Writes: writes, AllowLoss: c.loss,
			})
		})
	}
}
