package findings_test

import (
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/cloudaudit/cloudaudit/cloud"
	"github.com/cloudaudit/cloudaudit/findings"
	"github.com/cloudaudit/cloudaudit/traffic"
)

// The table of the contract: ids never change their meaning.
func TestChecks(t *testing.T) {
	want := []struct {
		id, name string
		level    findings.Level
		severity string
	}{
		{"CA101", "OpenRuleLatent", findings.Warning, "4.0"},
		{"CA102", "ReachableFromInternet", findings.Error, "8.6"},
		{"CA103", "MemcachedAnswersTCP", findings.Error, "9.1"},
		{"CA104", "MemcachedAmplifier", findings.Error, "9.8"},
		{"CA105", "NoFirewall", findings.Error, "8.6"},
		{"CA106", "WideRange", findings.Warning, "5.3"},
		{"CA107", "ProviderNetworkOnly", findings.Warning, "5.0"},
		{"CA108", "OneWay", findings.Warning, "5.9"},
		{"CA109", "Undetermined", findings.Note, ""},
		{"CA110", "NarrowPublicRange", findings.Note, ""},
	}
	checks := findings.Checks()
	if len(checks) != len(want) {
		t.Fatalf("%d checks, want %d", len(checks), len(want))
	}
	for i, w := range want {
		c := checks[i]
		if c.ID != w.id || c.Name != w.name || c.Level != w.level || c.Severity != w.severity {
			t.Errorf("%s %s %s %q, want %+v", c.ID, c.Name, c.Level, c.Severity, w)
		}
		if !slices.Contains([]string{"very-high", "high", "medium", "low"}, c.Precision) {
			t.Errorf("%s: precision %q", c.ID, c.Precision)
		}
		oneSentence(t, c.Short)
		for _, text := range []string{c.Why, c.Fix} {
			if !strings.HasSuffix(text, ".") {
				t.Errorf("%s: %q does not end", c.ID, text)
			}
		}
		if u, err := url.Parse(c.Source); err != nil || u.Scheme != "https" || u.Host == "" {
			t.Errorf("%s: the source is %q", c.ID, c.Source)
		}
		if !slices.Contains(c.CWE, 284) || !slices.IsSorted(c.CWE) {
			t.Errorf("%s: CWE %v", c.ID, c.CWE)
		}
		if got, ok := findings.CheckOf(w.id); !ok || got.Name != w.name {
			t.Errorf("%s is found as %q", w.id, got.Name)
		}
	}
	if c, ok := findings.CheckOf("CA999"); ok {
		t.Errorf("CA999 is %+v", c)
	}
}

func TestLevels(t *testing.T) {
	levels := []findings.Level{"", findings.Note, findings.Warning, findings.Error}
	for i, a := range levels {
		for j, b := range levels {
			if a.AtLeast(b) != (i >= j) {
				t.Errorf("%q is at least %q: %v", a, b, a.AtLeast(b))
			}
		}
	}
	for _, c := range []struct {
		levels []findings.Level
		want   findings.Level
	}{
		{nil, ""},
		{[]findings.Level{findings.Note}, findings.Note},
		{[]findings.Level{findings.Note, findings.Error, findings.Warning}, findings.Error},
	} {
		var r findings.Report
		for _, l := range c.levels {
			r.Findings = append(r.Findings, findings.Finding{Level: l})
		}
		if got := r.Worst(); got != c.want {
			t.Errorf("%v: %q, want %q", c.levels, got, c.want)
		}
	}
}

func TestReasonAndSteps(t *testing.T) {
	layer := func(name string, kind cloud.Kind, rules ...string) cloud.Layer {
		return cloud.Layer{Name: name, Kind: kind, Lists: []*cloud.List{group(t, name, rules...)}}
	}
	replying := func(rules ...string) cloud.Layer {
		l := layer("nacl_in", cloud.Filter, "100 allow "+all)
		l.Stateless, l.ReplyName, l.Reply = true, "nacl_out", []*cloud.List{group(t, "out", rules...)}
		return l
	}
	sg := layer("security_group", cloud.Firewall, "a allow "+world)
	sg.Lists[0].Rules[0].Text = "tcp 11211 from anywhere"
	block := layer("block", cloud.Platform, "p deny "+all)
	none := layer("firewall", cloud.Firewall, "none allow "+all)
	many := layer("security_group", cloud.Firewall, "a allow "+world, "b allow "+world, "c allow "+world, "d allow "+world, "e allow "+world, "f allow "+world)
	for _, c := range []struct {
		name   string
		layers []cloud.Layer
		reason string
		steps  []string
	}{
		{"reachable", []cloud.Layer{replying("r allow " + all), sg}, "Admitted by 'a'.", []string{
			"Admits tcp/11211 by '100'.", "Admits tcp/11211 by 'a' (tcp 11211 from anywhere).",
		}},
		{"many rules", []cloud.Layer{many}, "Admitted by 'a', 'b', 'c', 'd' and 2 more.", []string{"Admits tcp/11211 by 'a', 'b', 'c', 'd' and 2 more."}},
		{"four rules", []cloud.Layer{layer("f", cloud.Firewall, "a allow "+world, "b allow "+world, "c allow "+world, "d allow "+world)}, "Admitted by 'a', 'b', 'c' and 'd'.", []string{
			"Admits tcp/11211 by 'a', 'b', 'c' and 'd'.",
		}},
		{"no firewall", []cloud.Layer{none}, "No firewall is in front.", []string{"Admits tcp/11211 by 'none'."}},
		{"no layer of one", []cloud.Layer{layer("route", cloud.Mask, "r allow "+all)}, "No firewall is in front.", []string{"Admits tcp/11211."}},
		{"one way", []cloud.Layer{replying(), sg}, "Admitted by 'a', but 'nacl_out' keeps replies in.", []string{
			"Admits tcp/11211 by '100', and lets no reply out.", "Admits tcp/11211 by 'a' (tcp 11211 from anywhere).",
		}},
		{"replies to a part", []cloud.Layer{replying("r allow all from 8.0.0.0/8"), sg}, "Admitted by 'a'.", []string{
			"Admits tcp/11211 by '100', and lets replies out to a part of the internet only.", "Admits tcp/11211 by 'a' (tcp 11211 from anywhere).",
		}},
		{"only the provider", []cloud.Layer{block, sg}, "Admitted by 'a', and only the provider's 'block' keeps the internet away.", []string{
			"Drops tcp/11211 by 'p'.", "Admits tcp/11211 by 'a' (tcp 11211 from anywhere).",
		}},
		{"blocked", []cloud.Layer{sg, layer("route", cloud.Mask)}, "Blocked at 'route'.", []string{
			"Admits tcp/11211 by 'a' (tcp 11211 from anywhere).", "Drops tcp/11211.",
		}},
		{"blocked by a rule", []cloud.Layer{layer("nacl_in", cloud.Filter, "100 deny "+all), sg}, "Blocked at 'nacl_in' by '100'.", []string{
			"Drops tcp/11211 by '100'.", "Drops tcp/11211.",
		}},
		{"in doubt", []cloud.Layer{layer("security_group", cloud.Firewall, "pl allow maybe unsized "+world)}, "May be admitted by 'pl', and 'prefix_list_unreadable' leaves it in doubt.", []string{
			"May admit tcp/11211 by 'pl'.",
		}},
		{"in doubt without a rule", []cloud.Layer{layer("carrier", cloud.Mask, "c allow maybe unsized "+world)}, "Nothing that could be read decides, and 'prefix_list_unreadable' leaves it in doubt.", []string{
			"May admit tcp/11211 by 'c'.",
		}},
		{"by country", []cloud.Layer{layer("security_group", cloud.Firewall, "geo allow maybe dynamic "+world)}, "Admitted by 'geo'.", []string{
			"Admits tcp/11211 from a part of the internet that only the cloud knows, by 'geo'.",
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			e := public(1, c.layers...)
			a, steps, ok := cloud.Question{Ports: []uint16{11211}}.Trace(&e, traffic.TCP.Port(11211))
			if !ok {
				t.Fatal("no path")
			}
			if got := findings.Reason(a); got != c.reason {
				t.Errorf("reason %q, want %q", got, c.reason)
			}
			oneSentence(t, findings.Reason(a))
			if len(steps) != len(c.steps) {
				t.Fatalf("%d steps, want %d", len(steps), len(c.steps))
			}
			for i, s := range steps {
				got := findings.StepOf(s)
				if got.Text != c.steps[i] || got.Stage != c.layers[i].Name {
					t.Errorf("%s: %q, want %q", got.Stage, got.Text, c.steps[i])
				}
				if strings.Contains(got.Text, " by ") && got.Ref.IsZero() {
					t.Errorf("%q refers to nothing", got.Text)
				}
			}
		})
	}
}
