// Package metrics writes what a run found as a file for the textfile collector of Prometheus' node exporter
// (https://github.com/prometheus/node_exporter#textfile-collector). A run that failed says so, and leaves what the last one
// that did not has found: a gauge never falls because nobody looked.
package metrics

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/cloudaudit/cloudaudit/cloud"
	"github.com/cloudaudit/cloudaudit/findings"
)

// Run is one run of the program.
type Run struct {
	Started, Finished time.Time
	Exit              int
	Succeeded         bool // it came to its end: everything that could be read was judged and reported
	Version           string
	Report            *findings.Report // nil if there is none
}

// prefix is that of the names of all metrics.
const prefix = "cloudaudit_"

// What is said of the last run, whatever came of it.
const (
	lastRun     = prefix + "last_run_timestamp_seconds"
	duration    = prefix + "last_run_duration_seconds"
	exitStatus  = prefix + "last_run_exit_status"
	success     = prefix + "last_run_success"
	lastSuccess = prefix + "last_success_timestamp_seconds"
	build       = prefix + "build_info"
)

// Write returns the file after run, of which old is the content before, or empty. An old file that cannot be read is as
// none, and the error says so beside the new content.
func Write(run Run, old []byte) ([]byte, error) {
	before, readErr := read(old)
	families := map[string]*dto.MetricFamily{}
	if run.Report == nil {
		families = before
	} else {
		for _, f := range ofReport(run.Report) {
			families[f.GetName()] = f
		}
		if f, ok := before[lastSuccess]; ok {
			families[lastSuccess] = f
		}
	}
	set := func(name, help string, value float64, labels ...string) {
		f := family(name, help)
		add(f, value, labels...)
		families[name] = f
	}
	set(lastRun, "When the last run ended, in seconds since 1970, whatever came of it.", seconds(run.Finished))
	set(duration, "How long the last run took.", run.Finished.Sub(run.Started).Seconds())
	set(exitStatus, "Exit status of the last run.", float64(run.Exit))
	set(success, "Whether the last run came to its end and wrote its report, complete or not.", truth(run.Succeeded))
	set(build, "The version of cloudaudit.", 1, "version", run.Version)
	if run.Succeeded {
		set(lastSuccess, "When the last run that came to its end ended, in seconds since 1970.", seconds(run.Finished))
	}
	var names []string
	for name := range families {
		names = append(names, name)
	}
	slices.Sort(names)
	var b bytes.Buffer
	for _, name := range names {
		if _, err := expfmt.MetricFamilyToText(&b, families[name]); err != nil {
			return nil, fmt.Errorf("metrics: %s: %w", name, err)
		}
	}
	return b.Bytes(), readErr
}

// read returns what a file of ours has.
func read(data []byte) (map[string]*dto.MetricFamily, error) {
	parser := expfmt.NewTextParser(model.LegacyValidation)
	families, err := parser.TextToMetricFamilies(bytes.NewReader(data))
	if err != nil {
		return map[string]*dto.MetricFamily{}, fmt.Errorf("metrics: the file that was there cannot be read, and is written anew: %w", err)
	}
	for name := range families {
		if !strings.HasPrefix(name, prefix) {
			delete(families, name)
		}
	}
	return families, nil
}

// ofReport returns what a report says. Every provider that it is about has every level, state and verdict, so that a series
// does not end when it comes to 0.
func ofReport(r *findings.Report) []*dto.MetricFamily {
	complete := family(prefix+"complete", "Whether everything that was asked for could be read.")
	add(complete, truth(r.Complete))

	var providers []string
	total, whole := map[string]int{}, map[string]int{}
	scope := family(prefix+"scope_complete", "Whether this account, region, project or team could be read in whole.")
	for _, s := range r.Scopes {
		providers = append(providers, s.Provider)
		total[s.Provider]++
		if s.Complete {
			whole[s.Provider]++
		}
		add(scope, truth(s.Complete), "provider", s.Provider, "account", s.Account, "region", s.Region)
	}

	type became struct{ provider, level, state string }
	counts := map[became]int{}
	for i := range r.Findings {
		f := &r.Findings[i]
		providers = append(providers, f.Subject.Provider)
		counts[became{f.Subject.Provider, string(f.Level), state(f)}]++
	}
	type pair struct{ provider, word string }
	exposed, asked := map[pair]int{}, map[pair]int{}
	for i := range r.Exposures {
		x := &r.Exposures[i]
		providers = append(providers, x.Provider)
		exposed[pair{x.Provider, string(x.Verdict)}]++
		if x.Probe != nil {
			asked[pair{x.Provider, answered(x)}]++
		}
	}
	slices.Sort(providers)
	providers = slices.Compact(providers)

	found := family(prefix+"findings", "Findings by level and by what has become of them since the run before.")
	exposures := family(prefix+"exposures", "Pairs of a public endpoint and a service that something gets through to, by verdict.")
	probed := family(prefix+"probed_exposures", "Exposures that were asked whether memcached answers.")
	scopes := family(prefix+"scopes", "Accounts, regions, projects and teams that were to be read.")
	read := family(prefix+"scopes_read", "Accounts, regions, projects and teams that were read in whole.")
	for _, p := range providers {
		for _, level := range []findings.Level{findings.Error, findings.Warning, findings.Note} {
			for _, s := range states() {
				add(found, float64(counts[became{p, string(level), s}]), "provider", p, "level", string(level), "state", s)
			}
		}
		for _, v := range []cloud.Exposure{cloud.Reachable, cloud.OneWay, cloud.ProviderOnly, cloud.Unknown} {
			add(exposures, float64(exposed[pair{p, string(v)}]), "provider", p, "verdict", string(v))
		}
		if len(asked) > 0 {
			for _, a := range []string{"true", "false"} {
				add(probed, float64(asked[pair{p, a}]), "provider", p, "answered", a)
			}
		}
		add(scopes, float64(total[p]), "provider", p)
		add(read, float64(whole[p]), "provider", p)
	}
	all := []*dto.MetricFamily{complete, scope, found, exposures, probed, scopes, read}
	return slices.DeleteFunc(all, func(f *dto.MetricFamily) bool { return len(f.Metric) == 0 })
}

// The states of a finding here. Carried is one of a scope that could not be read now, and open one that was compared with
// nothing.
const (
	carried = "carried"
	ignored = "ignored"
	open    = "open"
)

func states() []string {
	return []string{string(findings.New), string(findings.Unchanged), string(findings.Absent), carried, ignored, open}
}

func state(f *findings.Finding) string {
	switch {
	case f.State == findings.Absent:
		return string(f.State)
	case f.Suppressed != nil:
		return ignored
	case f.Carried:
		return carried
	case f.State == "":
		return open
	}
	return string(f.State)
}

func answered(x *findings.Exposure) string {
	if x.Probe.Proves() != "" {
		return "true"
	}
	return "false"
}

func family(name, help string) *dto.MetricFamily {
	return &dto.MetricFamily{Name: &name, Help: &help, Type: dto.MetricType_GAUGE.Enum()}
}

// add adds a value with labels, given as names and values in turn. A label without a value is as none.
func add(f *dto.MetricFamily, value float64, labels ...string) {
	m := &dto.Metric{Gauge: &dto.Gauge{Value: &value}}
	for i := 0; i+1 < len(labels); i += 2 {
		if valid := strings.ToValidUTF8(labels[i+1], "\ufffd"); valid != "" {
			m.Label = append(m.Label, &dto.LabelPair{Name: &labels[i], Value: &valid})
		}
	}
	f.Metric = append(f.Metric, m)
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// seconds returns t as Prometheus writes points in time.
func seconds(t time.Time) float64 { return float64(t.UnixMilli()) / 1000 }
