package do

import (
	"encoding/json"
	"errors"
	"net/netip"
	"strings"
	"testing"

	"github.com/cloudaudit/cloudaudit/cloud"
	world "github.com/cloudaudit/cloudaudit/internal/emulate/do"
	"github.com/cloudaudit/cloudaudit/providers"
	"github.com/cloudaudit/cloudaudit/providers/providertest"
	"github.com/cloudaudit/cloudaudit/remedy"
	"github.com/cloudaudit/cloudaudit/traffic"
)

// planOf plans w's mending.
func planOf(t *testing.T, w *world.World, change func([]remedy.Finding), o remedy.Options) (*remedy.Plan, *opened) {
	t.Helper()
	provider := open(t, w, nil, "token")
	snapshots := []*cloud.Snapshot{provider.read(t)}
	findings := providertest.Findings([]uint16{11211}, snapshots)
	if change != nil {
		change(findings)
	}
	o.Ports, o.Guard, o.AllowLoss = []uint16{11211}, true, true
	return remedy.New(snapshots, findings, map[string]providers.Rewriter{Name: provider}, o), provider
}

func TestWhatIsNotFixed(t *testing.T) {
	for name, test := range map[string]struct {
		scene  func(*world.World)
		change func([]remedy.Finding)
		reason string
	}{
		"suppressed": {nil, func(f []remedy.Finding) {
			for i := range f {
				f[i].Suppressed = true
			}
		}, "it is suppressed"},
		"a controller": {func(w *world.World) {
			for i := range w.Teams[0].Scene.Firewalls {
				w.Teams[0].Scene.Firewalls[i].Name = "k8s-8d91-worker"
			}
		}, nil, "DigitalOcean Kubernetes cluster 8d91"},
		"narrow": {func(w *world.World) {
			for i := range w.Teams[0].Scene.Firewalls {
				w.Teams[0].Scene.Firewalls[i].InboundRules = []world.InboundRule{inbound("", "tcp", "11211", "5.5.5.0/24")}
			}
		}, nil, "few hosts"},
		"unknown": {nil, func(f []remedy.Finding) {
			for i := range f {
				f[i].Check = "CA109"
			}
		}, "not known"},
		"no room": {func(w *world.World) {
			for i := range w.Teams[0].Scene.Firewalls {
				f := &w.Teams[0].Scene.Firewalls[i]
				for len(f.InboundRules)+len(f.OutboundRules) < 50 {
					f.InboundRules = append(f.InboundRules, inbound("", "tcp", "443", netip.AddrFrom4([4]byte{1, 1, 1, byte(len(f.InboundRules))}).String()))
				}
			}
		}, nil, "of at most 50 rules"},
	} {
		t.Run(name, func(t *testing.T) {
			w := fixScene()
			if test.scene != nil {
				test.scene(w)
			}
			plan, _ := planOf(t, w, test.change, remedy.Options{})
			if len(plan.Hunks) > 0 || len(plan.Refused) == 0 {
				t.Fatalf("%d hunks, %d refusals", len(plan.Hunks), len(plan.Refused))
			}
			for _, r := range plan.Refused {
				if !strings.Contains(r.Reason, test.reason) && !strings.Contains(r.Reason, "few hosts") {
					t.Errorf("refused because %q, want %q", r.Reason, test.reason)
				}
			}
		})
	}
}

func TestPlanIsTamperProofAndSaysWhatItDoes(t *testing.T) {
	plan, provider := planOf(t, fixScene(), nil, remedy.Options{})
	text, err := json.Marshal(plan)
	if err != nil {
		t.Fatal(err)
	}
	var again remedy.Plan
	if err := json.Unmarshal(text, &again); err != nil || again.Validate() != nil {
		t.Fatalf("a plan does not come back from JSON: %v, %v", err, again.Validate())
	}
	again.Hunks[0].Ways[0].Edits[0].List.ID = "another"
	if err := again.Validate(); err == nil {
		t.Error("a plan that was changed is taken")
	}
	words := strings.Join(plan.Hunks[0].Ways[0].Proof.Words, "\n")
	for _, want := range []string{"and nothing else", "Opened: nothing", "10.0.0.0/8", "of 50 rules", "5.5.5.0/24"} {
		if !strings.Contains(words, want) {
			t.Errorf("the words lack %q:\n%s", want, words)
		}
	}
	if words := strings.Join(plan.Hunks[1].Ways[0].Proof.Words, "\n"); !strings.Contains(words, "in front of 2 endpoints") {
		t.Errorf("the words do not say what else the list serves:\n%s", words)
	}
	commands, err := plan.Hunks[0].Commands(provider, 0)
	if err != nil || len(commands) != 1 || !strings.HasPrefix(commands[0], "doctl compute firewall add-rules fw-all --inbound-rules 'protocol:tcp,ports:11211,address:") {
		t.Errorf("%v, %v", commands, err)
	}
	runner := providertest.Runner(Name, provider, &providertest.Journal{})
	if err := plan.Within(2); err == nil || !strings.Contains(err.Error(), "3 changes") {
		t.Errorf("more changes than allowed: %v", err)
	}
	if err := errors.Join(plan.Within(3), plan.Within(0)); err != nil {
		t.Errorf("as many as allowed: %v", err)
	}
	runner.Journal = nil
	if _, err := runner.Do(t.Context(), plan); err == nil || !strings.Contains(err.Error(), "journal") {
		t.Errorf("without a journal: %v", err)
	}
	for op := range provider.calls.Calls() {
		if writes(op) {
			t.Errorf("something was written: %s", op)
		}
	}
}

func TestKeepPrivate(t *testing.T) {
	private := traffic.IPs(netip.MustParsePrefix("10.116.0.0/20"))
	for name, test := range map[string]struct {
		keep remedy.KeepPrivate
		want bool
	}{
		"auto": {remedy.KeepPrivate{}, true}, "none": {remedy.KeepPrivate{None: true}, false},
		"this": {remedy.KeepPrivate{Networks: []netip.Prefix{netip.MustParsePrefix("10.116.0.0/20")}}, true},
		"else": {remedy.KeepPrivate{Networks: []netip.Prefix{netip.MustParsePrefix("192.168.0.0/16")}}, false},
	} {
		w := fixScene()
		plan, provider := planOf(t, w, nil, remedy.Options{KeepPrivate: test.keep})
		outcome, err := providertest.Runner(Name, provider, &providertest.Journal{}).Do(t.Context(), plan)
		if err != nil || len(outcome.Hunks) != 2 {
			t.Fatalf("%s: %+v, %v", name, outcome, err)
		}
		s := provider.read(t)
		admitted, _ := s.Endpoints[0].Hops[0].Layers[0].Admits(traffic.Of(private, traffic.TCP.Port(11211), traffic.TCP.Port(11211)))
		if got := !admitted.IsEmpty(); got != test.want {
			t.Errorf("%s: private sources admitted: %v", name, got)
		}
		if a := ask(s, "one", "v4.tcp"); a.text != "provider_only/narrow" {
			t.Errorf("%s: the internet: %+v", name, a)
		}
	}
}
