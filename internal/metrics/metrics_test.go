package metrics

import (
	"bytes"
	"maps"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/cloudaudit/cloudaudit/cloud"
	"github.com/cloudaudit/cloudaudit/findings"
	"github.com/cloudaudit/cloudaudit/findings/findingstest"
)

var three = time.Date(2026, 11, 24, 3, 0, 0, 0, time.UTC)

func written(t *testing.T, run Run, old []byte) []byte {
	t.Helper()
	data, err := Write(run, old)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// parsed reads a file as Prometheus does. Every family has to say what it is.
func parsed(t *testing.T, data []byte) map[string]*dto.MetricFamily {
	t.Helper()
	parser := expfmt.NewTextParser(model.LegacyValidation)
	families, err := parser.TextToMetricFamilies(bytes.NewReader(data))
	if err != nil {
		t.Fatalf("%v\n%s", err, data)
	}
	for name, f := range families {
		if f.GetType() != dto.MetricType_GAUGE || f.GetHelp() == "" || !strings.Contains(string(data), "# TYPE "+name+" gauge\n") {
			t.Errorf("%s: no type or help", name)
		}
	}
	if promtool, err := exec.LookPath("promtool"); err == nil {
		cmd := exec.CommandContext(t.Context(), promtool, "check", "metrics")
		cmd.Stdin = bytes.NewReader(data)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("promtool: %v\n%s", err, out)
		}
	}
	return families
}

// value returns the sum of the values that have all these labels.
func value(t *testing.T, families map[string]*dto.MetricFamily, name string, labels ...string) float64 {
	t.Helper()
	sum, found := 0.0, false
	for _, m := range families[name].GetMetric() {
		has := map[string]string{}
		for _, l := range m.GetLabel() {
			has[l.GetName()] = l.GetValue()
		}
		matches := true
		for i := 0; i+1 < len(labels); i += 2 {
			matches = matches && has[labels[i]] == labels[i+1]
		}
		if matches {
			sum, found = sum+m.GetGauge().GetValue(), true
		}
	}
	if !found {
		t.Errorf("no %s with %q", name, labels)
	}
	return sum
}

func TestWrite(t *testing.T) {
	r := findingstest.Compared()
	data := written(t, Run{Started: three, Finished: three.Add(90 * time.Second), Exit: 1, Succeeded: true, Version: "v1.2.3", Report: r}, nil)
	findingstest.Golden(t, "compared.prom", data)
	families := parsed(t, data)
	if got := value(t, families, lastSuccess); got != float64(three.Unix()+90) {
		t.Errorf("last success %f", got)
	}
	if got := value(t, families, duration); got != 90 {
		t.Errorf("duration %f", got)
	}
	if got := value(t, families, prefix+"findings"); got != float64(len(r.Findings)) {
		t.Errorf("%f findings, want %d", got, len(r.Findings))
	}
	for _, s := range []findings.State{findings.New, findings.Unchanged, findings.Absent} {
		want := 0
		for _, f := range r.Findings {
			if f.State == s && f.Suppressed == nil && !f.Carried {
				want++
			}
		}
		if got := value(t, families, prefix+"findings", "state", string(s)); got != float64(want) || want == 0 {
			t.Errorf("%s: %f, want %d", s, got, want)
		}
	}
	if got := value(t, families, prefix+"exposures"); got != float64(len(r.Exposures)) {
		t.Errorf("%f exposures, want %d", got, len(r.Exposures))
	}
	if got := value(t, families, prefix+"scopes"); got != float64(len(r.Scopes)) {
		t.Errorf("%f scopes, want %d", got, len(r.Scopes))
	}
	if got, want := value(t, families, prefix+"scopes_read"), value(t, families, prefix+"scope_complete"); got != want || got >= float64(len(r.Scopes)) {
		t.Errorf("%f scopes read, want %f", got, want)
	}
	if value(t, families, prefix+"complete") != 0 {
		t.Error("an incomplete report is complete")
	}
}

// TestFailure: a run that failed changes what is said of the run, and nothing else.
func TestFailure(t *testing.T) {
	first := written(t, Run{Started: three, Finished: three.Add(time.Minute), Exit: 1, Succeeded: true, Report: findingstest.Report()}, nil)
	later := three.AddDate(0, 0, 1)
	second := written(t, Run{Started: later, Finished: later.Add(time.Second), Exit: 2}, first)
	before, after := parsed(t, first), parsed(t, second)
	for name, want := range map[string]float64{success: 0, exitStatus: 2, lastRun: seconds(later) + 1, lastSuccess: seconds(three) + 60, duration: 1} {
		if got := value(t, after, name); got != want {
			t.Errorf("%s is %f, want %f", name, got, want)
		}
	}
	for name, f := range before {
		if !slices.Contains([]string{success, exitStatus, lastRun, duration}, name) && f.String() != after[name].String() {
			t.Errorf("%s has changed", name)
		}
	}
	if !slices.Equal(slices.Sorted(maps.Keys(before)), slices.Sorted(maps.Keys(after))) {
		t.Errorf("%q, want %q", slices.Sorted(maps.Keys(after)), slices.Sorted(maps.Keys(before)))
	}
	// A fix that was not verified has a report, and no success.
	third := parsed(t, written(t, Run{Started: later, Finished: later, Exit: 4, Report: &findings.Report{Complete: true}}, second))
	if value(t, third, lastSuccess) != seconds(three)+60 || third[prefix+"findings"] != nil || value(t, third, prefix+"complete") != 1 {
		t.Error("of a run with a report and without success not that is written")
	}
	// The first run of all fails.
	only := parsed(t, written(t, Run{Started: three, Finished: three, Exit: 2}, nil))
	if value(t, only, success) != 0 || only[lastSuccess] != nil {
		t.Error("a success that never was")
	}
}

// TestOldFile: what stands in the file before is ours, foreign or broken.
func TestOldFile(t *testing.T) {
	data := written(t, Run{Started: three, Finished: three, Exit: 2}, []byte("# TYPE other gauge\nother 1\n# HELP cloudaudit_complete Once.\n# TYPE cloudaudit_complete gauge\ncloudaudit_complete 1\n"))
	if families := parsed(t, data); families["other"] != nil || value(t, families, prefix+"complete") != 1 {
		t.Errorf("%s", data)
	}
	data, err := Write(Run{Started: three, Finished: three, Exit: 2}, []byte("cloudaudit_complete{ 1\n"))
	if err == nil || value(t, parsed(t, data), exitStatus) != 2 {
		t.Errorf("%v, %s", err, data)
	}
}

// TestHostile: whatever a project or a version is called, the file can be read, and says so.
func TestHostile(t *testing.T) {
	for _, name := range append(findingstest.Hostile(), "a\\b\"c\nd", "\xff") {
		r := &findings.Report{Scopes: []findings.Scope{{Scope: cloud.Scope{Provider: "gcp", Account: name}}}}
		families := parsed(t, written(t, Run{Started: three, Finished: three, Version: name, Report: r}, nil))
		want := strings.ToValidUTF8(name, "\ufffd")
		if value(t, families, prefix+"scope_complete", "account", want) != 0 || value(t, families, build, "version", want) != 1 {
			t.Errorf("%q is lost", name)
		}
	}
}
