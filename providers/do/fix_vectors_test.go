package do

import (
	"context"
	"encoding/json"
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
	world "github.com/cloudaudit/cloudaudit/internal/emulate/do"
	"github.com/cloudaudit/cloudaudit/providers"
	"github.com/cloudaudit/cloudaudit/providers/providertest"
	"github.com/cloudaudit/cloudaudit/remedy"
)

// packet is one packet, as the oracle asks about it.
type packet struct {
	src   string
	proto string
	port  int
}

// universe returns packets from one address each of what rules tell apart: the internet's halves, a partner, private networks, addresses
// that no host has, and the same for IPv6.
func universe() []packet {
	var out []packet
	for _, src := range []string{
		"8.8.8.8", "130.0.0.1", "5.5.5.5", "10.116.0.9", "172.16.1.1", "192.168.7.7", "100.64.1.1", "169.254.1.1", "203.0.113.1", "2a00::1", "fd00::1",
	} {
		for _, proto := range []string{"tcp", "udp", "icmp", "esp", "gre"} {
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

// matches says whether r matches p, by the words of the API's documentation.
func matches(r *world.InboundRule, p packet) bool {
	if r.Protocol != p.proto || r.Sources == nil {
		return false
	}
	if p.proto != "icmp" && r.Ports != "0" && r.Ports != "all" {
		var low, high int
		if n, _ := fmt.Sscanf(r.Ports, "%d-%d", &low, &high); n < 2 {
			high = low
		}
		if p.port < low || p.port > high {
			return false
		}
	}
	src := netip.MustParseAddr(p.src)
	for _, a := range r.Sources.Addresses {
		if !strings.Contains(a, "/") {
			a += map[bool]string{true: "/32", false: "/128"}[netip.MustParseAddr(a).Is4()]
		}
		if netip.MustParsePrefix(a).Masked().Contains(src) {
			return true
		}
	}
	return false
}

// admits says whether p gets through the firewalls of droplet d, one packet at a time: without a firewall everything does;
// else what some rule allows and none denies.
func admits(s *world.Scene, d *world.Droplet, p packet) bool {
	attached, allowed := false, false
	for i := range s.Firewalls {
		f := &s.Firewalls[i]
		if !slices.Contains(f.DropletIDs, d.ID) && !slices.ContainsFunc(f.Tags, func(tag string) bool { return slices.Contains(d.Tags, tag) }) {
			continue
		}
		attached = true
		for n := range f.InboundRules {
			if r := &f.InboundRules[n]; matches(r, p) {
				if r.Action == "deny" {
					return false
				}
				allowed = true
			}
		}
	}
	return allowed || !attached
}

// answers returns every droplet's answer to every packet.
func answers(s *world.Scene) map[string]bool {
	out := map[string]bool{}
	for i := range s.Droplets {
		for _, p := range universe() {
			out[fmt.Sprint(s.Droplets[i].ID, p)] = admits(s, &s.Droplets[i], p)
		}
	}
	return out
}

// TestFixVectors fixes every configuration of testdata/fixes.yaml over HTTP and compares every packet's answer with that
// of the configuration that is expected after it.
//
// Ours keep more: unique local IPv6 addresses, which are private, and port 0.
func TestFixVectors(t *testing.T) {
	text, err := os.ReadFile("testdata/fixes.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Fixes []struct {
			ID, Title     string
			Exact         bool
			Residual      []string
			Before, After world.Scene
		}
	}
	if err := yaml.Unmarshal(text, &file); err != nil || len(file.Fixes) < 2 {
		t.Fatalf("%d fixes: %v", len(file.Fixes), err)
	}
	for _, v := range file.Fixes {
		t.Run(v.ID, func(t *testing.T) {
			w := world.Single("token", v.Before)
			o := open(t, w, nil, "token")
			s := o.read(t)
			plan := remedy.New([]*cloud.Snapshot{s}, providertest.Findings([]uint16{11211}, []*cloud.Snapshot{s}),
				map[string]providers.Rewriter{Name: o}, remedy.Options{Ports: []uint16{11211}, Guard: true, AllowLoss: true})
			if len(plan.Hunks) != 1 || plan.Hunks[0].Lossy() == v.Exact {
				t.Fatalf("%s: plan %+v", v.Title, plan)
			}
			before := answers(&w.Teams[0].Scene)
			r := providertest.Runner(Name, o, &providertest.Journal{})
			if !v.Exact {
				outcome, err := r.Do(t.Context(), plan)
				if err != nil || outcome.Hunks[0].State != remedy.Skipped || !strings.Contains(outcome.Hunks[0].Reason, "allow the loss") {
					t.Errorf("a loss without consent: %+v, %v", outcome, err)
				}
				if diff := cmp.Diff(before, answers(&w.Teams[0].Scene)); diff != "" {
					t.Errorf("a loss without consent:\n%s", diff)
				}
				r.AllowLoss = true
			}
			outcome, err := r.Do(t.Context(), plan)
			if err == nil {
				err = r.Verify(t.Context(), plan, outcome)
			}
			if err != nil || !outcome.OK() {
				t.Errorf("%+v, %v", outcome, err)
			}
			// All that is to stay stays, and what stays besides was open before and is nothing that was to be closed.
			want, got := answers(&v.After), answers(&w.Teams[0].Scene)
			for _, p := range universe() {
				key := fmt.Sprint(v.Before.Droplets[0].ID, p)
				if closes, _ := p.asked(); want[key] && !got[key] || got[key] && (!before[key] || closes) {
					t.Errorf("%s: %s: before %v, want %v, is %v", v.Title, key, before[key], want[key], got[key])
				}
			}
			if !v.Exact {
				out := w.Teams[0].Scene.Firewalls[0].OutboundRules
				if len(out) != 3 || out[0].Destinations == nil || !slices.Equal(out[0].Destinations.Addresses, everyone()) {
					t.Errorf("the droplet loses its way out: %+v", out)
				}
			}
		})
	}
}

// TestPlansAgainstAnOracle: in random teams, after every single write of a plan, no packet gets through that did not
// before, and none is lost that nobody asked to close or that another rule admits; after the last one nothing is open that
// was asked for; and undo restores every rule.
func TestPlansAgainstAnOracle(t *testing.T) {
	planned := 0
	rapid.Check(t, func(rt *rapid.T) {
		w := world.Single("token", drawScene(rt))
		scene := &w.Teams[0].Scene
		w.OldAPI = rapid.Bool().Draw(rt, "old API")
		if w.OldAPI {
			for i := range scene.Firewalls {
				scene.Firewalls[i].InboundRules = slices.DeleteFunc(scene.Firewalls[i].InboundRules, func(r world.InboundRule) bool { return r.Action == "deny" })
			}
		}
		o := open(t, w, nil, "token")
		s := o.read(t)
		findings := providertest.Findings([]uint16{11211}, []*cloud.Snapshot{s})
		plan := remedy.New([]*cloud.Snapshot{s}, findings, map[string]providers.Rewriter{Name: o}, remedy.Options{Ports: []uint16{11211}, Guard: true, AllowLoss: true})
		planned += len(plan.Hunks)
		before, was := answers(scene), stored(scene)
		// What rules admit that are not to be changed has to stay.
		stays := *scene
		stays.Firewalls = slices.Clone(stays.Firewalls)
		for i := range stays.Firewalls {
			f := &stays.Firewalls[i]
			var rules []world.InboundRule
			for n, r := range f.InboundRules {
				id := fmt.Sprintf("%s#%d", f.ID, n)
				if !slices.ContainsFunc(plan.Hunks, func(h remedy.Hunk) bool {
					return slices.ContainsFunc(h.Rules, func(r cloud.Rule) bool { return r.Ref.ID == id })
				}) {
					rules = append(rules, r)
				}
			}
			f.InboundRules = rules
		}
		must := answers(&stays)
		carved := w.OldAPI || slices.ContainsFunc(plan.Hunks, func(h remedy.Hunk) bool { return !h.Ways[0].Trifle.IsEmpty() })
		look := func(rest bool) {
			now := answers(scene)
			for i := range scene.Droplets {
				for _, p := range universe() {
					key := fmt.Sprint(scene.Droplets[i].ID, p)
					closes, may := p.asked()
					switch {
					case now[key] && !before[key]:
						rt.Fatalf("%s got through to nothing before", key)
					case before[key] && !now[key] && !may && !(carved && p.port == 0):
						rt.Fatalf("%s is lost", key)
					case before[key] && !now[key] && must[key]:
						rt.Fatalf("%s is lost, and a rule that stays admits it", key)
					case rest && now[key] && closes && p.src != "5.5.5.5" && !must[key] && len(plan.Refused) == 0:
						rt.Fatalf("%s is still open", key)
					}
				}
			}
		}
		r := providertest.Runner(Name, looking{o.Provider, func() { look(false) }}, &providertest.Journal{})
		outcome, err := r.Do(t.Context(), plan)
		if err == nil {
			err = r.Verify(t.Context(), plan, outcome)
		}
		if err != nil || !outcome.OK() {
			rt.Fatalf("%+v, %v", outcome, err)
		}
		look(true)
		history, err := remedy.ReadHistory(r.Journal.(*providertest.Journal).Records)
		if err == nil {
			err = r.Undo(t.Context(), history, false)
		}
		if err != nil {
			rt.Fatal(err)
		}
		if diff := cmp.Diff(was, stored(scene)); diff != "" {
			rt.Fatalf("undone:\n%s", diff)
		}
	})
	if planned == 0 {
		t.Error("nothing was ever planned")
	}
}

// looking is a fixer that looks after every write.
type looking struct {
	*Provider
	look func()
}

func (l looking) Apply(ctx context.Context, e cloud.Edit) (cloud.Edit, error) {
	done, err := l.Provider.Apply(ctx, e)
	l.look()
	return done, err
}

// stored returns the rules of every firewall, in an order of their own.
func stored(s *world.Scene) map[string][]string {
	out := map[string][]string{}
	for _, f := range s.Firewalls {
		for _, r := range f.InboundRules {
			if r.Ports == "all" {
				r.Ports = "0"
			}
			text, err := json.Marshal(r)
			if err != nil {
				panic(err)
			}
			out[f.ID] = append(out[f.ID], string(text))
		}
		slices.Sort(out[f.ID])
	}
	return out
}

func drawScene(t *rapid.T) world.Scene {
	s := world.Scene{}
	for i := range rapid.IntRange(1, 2).Draw(t, "droplets") {
		s.Droplets = append(s.Droplets, public(i+1, fmt.Sprint("d", i), fmt.Sprintf("159.65.1.%d", i+1), rapid.SampledFrom([]string{"a", "b"}).Draw(t, "tag")))
	}
	for i := range rapid.IntRange(1, 3).Draw(t, "firewalls") {
		f := world.Firewall{ID: fmt.Sprint("fw-", i), Name: fmt.Sprint("n", i)}
		if rapid.Bool().Draw(t, "tagged") {
			f.Tags = []string{rapid.SampledFrom([]string{"a", "b"}).Draw(t, "attached")}
		} else {
			f.DropletIDs = []int{1}
		}
		for range rapid.IntRange(1, 4).Draw(t, "rules") {
			r := inbound(
				rapid.SampledFrom([]string{"", "", "", "deny"}).Draw(t, "action"),
				rapid.SampledFrom([]string{"tcp", "tcp", "udp", "icmp"}).Draw(t, "protocol"),
				rapid.SampledFrom([]string{"11211", "0", "all", "11211-12000", "1-11211", "11000-12000", "22", "1-65535"}).Draw(t, "ports"),
				rapid.SampledFrom([][]string{
					everyone(), everyone(), {"0.0.0.0/0"}, {"::/0"}, {"0.0.0.0/1"}, {"128.0.0.0/1", "10.0.0.0/8"}, {"5.5.5.0/24"}, {"10.116.0.0/20"}, {"5.5.5.5", "2a00::/12"},
				}).Draw(t, "sources")...)
			if r.Protocol == "icmp" {
				r.Ports = "0"
			}
			if r.Action == "" && rapid.Bool().Draw(t, "peers") {
				r.Sources.Tags = []string{"web"}
			}
			f.InboundRules = append(f.InboundRules, r)
		}
		// Rules are a set: nobody writes one twice.
		seen := map[string]bool{}
		f.InboundRules = slices.DeleteFunc(f.InboundRules, func(r world.InboundRule) bool {
			text, _ := json.Marshal(r)
			twice := seen[string(text)]
			seen[string(text)] = true
			return twice
		})
		s.Firewalls = append(s.Firewalls, f)
	}
	for i := range s.Droplets { // each is behind something
		s.Firewalls[0].DropletIDs = append(s.Firewalls[0].DropletIDs, s.Droplets[i].ID)
	}
	return s
}
