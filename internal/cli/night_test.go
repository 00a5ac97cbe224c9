package cli_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/cloudaudit/cloudaudit/findings"
	"github.com/cloudaudit/cloudaudit/findings/jsonreport"
	"github.com/cloudaudit/cloudaudit/internal/cli"
	"github.com/cloudaudit/cloudaudit/internal/emulate"
	"github.com/cloudaudit/cloudaudit/internal/emulate/do"
	"github.com/cloudaudit/cloudaudit/internal/emulate/ec2"
	"github.com/cloudaudit/cloudaudit/internal/emulate/gce"
)

// inbox is a server for notifications and heartbeats.
type inbox struct {
	mu   sync.Mutex
	got  []string // path and body
	down bool
}

func (b *inbox) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.down {
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	b.got = append(b.got, r.URL.Path+" "+string(body))
}

// take returns what has come to a path since it was last asked, and forgets it.
func (b *inbox) take(path string) []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	var out []string
	b.got = slices.DeleteFunc(b.got, func(s string) bool {
		text, ok := strings.CutPrefix(s, path+" ")
		if ok {
			out = append(out, text)
		}
		return ok
	})
	return out
}

// watch is a machine on which a scan runs every night.
type watch struct {
	t      *testing.T
	dir    string
	inbox  *inbox
	amazon *ec2.World
	faults *faults
	now    time.Time
	stderr string
}

const hookSecret = "T0PSECRET"

func newWatch(t *testing.T) *watch {
	w := &watch{t: t, dir: t.TempDir(), inbox: &inbox{}, amazon: ec2.Demo(), faults: &faults{}, now: time.Date(2026, 11, 20, 3, 0, 0, 0, time.UTC)}
	// What is global is read in one region, and what is behind it in another: with one of them it is undetermined.
	w.amazon.Accounts[0].Accelerators = nil
	serve := func(h http.Handler) string {
		s := httptest.NewServer(h)
		t.Cleanup(s.Close)
		return s.URL
	}
	id, secret := w.amazon.Keys(w.amazon.Accounts[0].ID)
	mail := serve(w.inbox)
	google := serve(emulate.WithFaults(gce.Demo(), w.faults.of))
	for name, value := range map[string]string{
		"AWS_ENDPOINT_URL": serve(emulate.WithFaults(w.amazon, w.faults.of)), "AWS_ACCESS_KEY_ID": id, "AWS_SECRET_ACCESS_KEY": secret, "AWS_REGION": "us-east-1",
		"AWS_EC2_METADATA_DISABLED": "true", "AWS_CONFIG_FILE": os.DevNull, "AWS_SHARED_CREDENTIALS_FILE": os.DevNull,
		"DIGITALOCEAN_API_URL": serve(emulate.WithFaults(do.Demo(), w.faults.of)), "DIGITALOCEAN_TOKEN": do.DemoToken,
		"GOOGLE_OAUTH_ACCESS_TOKEN": "emulated", "GOOGLE_CLOUD_PROJECT": "data-lab",
		"GOOGLE_COMPUTE_CUSTOM_ENDPOINT":             google + "/compute/v1/",
		"GOOGLE_NETWORK_SECURITY_CUSTOM_ENDPOINT":    google + "/networksecurity/v1/",
		"GOOGLE_RESOURCE_MANAGER_V3_CUSTOM_ENDPOINT": google + "/v3/",
		"HOOK": "generic+" + mail + "/" + hookSecret, "BEAT": mail + "/beat-" + hookSecret,
		"ONLY": "generic+" + mail + "/cleared?template=json",
	} {
		t.Setenv(name, value)
	}
	w.write("cloudaudit.yaml", `
new-only: true
quiet: true
metrics: `+w.path("cloudaudit.prom")+`
output: json=`+w.path("latest.json")+`
state:
  directory: `+w.path("state")+`
  keep-reports: 3
notifications:
  - url_from_env: HOOK
  - url_from_env: ONLY
    on: cleared
    title: good news
heartbeat:
  url_from_env: BEAT
`)
	return w
}

func (w *watch) path(name string) string { return filepath.Join(w.dir, name) }

func (w *watch) write(name, content string) {
	w.t.Helper()
	if err := os.WriteFile(w.path(name), []byte(content), 0o600); err != nil {
		w.t.Fatal(err)
	}
}

// scan runs the next night's scan and returns its standard output.
func (w *watch) scan(want int, arguments ...string) string {
	w.t.Helper()
	w.now = w.now.AddDate(0, 0, 1)
	var stdout, stderr bytes.Buffer
	status := cli.Run(w.t.Context(), cli.System{
		Args:   append([]string{"scan", "--config", w.path("cloudaudit.yaml")}, arguments...),
		Getenv: os.Getenv, Stdout: &stdout, Stderr: &stderr, Version: "v0.0.0-test",
		Now: func() time.Time { return w.now }, Sleep: func(context.Context, time.Duration) error { return nil },
	})
	w.stderr = stderr.String()
	if status != want {
		w.t.Fatalf("exit status %d, want %d\n%s%s", status, want, stderr.String(), stdout.String())
	}
	if strings.Contains(stdout.String()+stderr.String(), hookSecret) {
		w.t.Errorf("an address is shown:\n%s%s", stderr.String(), stdout.String())
	}
	return stdout.String()
}

func (w *watch) report(path string) *findings.Report {
	w.t.Helper()
	f, err := os.Open(path)
	if err != nil {
		w.t.Fatal(err)
	}
	defer f.Close()
	r, err := jsonreport.Read(f)
	if err != nil {
		w.t.Fatal(err)
	}
	return r
}

// reports returns the paths of the reports that are kept, the oldest first.
func (w *watch) reports() []string {
	w.t.Helper()
	found, err := filepath.Glob(w.path("state/report-*.json"))
	if err != nil {
		w.t.Fatal(err)
	}
	return found
}

// gauge returns the sum of the values of a metric that have all these labels.
func (w *watch) gauge(name string, labels ...string) float64 {
	w.t.Helper()
	data, err := os.ReadFile(w.path("cloudaudit.prom"))
	if err != nil {
		w.t.Fatal(err)
	}
	parser := expfmt.NewTextParser(model.LegacyValidation)
	families, err := parser.TextToMetricFamilies(bytes.NewReader(data))
	if err != nil {
		w.t.Fatal(err)
	}
	if families["cloudaudit_"+name] == nil {
		w.t.Errorf("there is no metric %s", name)
	}
	sum := 0.0
	for _, m := range families["cloudaudit_"+name].GetMetric() {
		fits := true
		for i := 0; i+1 < len(labels); i += 2 {
			fits = fits && slices.ContainsFunc(m.GetLabel(), func(l *dto.LabelPair) bool { return l.GetName() == labels[i] && l.GetValue() == labels[i+1] })
		}
		if fits {
			sum += m.GetGauge().GetValue()
		}
	}
	return sum
}

// states returns the subjects of the findings of r by what has become of them.
func states(r *findings.Report) map[findings.State][]string {
	out := map[findings.State][]string{}
	for _, f := range r.Findings {
		out[f.State] = append(out[f.State], f.Subject.ID)
	}
	return out
}

// remove takes a rule out of a region of the world.
func (w *watch) remove(region, rule string) {
	w.t.Helper()
	for _, r := range w.amazon.Accounts[0].Regions {
		if r.Name == region {
			before := len(r.SecurityGroupRules)
			r.SecurityGroupRules = slices.DeleteFunc(r.SecurityGroupRules, func(x ec2.SecurityGroupRule) bool { return x.SecurityGroupRuleID == rule })
			if len(r.SecurityGroupRules) != before-1 {
				w.t.Fatalf("%s has no rule %s", region, rule)
			}
		}
	}
}

// TestNights is what an operations team sees of a nightly scan: what is there, nothing, what is new while a region cannot be
// read, and what the region turns out to be when it can again.
func TestNights(t *testing.T) {
	w := newWatch(t)

	// Night 1: everything is new.
	out := w.scan(cli.ExitFindings)
	first := w.report(w.path("latest.json"))
	all := len(first.Findings)
	if got := states(first); len(got[findings.New]) != all || all < 10 || !strings.Contains(out, "sgr-0udp") {
		t.Fatalf("%d findings, states %v", all, got)
	}
	told := w.inbox.take("/" + hookSecret)
	if len(told) != 1 || !strings.HasPrefix(told[0], fmt.Sprintf("memcached exposure: %d new. Open now: ", all)) || !strings.Contains(told[0], "54.84.10.") {
		t.Errorf("notifications %q", told)
	}
	if w.gauge("findings", "state", "new") != float64(all) || w.gauge("complete") != 1 || w.gauge("last_success_timestamp_seconds") != float64(w.now.Unix()) || w.gauge("last_run_exit_status") != 1 {
		t.Error("the metrics are not those of night 1")
	}
	if got := w.inbox.take("/beat-" + hookSecret); len(got) != 1 {
		t.Errorf("heartbeats %q", got)
	}

	// Night 2: nothing is new, and nothing is said.
	if out := w.scan(cli.ExitClean); out != "" || w.stderr != "" {
		t.Errorf("a quiet night says %q and %q", out, w.stderr)
	}
	if told := w.inbox.take("/" + hookSecret); len(told) != 0 {
		t.Errorf("notifications %q", told)
	}
	if w.gauge("findings", "state", "unchanged") != float64(all) || w.gauge("findings", "state", "new") != 0 || w.gauge("last_run_exit_status") != 0 {
		t.Error("the metrics are not those of night 2")
	}
	if got := w.inbox.take("/beat-" + hookSecret); len(got) != 1 {
		t.Errorf("heartbeats %q", got)
	}

	// Night 3: one is new, one is cleared, and in a region that cannot be read nobody sees that a rule is gone.
	w.remove("us-east-1", "sgr-0old")
	w.remove("eu-west-1", "sgr-0eu")
	east := w.amazon.Accounts[0].Regions[0]
	rule := east.SecurityGroupRules[slices.IndexFunc(east.SecurityGroupRules, func(x ec2.SecurityGroupRule) bool { return x.SecurityGroupRuleID == "sgr-0tcp" })]
	rule.SecurityGroupRuleID, rule.GroupID = "sgr-0new", "sg-0partner"
	east.SecurityGroupRules = append(east.SecurityGroupRules, rule)
	w.faults.broken = []broken{{"*", "/eu-west-1/", emulate.Fault{Refuse: true}}}
	// The first attempt to tell of it fails; that changes nothing but a warning, and tomorrow it is told.
	w.inbox.down = true
	out = w.scan(cli.ExitFindings)
	if !strings.Contains(out, "sgr-0new") || strings.Contains(out, "sgr-0udp") || !strings.Contains(out, "INCOMPLETE") {
		t.Errorf("night 3 says\n%s", out)
	}
	for _, want := range []string{
		"1 finding cleared since the last run", "warning: notification 1 was not sent, and is tried again by the next run: tried 3 times: the answer was 503 Service Unavailable",
		"warning: heartbeat: tried 3 times",
	} {
		if !strings.Contains(w.stderr, want) {
			t.Errorf("night 3 does not say %q:\n%s", want, w.stderr)
		}
	}
	kept := w.report(w.reports()[2])
	if got := states(kept); !slices.Equal(got[findings.New], []string{"sgr-0new"}) || !slices.Equal(got[findings.Absent], []string{"sgr-0old"}) || !slices.Contains(got[findings.Unchanged], "sgr-0eu") {
		t.Errorf("night 3: %v", got)
	}
	unread := 0
	for _, f := range kept.Findings {
		if inside := f.Scope.Region == "eu-west-1"; inside && f.State == findings.Absent || inside != f.Carried {
			t.Errorf("%s in %s: %s, carried %t", f.Subject.ID, f.Scope, f.State, f.Carried)
		} else if inside {
			unread++
		}
	}
	if w.gauge("findings", "state", "new") != 1 || w.gauge("findings", "state", "absent") != 1 || w.gauge("findings", "state", "carried") != float64(unread) || unread == 0 ||
		w.gauge("complete") != 0 || w.gauge("scope_complete", "region", "eu-west-1") != 0 || w.gauge("scopes")-w.gauge("scopes_read") != 1 {
		t.Error("the metrics are not those of night 3")
	}

	// The same again, with a service that answers: told once, and not a second time.
	w.inbox.down = false
	for i := range 2 {
		w.scan(cli.ExitIncomplete)
		told := w.inbox.take("/" + hookSecret)
		if i == 1 {
			if len(told) != 0 {
				t.Errorf("told twice: %q", told)
			}
			continue
		}
		if len(told) != 1 {
			t.Fatalf("notifications %q", told)
		}
		for _, want := range []string{"1 new, 1 cleared, 1 not read", "New:\n- error CA102: sgr-0new of memcached-partner (sg-0partner)", "Cleared:\n- warning CA101: sgr-0old", "aws/111122223333/eu-west-1: "} {
			if !strings.Contains(told[0], want) {
				t.Errorf("the notification lacks %q:\n%s", want, told[0])
			}
		}
		if strings.Contains(told[0], "sgr-0eu") {
			t.Errorf("it is about what could not be read:\n%s", told[0])
		}
		var good map[string]string
		if got := w.inbox.take("/cleared"); len(got) != 1 {
			t.Errorf("good news %q", got)
		} else if err := json.Unmarshal([]byte(got[0]), &good); err != nil || good["title"] != "good news" || !strings.HasPrefix(good["message"], "memcached exposure: 1 cleared.") {
			t.Errorf("good news %v, %v", good, err)
		}
	}

	// The region can be read again: what is gone there is cleared now, and nothing is new.
	w.faults.broken = nil
	w.scan(cli.ExitClean)
	told = w.inbox.take("/" + hookSecret)
	if len(told) != 1 || !strings.Contains(told[0], "1 cleared, 1 read again") || !strings.Contains(told[0], "sgr-0eu") {
		t.Errorf("notifications %q", told)
	}
	if got := w.reports(); len(got) != 3 || !strings.Contains(got[2], w.now.Format("report-20060102T030000.000Z-")) {
		t.Errorf("reports %q", got)
	}
	if info, err := os.Stat(w.path("state")); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("state: %v, %v", info, err)
	}
	if info, err := os.Stat(w.path("cloudaudit.prom")); err != nil || info.Mode().Perm() != 0o644 {
		t.Errorf("metrics: %v, %v", info, err)
	}
	if data, err := os.ReadFile(w.path("state/notified.json")); err != nil || bytes.Contains(data, []byte(hookSecret)) {
		t.Errorf("what was told: %v\n%s", err, data)
	}
}

// TestScopesThatGo: findings in a cloud that a run does not look at are neither gone nor, a night later, new.
func TestScopesThatGo(t *testing.T) {
	w := newWatch(t)
	w.scan(cli.ExitFindings)
	w.inbox.take("/" + hookSecret)
	if out := w.scan(cli.ExitClean, "--provider", "aws,gcp"); out != "" || !strings.Contains(w.stderr, "warning: do/") {
		t.Errorf("%q, %q", out, w.stderr)
	}
	w.scan(cli.ExitClean, "--provider", "aws,gcp")
	if w.stderr != "" {
		t.Errorf("it is said again: %q", w.stderr)
	}
	w.scan(cli.ExitClean)
	if told := w.inbox.take("/" + hookSecret); len(told) != 0 {
		t.Errorf("notifications %q", told)
	}
}

// TestFailedNights: what a run cannot use it does not take for nothing, and whoever watches hears of it.
func TestFailedNights(t *testing.T) {
	w := newWatch(t)
	w.scan(cli.ExitFindings)
	last, found := w.gauge("last_success_timestamp_seconds"), w.gauge("findings")
	w.inbox.take("/beat-" + hookSecret)
	for name, content := range map[string]string{"baseline.json": `{"schema": "cloudaudit.report/v1", "comp`, "notified.json": "", "baseline.json ": "[]"} {
		path := w.path("state/" + strings.TrimSpace(name))
		good, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		w.write("state/"+strings.TrimSpace(name), content)
		if out := w.scan(cli.ExitUsage); out != "" || !strings.Contains(w.stderr, path) || !strings.Contains(w.stderr, "hint: look at it and move it away") {
			t.Errorf("%s: %q, %q", name, out, w.stderr)
		}
		if w.gauge("last_run_success") != 0 || w.gauge("last_run_exit_status") != 2 || w.gauge("last_success_timestamp_seconds") != last || w.gauge("findings") != found {
			t.Errorf("%s: the metrics do not tell of the failure", name)
		}
		if got := w.inbox.take("/beat-" + hookSecret + "/fail"); len(got) != 1 {
			t.Errorf("%s: heartbeats %q", name, got)
		}
		if now, err := os.ReadFile(path); err != nil || string(now) != content {
			t.Errorf("%s is another now: %q", name, now)
		}
		w.write("state/"+strings.TrimSpace(name), string(good))
	}
	w.scan(cli.ExitClean)
	if w.gauge("last_run_success") != 1 {
		t.Error("a night that went well is none")
	}
	// A report that cannot be written leaves the state as it was, so that the next night says what this one could not.
	before, err := os.ReadFile(w.path("state/baseline.json"))
	if err != nil {
		t.Fatal(err)
	}
	w.remove("us-east-1", "sgr-0old")
	if err := os.Mkdir(w.path("taken"), 0o700); err != nil {
		t.Fatal(err)
	}
	w.scan(cli.ExitUsage, "--output", "json="+w.path("taken"))
	if after, err := os.ReadFile(w.path("state/baseline.json")); err != nil || !bytes.Equal(before, after) {
		t.Errorf("the state has gone on: %v", err)
	}
	if told := w.inbox.take("/cleared"); len(told) != 0 {
		t.Errorf("notifications %q", told)
	}
}

// TestTwoRunsAtOnce: the second says who is at work, and leaves without a trace.
func TestTwoRunsAtOnce(t *testing.T) {
	w := newWatch(t)
	reading, leave := make(chan struct{}), make(chan struct{})
	var once sync.Once
	digitalocean := do.Demo()
	server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		once.Do(func() { close(reading) })
		<-leave
		digitalocean.ServeHTTP(rw, r)
	}))
	defer server.Close()
	t.Setenv("DIGITALOCEAN_API_URL", server.URL)
	run := func() (int, string) {
		var stderr bytes.Buffer
		status := cli.Run(t.Context(), cli.System{
			Args:   []string{"scan", "--config", w.path("cloudaudit.yaml"), "--provider", "do"},
			Getenv: os.Getenv, Stdout: io.Discard, Stderr: &stderr,
		})
		return status, stderr.String()
	}
	ended := make(chan int)
	go func() {
		status, _ := run()
		ended <- status
	}()
	<-reading
	status, stderr := run()
	if _, err := os.Stat(w.path("cloudaudit.prom")); status != cli.ExitUsage || err == nil || len(w.inbox.take("/beat-"+hookSecret+"/fail")) != 0 {
		t.Errorf("exit status %d, metrics %v", status, err)
	}
	want := fmt.Sprintf(`another run is at work in it \(process %d on \S+ since 20[0-9TZ:-]+\)\nhint: wait`, os.Getpid())
	if !regexp.MustCompile(want).MatchString(stderr) {
		t.Errorf("%q does not match %s", stderr, want)
	}
	close(leave)
	if status := <-ended; status != cli.ExitFindings || len(w.reports()) != 1 {
		t.Errorf("the first ended with %d, and there are %q", status, w.reports())
	}
	if status, _ := run(); status != cli.ExitClean {
		t.Errorf("the next ended with %d", status)
	}
}
