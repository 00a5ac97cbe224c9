package gcp

import (
	"encoding/json"
	"errors"
	"net/http"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cloudaudit/cloudaudit/cloud"
	"github.com/cloudaudit/cloudaudit/internal/emulate"
	"github.com/cloudaudit/cloudaudit/internal/emulate/gce"
	"github.com/cloudaudit/cloudaudit/providers"
	"github.com/cloudaudit/cloudaudit/providers/providertest"
	"github.com/cloudaudit/cloudaudit/remedy"
)

// planned reads project p of w and plans its mending.
func planned(t *testing.T, w *gce.World, o remedy.Options) (*remedy.Plan, *Provider) {
	t.Helper()
	p := open(t, w, Config{})
	return planOf(t, p, read(t, p, "p"), o), p
}

func TestWhatIsNotFixed(t *testing.T) {
	vpc, layer4 := both()
	wide := gce.Match{SrcIPRanges: everyone(), Layer4Configs: layer4}
	for name, test := range map[string]struct {
		change          func(*gce.Project)
		reason, instead string
	}{
		"a Service of Kubernetes": {func(p *gce.Project) {
			p.Firewalls[0].Name, p.Firewalls[0].Description = "k8s-fw-a0b1", `{"kubernetes.io/service-name":"default/cache", "kubernetes.io/service-ip":"34.1.1.1"}`
		}, "the Kubernetes Service default/cache", "loadBalancerSourceRanges"},
		"a cluster":  {func(p *gce.Project) { p.Firewalls[0].Name = "gke-shop-1f2e-all" }, "Google Kubernetes Engine", "cluster"},
		"an Ingress": {func(p *gce.Project) { p.Firewalls[0].Name = "k8s2-0-l7" }, "Kubernetes, which made k8s2-0-l7", "Service"},
		"a hierarchical": {func(p *gce.Project) {
			p.HierarchicalPolicies = []gce.Policy{{Name: "98", ShortName: "org-base", Rules: []gce.PolicyRule{{Priority: 1, Action: "allow", Match: wide}}}}
		}, "hierarchical firewall policy org-base", "--firewall-policy=98"},
		"a system policy": {func(p *gce.Project) {
			p.SystemRegionalPolicies = []gce.Policy{{Name: "sys", Region: "us-central1", Rules: []gce.PolicyRule{{Priority: 1, Action: "allow", Match: wide}}}}
		}, "system firewall policy sys", "external address"},
		"narrow": {func(p *gce.Project) { p.Firewalls[0].SourceRanges = []string{"5.5.5.0/24"} }, "few hosts", "range"},
		"no room in a policy": {func(p *gce.Project) {
			p.Firewalls = nil
			p.NetworkPolicies = []gce.Policy{{Name: "np", Network: "net", Rules: []gce.PolicyRule{{Priority: 0, Action: "allow", Match: gce.Match{SrcIPRanges: everyone(), Layer4Configs: []gce.Layer4{{IPProtocol: "all"}}}}}}}
		}, "no free priority before rule 0", ""},
	} {
		t.Run(name, func(t *testing.T) {
			w := simple()
			w.Projects[0].Firewalls[0].Allowed = vpc
			test.change(&w.Projects[0])
			plan, _ := planned(t, w, remedy.Options{})
			found := slices.ContainsFunc(plan.Refused, func(r remedy.Refusal) bool {
				return strings.Contains(r.Reason, test.reason) && strings.Contains(r.Instead, test.instead)
			})
			if !found {
				t.Errorf("refused: %+v", plan.Refused)
			}
		})
	}
}

// TestOwnedOnRequest: what a controller owns is changed if that is asked for, and an organization's policy never.
func TestOwnedOnRequest(t *testing.T) {
	_, layer4 := both()
	w := simple()
	w.Projects[0].Firewalls[0].Name = "gke-shop-1f2e-all"
	if plan, _ := planned(t, w, remedy.Options{Owned: true}); len(plan.Hunks) != 1 {
		t.Errorf("%+v", plan.Refused)
	}
	w.Projects[0].Firewalls = nil
	w.Projects[0].HierarchicalPolicies = []gce.Policy{{Name: "98", ShortName: "org-base", Rules: []gce.PolicyRule{{
		Priority: 1, Action: "allow", Match: gce.Match{SrcIPRanges: everyone(), Layer4Configs: layer4},
	}}}}
	plan, _ := planned(t, w, remedy.Options{Owned: true})
	if len(plan.Hunks) > 0 || !strings.Contains(plan.Refused[0].Reason, "which a project cannot change") {
		t.Errorf("%+v", plan)
	}
}

// TestSharedNetwork: the rules of a Shared VPC are changed where they are, with the instances of all projects in view.
func TestSharedNetwork(t *testing.T) {
	vpc, _ := both()
	scene := func() *gce.World {
		vm := machine("cache", "us-central1-a", "projects/host/global/networks/shared", "10.1.0.2", "34.68.1.2")
		return &gce.World{Projects: []gce.Project{
			{ID: "host", Networks: []gce.Network{{Name: "shared"}}, Firewalls: []gce.Firewall{
				{Name: "open", Network: "shared", SourceRanges: everyone(), Allowed: []gce.Protocol{{IPProtocol: "all"}}},
				{Name: "partner", Network: "shared", SourceRanges: []string{"5.5.5.0/24"}, Allowed: vpc},
			}},
			{ID: "p", Host: "host", Instances: []gce.Instance{vm}},
		}}
	}
	plan, _ := planned(t, scene(), remedy.Options{})
	if len(plan.Hunks) > 0 || !strings.Contains(plan.Refused[0].Reason+plan.Refused[0].Instead, "Shared VPC host project host") {
		t.Errorf("without the host project: %+v", plan)
	}
	w := scene()
	p := open(t, w, Config{})
	for _, order := range [][]string{{"host", "p"}, {"p", "host"}} {
		var snapshots []*cloud.Snapshot
		for _, project := range order {
			snapshots = append(snapshots, read(t, p, project))
		}
		plan = remedy.New(snapshots, providertest.Findings([]uint16{11211}, snapshots), map[string]providers.Rewriter{Name: p}, remedy.Options{Ports: []uint16{11211}})
		if len(plan.Hunks) != 1 || plan.Hunks[0].Scope.Account != "host" || len(plan.Hunks[0].Serves) != 1 {
			t.Fatalf("%v: %+v", order, plan)
		}
	}
	outcome, err := providertest.Runner(Name, p, &providertest.Journal{}).Do(t.Context(), plan)
	if err != nil || outcome.Hunks[0].State != remedy.Applied || len(w.Projects[0].Firewalls) != 3 {
		t.Fatalf("%+v, %v", outcome, err)
	}
	expect(t, read(t, p, "p"), "cache", "v4.tcp reachable/narrow v4.udp reachable/narrow")
}

// TestSpareOfOthers: what a rule for other instances admits spares nothing here.
func TestSpareOfOthers(t *testing.T) {
	vpc, _ := both()
	w := simple()
	pr := &w.Projects[0]
	pr.Instances[0].Tags = []string{"a"}
	other := machine("other", "us-central1-a", "net", "10.1.0.3", "34.68.1.3")
	other.Tags = []string{"b"}
	pr.Instances = append(pr.Instances, other)
	pr.Firewalls = []gce.Firewall{
		{Name: "open", Network: "net", SourceRanges: everyone(), TargetTags: []string{"a"}, Allowed: []gce.Protocol{{IPProtocol: "all"}}},
		{Name: "partner", Network: "net", SourceRanges: []string{"5.5.5.0/24"}, TargetTags: []string{"b"}, Allowed: vpc},
	}
	plan, p := planned(t, w, remedy.Options{})
	if len(plan.Hunks) != 1 || plan.Hunks[0].Lossy() {
		t.Fatalf("%+v", plan)
	}
	r := providertest.Runner(Name, p, &providertest.Journal{})
	outcome, err := r.Do(t.Context(), plan)
	if err == nil {
		err = r.Verify(t.Context(), plan, outcome)
	}
	if err != nil || !outcome.OK() {
		t.Errorf("%+v, %v", outcome, err)
	}
	s := read(t, p, "p")
	expect(t, s, "cache", "v4.tcp blocked v4.udp blocked")
	expect(t, s, "other", "v4.tcp reachable/narrow v4.udp reachable/narrow")
}

// TestOneRuleThatCannotBeChanged: it does not keep the others of its list from being changed.
func TestOneRuleThatCannotBeChanged(t *testing.T) {
	w := simple()
	pr := &w.Projects[0]
	pr.Firewalls = nil
	pr.Instances[0].ServiceAccounts = []string{"x@p"}
	other := machine("other", "us-central1-a", "net", "10.1.0.3", "34.68.1.3")
	other.ServiceAccounts = []string{"y@p"}
	pr.Instances = append(pr.Instances, other)
	all := gce.Match{SrcIPRanges: everyone(), Layer4Configs: []gce.Layer4{{IPProtocol: "all"}}}
	pr.NetworkPolicies = []gce.Policy{{Name: "np", Network: "net", Rules: []gce.PolicyRule{
		{Priority: 0, Action: "allow", TargetServiceAccounts: []string{"x@p"}, Match: all},
		{Priority: 7, Action: "allow", TargetServiceAccounts: []string{"y@p"}, Match: all},
	}}}
	plan, p := planned(t, w, remedy.Options{})
	if len(plan.Hunks) != 1 || len(plan.Hunks[0].Rules) != 1 || len(plan.Unmet) != 1 || len(plan.Refused) == 0 {
		t.Fatalf("%+v", plan)
	}
	for _, r := range plan.Refused {
		if r.Subject.ID != "np/0" || !strings.Contains(r.Reason, "no free priority before rule 0") {
			t.Errorf("refused: %+v", r)
		}
	}
	r := providertest.Runner(Name, p, &providertest.Journal{})
	outcome, err := r.Do(t.Context(), plan)
	if err == nil {
		err = r.Verify(t.Context(), plan, outcome)
	}
	if err != nil || !outcome.OK() {
		t.Errorf("%+v, %v", outcome, err)
	}
	s := read(t, p, "p")
	expect(t, s, "cache", "v4.tcp reachable/world v4.udp reachable/world")
	expect(t, s, "other", "v4.tcp blocked v4.udp blocked")
}

// TestNoRoomForARule: where the project may have no further rule, what can be narrowed is, and the other way is tried, which
// leaves nothing behind either.
func TestNoRoomForARule(t *testing.T) {
	for _, settle := range []int{0, 2} {
		w := fixScene()
		w.Settle = settle
		p := &w.Projects[0]
		p.NetworkPolicies = nil
		p.Firewalls = []gce.Firewall{p.Firewalls[4]}
		p.FirewallQuota = 1
		plan, provider := planned(t, w, remedy.Options{})
		before := stored(p)
		outcome, err := providertest.Runner(Name, provider, &providertest.Journal{}).Do(t.Context(), plan)
		if err != nil || outcome.Hunks[0].State != remedy.Skipped || !strings.Contains(outcome.Hunks[0].Reason, "Quota 'FIREWALLS' exceeded") {
			t.Errorf("%+v, %v", outcome, err)
		}
		if diff := cmp.Diff(before, stored(p)); diff != "" {
			t.Errorf("something was written:\n%s", diff)
		}
	}
}

// TestWritesAreNotRepeated: a write whose answer is lost is not sent again, and one that is throttled is.
func TestWritesAreNotRepeated(t *testing.T) {
	for name, c := range map[string]struct {
		fault emulate.Fault
		calls int
		rules int
	}{
		"lost": {emulate.Fault{Lose: true}, 1, 2}, "broken": {emulate.Fault{Garbage: true}, 1, 1}, "throttled": {emulate.Fault{Throttle: 3}, 4, 2},
	} {
		w := simple()
		w.Projects[0].Firewalls[0].Allowed = []gce.Protocol{{IPProtocol: "all"}}
		faults := emulate.WithFaults(w, func(op string, _ *http.Request) emulate.Fault {
			if op == "compute.firewalls.create" {
				return c.fault
			}
			return emulate.Fault{}
		})
		p := open(t, faults, Config{})
		plan := planOf(t, p, read(t, p, "p"), remedy.Options{})
		_, err := p.Apply(t.Context(), plan.Hunks[0].Ways[0].Edits[0])
		if got := faults.Calls()["compute.firewalls.create"]; got != c.calls || len(w.Projects[0].Firewalls) != c.rules || (err == nil) != (name == "throttled") {
			t.Errorf("%s: %d calls, %d rules, %v", name, got, len(w.Projects[0].Firewalls), err)
		}
	}
}

// TestApplyRefuses: nothing is written of what is no write of one rule, or where something is missing, and the error says so.
func TestApplyRefuses(t *testing.T) {
	w := simple()
	w.Projects[0].Firewalls[0].Allowed = []gce.Protocol{{IPProtocol: "all"}}
	faults := emulate.WithFaults(w, refusing("compute.firewalls.create"))
	p := open(t, faults, Config{})
	plan := planOf(t, p, read(t, p, "p"), remedy.Options{})
	e := plan.Hunks[0].Ways[0].Edits[0]
	_, err := p.Apply(t.Context(), e)
	var hint *providers.Hint
	if !errors.As(err, &hint) || !strings.Contains(hint.Next, "grant compute.firewalls.create on projects/p") {
		t.Errorf("a missing permission: %v", err)
	}
	for name, change := range map[string]func(*cloud.Edit){
		"two":     func(e *cloud.Edit) { e.New = append(e.New, e.New[0]) },
		"none":    func(e *cloud.Edit) { e.New = nil },
		"a guard": func(e *cloud.Edit) { e.Guard = &cloud.Guard{} },
		"a list":  func(e *cloud.Edit) { e.List.Kind = "firewall-policy" },
	} {
		bad := e
		change(&bad)
		if _, err := p.Apply(t.Context(), bad); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
	gone := e
	gone.Old, gone.New = []cloud.Rule{e.New[0]}, nil
	if _, err := p.Apply(t.Context(), gone); !errors.Is(err, providers.ErrStale) {
		t.Errorf("a rule that is not there: %v", err)
	}
	if n := len(w.Projects[0].Firewalls); n != 1 {
		t.Errorf("%d rules", n)
	}
	if _, err := p.Guard(nil, nil, plan.Target, plan.Keep); !errors.Is(err, providers.ErrInexpressible) {
		t.Errorf("Guard: %v", err)
	}
}

// TestCommands: a shell reads back the words that the commands are made of, and gcloud the values, whatever names hold.
func TestCommands(t *testing.T) {
	hostile := "a,b'\"$(rm -rf /)`x`\n\x1b[31m^:^;é\\"
	w := simple()
	f := &w.Projects[0].Firewalls[0]
	f.Description, f.TargetTags, f.Allowed = hostile, []string{hostile, "^plain"}, []gce.Protocol{{IPProtocol: "all"}}
	w.Projects[0].Instances[0].Tags = []string{hostile}
	plan, p := planned(t, w, remedy.Options{})
	if len(plan.Hunks) != 1 {
		t.Fatalf("%+v", plan)
	}
	edit := plan.Hunks[0].Ways[0].Edits[0]
	edit.New = slices.Clone(edit.New)
	var native map[string]any
	if err := json.Unmarshal(edit.New[0].Native, &native); err != nil {
		t.Fatal(err)
	}
	native["description"], native["name"] = hostile, hostile
	edit.New[0].Native, _ = json.Marshal(native)
	want, err := p.Commands(edit)
	if err != nil || len(want) != 1 {
		t.Fatal(want, err)
	}
	for _, value := range []string{"--description=" + hostile, hostile} {
		if !slices.Contains(want[0], value) {
			t.Errorf("%q is not among %q", value, want[0])
		}
	}
	at := slices.IndexFunc(want[0], func(s string) bool { return strings.HasPrefix(s, "--target-tags=") })
	tags := strings.TrimPrefix(want[0][at], "--target-tags=")
	delimiter, rest, _ := strings.Cut(tags[1:], "^")
	if tags[0] != '^' || !slices.Equal(strings.Split(rest, delimiter), []string{hostile, "^plain"}) {
		t.Errorf("gcloud reads the tags back as %q", strings.Split(rest, delimiter))
	}
	line := remedy.Quote(want[0])
	if strings.ContainsAny(line, "\n\x1b") {
		t.Errorf("a control character in %q", line)
	}
	out, err := exec.Command("bash", "-c", `for w in `+line+`; do printf '%s\0' "$w"; done`).Output()
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want[0], strings.Split(strings.TrimSuffix(string(out), "\x00"), "\x00")); diff != "" {
		t.Errorf("the shell reads back:\n%s", diff)
	}

	// A delete and a change in place.
	back, err := p.Commands(plan.Hunks[0].Ways[0].Edits[0].Inverse())
	if err != nil || strings.Join(back[0][:4], " ") != "gcloud compute firewall-rules delete" || !slices.Contains(back[0], "--quiet") {
		t.Errorf("%v, %v", back, err)
	}
	plan, p = planned(t, simple(), remedy.Options{})
	change, err := p.Commands(plan.Hunks[0].Ways[0].Edits[0])
	if err != nil || remedy.Quote(change[0]) != "gcloud compute firewall-rules update open --project=p --source-ranges=10.0.0.0/8,100.64.0.0/10,169.254.0.0/16,172.16.0.0/12,192.168.0.0/16" {
		t.Errorf("%v, %v", change, err)
	}
	edit.New[0].Native = json.RawMessage(`{"name":"--impersonate-service-account=x"}`)
	if words, err := p.Commands(edit); err == nil {
		t.Errorf("a name that is a flag: %q", words)
	}
}

func TestPolicyCommands(t *testing.T) {
	w := fixScene()
	w.Projects[0].Firewalls = nil
	plan, p := planned(t, w, remedy.Options{})
	var got []string
	for i := range plan.Hunks {
		lines, err := plan.Hunks[i].Commands(p, 0)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, lines...)
		for _, e := range plan.Hunks[i].Ways[0].Edits {
			words, err := p.Commands(e.Inverse())
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, remedy.Quote(words[0]))
		}
	}
	for i, want := range []string{
		"gcloud compute network-firewall-policies rules create 99 --project=p --firewall-policy=np --global-firewall-policy --direction=INGRESS --action=deny --layer4-configs=tcp:11211,udp:11211 --src-ip-ranges=0.0.0.0/5,",
		"gcloud compute network-firewall-policies rules delete 99 --project=p --firewall-policy=np --global-firewall-policy",
		"gcloud compute network-firewall-policies rules update 5 --project=p --firewall-policy=rp --firewall-policy-region=us-central1 --src-ip-ranges=10.0.0.0/8,",
		"gcloud compute network-firewall-policies rules update 5 --project=p --firewall-policy=rp --firewall-policy-region=us-central1 --src-ip-ranges=0.0.0.0/0",
	} {
		if i >= len(got) || !strings.HasPrefix(got[i], want) {
			t.Errorf("command %d of %q, want %q", i, got, want)
		}
	}
}
