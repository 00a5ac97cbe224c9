package gcp

import (
	"fmt"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cloudaudit/cloudaudit/cloud"
	"github.com/cloudaudit/cloudaudit/internal/emulate"
	"github.com/cloudaudit/cloudaudit/internal/emulate/gce"
)

// machine is an instance with an interface in a network, and an external address unless it is empty.
func machine(name, zone, network, internal, external string) gce.Instance {
	nic := gce.NetworkInterface{Name: "nic0", Network: network, NetworkIP: internal}
	if external != "" {
		nic.AccessConfigs = []gce.AccessConfig{{Type: "ONE_TO_ONE_NAT", NatIP: external}}
	}
	return gce.Instance{Name: name, Zone: zone, NetworkInterfaces: []gce.NetworkInterface{nic}}
}

// both is memcached's port over both protocols, as a VPC rule and as a policy rule has it.
func both() ([]gce.Protocol, []gce.Layer4) {
	return []gce.Protocol{{IPProtocol: "tcp", Ports: []string{"11211"}}, {IPProtocol: "udp", Ports: []string{"11211"}}},
		[]gce.Layer4{{IPProtocol: "tcp", Ports: []string{"11211"}}, {IPProtocol: "udp", Ports: []string{"11211"}}}
}

// simple is a project with one open instance.
func simple() *gce.World {
	ports, _ := both()
	return &gce.World{Projects: []gce.Project{{
		ID: "p", Networks: []gce.Network{{Name: "net"}},
		Firewalls: []gce.Firewall{{Name: "open", Network: "net", SourceRanges: []string{"0.0.0.0/0"}, Allowed: ports}},
		Instances: []gce.Instance{machine("cache", "us-central1-a", "net", "10.1.0.2", "34.68.1.2")},
	}}}
}

// TestN20UnreachableScope: what a list says that it could not reach is a gap, and the rest is read.
func TestN20UnreachableScope(t *testing.T) {
	w := simple()
	w.Projects[0].Instances = append(w.Projects[0].Instances, machine("other", "us-central1-b", "net", "10.1.0.3", "34.68.1.3"))
	w.Unreachable = []string{"zones/us-central1-b"}
	s := read(t, open(t, w, Config{}), "p")
	if got := subjects(s); !slices.Contains(got, "compute.instances.list") {
		t.Errorf("gaps of %v, want compute.instances.list", got)
	}
	if !slices.ContainsFunc(s.Gaps, func(g cloud.Gap) bool { return strings.Contains(g.Cause, "us-central1-b") && g.Hint != "" }) {
		t.Errorf("no gap names the zone: %+v", s.Gaps)
	}
	expect(t, s, "cache", "v4.tcp reachable/world v4.udp reachable/world")
}

// TestN21SharedVPC: a service project has no rules of its own, and is filtered by those of its host.
func TestN21SharedVPC(t *testing.T) {
	ports, _ := both()
	host := gce.Project{
		ID: "host", Networks: []gce.Network{{Name: "shared"}},
		Firewalls: []gce.Firewall{{Name: "open", Network: "shared", SourceRanges: []string{"0.0.0.0/0"}, Allowed: ports}},
	}
	service := gce.Project{
		ID: "p", Host: "host",
		Instances: []gce.Instance{machine("cache", "us-central1-a", "projects/host/global/networks/shared", "10.1.0.2", "34.68.1.2")},
	}
	s := readWorld(t, &gce.World{Projects: []gce.Project{host, service}})
	expect(t, s, "cache", "v4.tcp reachable/world v4.udp reachable/world")
	for _, l := range s.Lists {
		for _, r := range l.Rules {
			if r.Ref.ID == "open" && r.Ref.Scope != "host" {
				t.Errorf("the host's rule is named %v", r.Ref)
			}
		}
	}
}

// TestN22RegionalPolicies: they are in no answer but the region's, and count in their region only.
func TestN22RegionalPolicies(t *testing.T) {
	_, ports := both()
	w := simple()
	p := &w.Projects[0]
	p.Firewalls = nil
	p.Instances = append(p.Instances, machine("elsewhere", "europe-west1-b", "net", "10.2.0.2", "34.68.1.3"))
	p.NetworkPolicies = []gce.Policy{{Name: "regional", Network: "net", Region: "us-central1", Rules: []gce.PolicyRule{{
		Priority: 1, Action: "allow", Match: gce.Match{SrcIPRanges: []string{"0.0.0.0/0"}, Layer4Configs: ports},
	}}}}
	faults := emulate.WithFaults(w, nil)
	s := read(t, open(t, faults, Config{}), "p")
	expect(t, s, "cache", "v4.tcp reachable/world")
	expect(t, s, "elsewhere", "v4.tcp blocked v4.udp blocked")
	if n := faults.Calls()["compute.networks.getRegionEffectiveFirewalls"]; n != 2 {
		t.Errorf("the effective firewall was asked for %d times, want once for each of two regions", n)
	}

	// Without the permission they may allow anything that nothing before them decides.
	s = read(t, open(t, emulate.WithFaults(w, refusing("compute.networks.getRegionEffectiveFirewalls")), Config{}), "p")
	expect(t, s, "cache", "v4.tcp unknown/world v4.udp unknown/world")
	if got := subjects(s); !slices.Contains(got, "compute.networks.getRegionEffectiveFirewalls") {
		t.Errorf("gaps of %v", got)
	}
}

// TestN23AnswersForOneInterface: what Google says of one interface is filtered for it, and not used for another.
func TestN23AnswersForOneInterface(t *testing.T) {
	_, ports := both()
	w := simple()
	p := &w.Projects[0]
	p.Firewalls = nil
	mine, other := machine("mine", "us-central1-a", "net", "10.1.0.3", "34.68.1.3"), machine("other", "us-central1-a", "net", "10.1.0.4", "34.68.1.4")
	mine.ServiceAccounts = []string{"mine@p.iam.gserviceaccount.com"}
	other.ServiceAccounts = []string{"other@p.iam.gserviceaccount.com"}
	p.Instances = []gce.Instance{mine, other}
	p.NetworkPolicies = []gce.Policy{{Name: "np", Network: "net", Rules: []gce.PolicyRule{{
		Priority: 1, Action: "allow", TargetServiceAccounts: mine.ServiceAccounts,
		Match: gce.Match{SrcIPRanges: []string{"0.0.0.0/0"}, Layer4Configs: ports},
	}}}}
	faults := emulate.WithFaults(w, refusing("compute.networks.getRegionEffectiveFirewalls", "compute.networks.getEffectiveFirewalls"))
	s := read(t, open(t, faults, Config{}), "p")
	expect(t, s, "mine", "v4.tcp reachable/world")
	expect(t, s, "other", "v4.tcp blocked")
	if n := faults.Calls()["compute.instances.getEffectiveFirewalls"]; n != 2 {
		t.Errorf("asked for %d interfaces, want both", n)
	}
}

// TestN24MoreThan500Firewalls: lists are read to their last page.
func TestN24MoreThan500Firewalls(t *testing.T) {
	ports, _ := both()
	w := simple()
	p := &w.Projects[0]
	p.Networks = append(p.Networks, gce.Network{Name: "unused"})
	for i := range 1100 {
		p.Firewalls = append(p.Firewalls, gce.Firewall{
			Name: fmt.Sprintf("rule-%04d", i), Network: "unused", SourceRanges: []string{"10.0.0.0/8"}, Allowed: ports,
		})
	}
	p.Firewalls = append(p.Firewalls, gce.Firewall{Name: "zz-open", Network: "unused", SourceRanges: []string{"0.0.0.0/0"}, Allowed: ports})
	faults := emulate.WithFaults(w, nil)
	s := read(t, open(t, faults, Config{}), "p")
	found := false
	for _, l := range s.Lists {
		for _, r := range l.Rules {
			found = found || r.Ref.ID == "zz-open"
		}
	}
	if n := faults.Calls()["compute.firewalls.list"]; !found || n != 3 {
		t.Errorf("found the rule of the last page: %v, in %d pages", found, n)
	}
}

// TestSwitchedOffAPI: a project in which Compute Engine was never enabled is empty, and that is no gap.
func TestSwitchedOffAPI(t *testing.T) {
	w := simple()
	w.Projects[0].ComputeDisabled = true
	s := readWorld(t, w)
	if len(s.Endpoints)+len(s.Lists) > 0 {
		t.Errorf("%d endpoints, %d lists", len(s.Endpoints), len(s.Lists))
	}
}

// TestFieldMask: the answer is the same with and without, and where the service refuses it.
func TestFieldMask(t *testing.T) {
	demo := Config{Projects: []string{"data-lab", "shop-prod"}}
	all := func(w *gce.World, c Config) []*cloud.Snapshot {
		p := open(t, w, c)
		scopes, err := p.Scopes(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		var out []*cloud.Snapshot
		for _, s := range scopes {
			out = append(out, read(t, p, s.Account))
		}
		return out
	}
	text := func(snapshots []*cloud.Snapshot) string {
		var b strings.Builder
		if err := cloud.WriteSnapshots(&b, snapshots); err != nil {
			t.Fatal(err)
		}
		return b.String()
	}
	want := text(all(gce.Demo(), demo))
	without := demo
	without.NoFieldMask = true
	refused := gce.Demo()
	refused.NoMasks = true
	for name, got := range map[string]string{"without": text(all(gce.Demo(), without)), "refused": text(all(refused, demo))} {
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s the field mask:\n%s", name, diff)
		}
	}
}

// TestCalls counts the requests of a healthy reading against what the comment of reader says.
func TestCalls(t *testing.T) {
	for name, c := range map[string]struct {
		world *gce.World
		want  map[string]int
	}{
		"one network in one region": {simple(), map[string]int{
			"compute.instances.list": 1, "compute.networks.list": 1, "compute.forwardingRules.list": 1,
			"compute.networks.getRegionEffectiveFirewalls": 1, "compute.routes.list": 1,
		}},
		"nothing at all": {
			&gce.World{Projects: []gce.Project{{ID: "p"}}},
			map[string]int{"compute.instances.list": 2, "compute.networks.list": 1, "compute.forwardingRules.list": 1},
		},
	} {
		faults := emulate.WithFaults(c.world, nil)
		read(t, open(t, faults, Config{}), "p")
		if diff := cmp.Diff(c.want, faults.Calls()); diff != "" {
			t.Errorf("%s: calls (-want +got):\n%s", name, diff)
		}
	}
}

// TestLargeProject reads 500 networks in three regions each, with a policy each: the calls are as documented, and the
// process stays small.
func TestLargeProject(t *testing.T) {
	ports, layer4 := both()
	p := gce.Project{ID: "p"}
	const networks = 500
	regions := []string{"us-central1", "europe-west1", "asia-east1"}
	for n := range networks {
		name := fmt.Sprintf("net-%03d", n)
		p.Networks = append(p.Networks, gce.Network{Name: name})
		p.Firewalls = append(p.Firewalls, gce.Firewall{Name: "open-" + name, Network: name, SourceRanges: []string{"0.0.0.0/0"}, Allowed: ports})
		p.NetworkPolicies = append(p.NetworkPolicies, gce.Policy{Name: "policy-" + name, Network: name, Rules: []gce.PolicyRule{{
			Priority: 10, Action: "deny", Match: gce.Match{SrcIPRanges: []string{"192.0.2.0/24"}, Layer4Configs: layer4},
		}}})
		for i, region := range regions {
			p.Instances = append(p.Instances, machine(fmt.Sprintf("vm-%03d-%d", n, i), region+"-b", name,
				fmt.Sprintf("10.%d.%d.2", i, n%250), fmt.Sprintf("34.%d.%d.%d", 60+i, n/250, n%250)))
		}
	}
	faults := emulate.WithFaults(&gce.World{Projects: []gce.Project{p}}, nil)
	provider := open(t, faults, Config{})
	runtime.GC()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	s := read(t, provider, "p")
	runtime.GC()
	runtime.ReadMemStats(&after)

	want := map[string]int{
		"compute.instances.list": 3, "compute.networks.list": 1, "compute.forwardingRules.list": 1,
		"compute.networks.getRegionEffectiveFirewalls": networks * len(regions), "compute.routes.list": 2,
	}
	got := faults.Calls()
	if got["compute.routes.list"] > 3 || got["compute.routes.list"] < 1 {
		t.Errorf("routes were asked for %d times", got["compute.routes.list"])
	}
	want["compute.routes.list"] = got["compute.routes.list"] // one a page of them
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("calls (-want +got):\n%s", diff)
	}
	if len(s.Gaps) > 0 {
		t.Errorf("gaps: %+v", s.Gaps)
	}
	exposed := 0
	for _, a := range (cloud.Question{Ports: []uint16{11211}}).Judge(s) {
		if a.Exposure == cloud.Reachable {
			exposed++
		}
	}
	if exposed != 2*networks*len(regions) {
		t.Errorf("%d exposures, want %d", exposed, 2*networks*len(regions))
	}
	// The emulated cloud is in this process and part of both readings.
	kept := float64(after.HeapAlloc-min(before.HeapAlloc, after.HeapAlloc)) / (1 << 20)
	t.Logf("kept %.1f MiB; the process has %.1f MiB from the system", kept, float64(after.Sys)/(1<<20))
	if after.Sys > 128<<20 {
		t.Errorf("the process has %d MiB from the system, want less than 128", after.Sys>>20)
	}
}

// TestBrokenFolder: a folder that cannot be listed is a scope whose reading says why, and the others are read.
func TestBrokenFolder(t *testing.T) {
	w := gce.Demo()
	faults := emulate.WithFaults(w, func(op string, r *http.Request) emulate.Fault {
		return emulate.Fault{Refuse: op == "resourcemanager.projects.list" && strings.Contains(r.URL.RawQuery, "folders")}
	})
	p := open(t, faults, Config{Organizations: []string{w.Organization}})
	scopes, err := p.Scopes(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, s := range scopes {
		names = append(names, s.Account)
	}
	if diff := cmp.Diff([]string{"data-lab", "folders/715517400100"}, names); diff != "" {
		t.Fatalf("scopes (-want +got):\n%s", diff)
	}
	s := read(t, p, "folders/715517400100")
	if got := subjects(s); !slices.Equal(got, []string{"resourcemanager.projects.list"}) {
		t.Errorf("gaps of %v", got)
	}
}
