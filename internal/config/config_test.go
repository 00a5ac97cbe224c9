package config

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v3"

	"github.com/cloudaudit/cloudaudit/findings"
	"github.com/cloudaudit/cloudaudit/traffic"
)

// bad are files that are refused, with what the error says. Those that only the loader can refuse, for a schema sees the
// values alone, are not of the schema.
var bad = []struct {
	name, file, want string
	loaderOnly       bool
}{
	{name: "unknown key", file: "provider: aws\nfail_on: error\n", want: `f:2:1: unknown key "fail_on" in the file; did you mean "fail-on"?`},
	{name: "nothing near", file: "xylophone: 1\n", want: `f:1:1: unknown key "xylophone" in the file`},
	{name: "plural", file: "providers: aws\n", want: `did you mean "provider"?`},
	{name: "unknown key of an ignore", file: "ignores:\n- rule: CA110\n  reson: x\n  reason: x\n  expires: 2030-01-01\n", want: `f:3:3: unknown key "reson" in an ignore; did you mean "reason"?`},
	{name: "no reason", file: "ignores:\n- rule: CA110\n  expires: 2030-01-01\n", want: `f:2:3: an ignore has no "reason"`},
	{name: "no expiry", file: "ignores:\n- rule: CA110\n  reason: x\n", want: `has no "expires"`},
	{name: "empty reason", file: "ignores:\n- rule: CA110\n  reason: ''\n  expires: 2030-01-01\n", want: `f:3:11: reason: "": want a text`},
	{name: "ignores nothing", file: "ignores:\n- reason: x\n  expires: 2030-01-01\n", want: "needs at least one of rule, resource, source"},
	{name: "no day", file: "ignores:\n- rule: CA110\n  reason: x\n  expires: 2030-02-31\n", want: `f:4:12: expires: "2030-02-31": want a day`},
	{name: "no network", file: "ignores:\n- source: office\n  reason: x\n  expires: 2030-01-31\n", want: `source: "office": want networks`},
	{name: "network", file: "ignores:\n- source: 10.0.0.0/64\n  reason: x\n  expires: 2030-01-31\n", want: `want networks`, loaderOnly: true},
	{name: "ignores is no list", file: "ignores:\n  rule: CA110\n", want: "f:2:3: ignores: want a list"},
	{name: "choice", file: "severity: eror\n", want: `f:1:11: severity: "eror": want one of error, warning, note; did you mean "error"?`},
	{name: "choice in a list", file: "provider: [aws, azure]\n", want: `"azure": want one of aws, do, gcp`},
	{name: "empty list", file: "region: []\n", want: "the list is empty"},
	{name: "no truth", file: "probe: yes\n", want: `f:1:8: probe: "yes": want true or false`},
	{name: "no number", file: "concurrency: many\n", want: "want a whole number"},
	{name: "negative", file: "concurrency: -1\n", want: "want a whole number"},
	{name: "no duration", file: "timeout: 10\n", want: "want a duration such as 10m"},
	{name: "soon", file: "timeout: soon\n", want: "want a duration"},
	{name: "null", file: "profile:\n", want: "profile: want a text"},
	{name: "mapping for a text", file: "profile: {a: b}\n", want: "profile: want a text"},
	{name: "not a mapping", file: "- provider\n", want: "f:1:1: the file: want a mapping"},
	{name: "two addresses", file: "notifications:\n- url: slack://a@b\n  url_from_env: X\n", want: "needs exactly one of url, url_from_env"},
	{name: "no address", file: "notifications:\n- on: [new]\n", want: "needs exactly one of url, url_from_env"},
	{name: "no scheme", file: "heartbeat:\n  url: hooks.example.com/secret\n", want: "url: want an address with a scheme", loaderOnly: true},
	{name: "event", file: "notifications:\n- url_from_env: X\n  on: [old]\n", want: `"old": want one of new, cleared, incomplete`},
	{name: "state without a place", file: "state:\n  keep-days: 3\n", want: `state has no "directory"`},
	{name: "duplicate", file: "port: 11211\nport: 11212\n", want: `f:2:1: key "port" stands here already, in line 1`, loaderOnly: true},
	{name: "anchor", file: "role: &a x\n", want: "anchors and aliases are not taken", loaderOnly: true},
	{name: "alias", file: "role: &a x\nprofile: *a\n", want: "f:2:10: profile: anchors and aliases", loaderOnly: true},
	{name: "bomb", file: "region: &a [x, x]\nproject: [*a, *a, *a]\n", want: "anchors and aliases are not taken", loaderOnly: true},
	{name: "merge", file: "<<: {port: 1}\n", want: `unknown key "<<"`, loaderOnly: true},
	{name: "tag", file: "role: !!binary aGk=\n", want: "tags such as !!binary", loaderOnly: true},
	{name: "tab", file: "state:\n\tdirectory: x\n", want: "f:2:1: found character that cannot start any token; YAML takes no tabs", loaderOnly: true},
	{name: "two documents", file: "port: 1\n---\nport: 2\n", want: "a second document", loaderOnly: true},
	{name: "broken", file: "provider: [aws\n", want: "f:", loaderOnly: true},
	{name: "not UTF-8", file: "role: \xff\n", want: "not UTF-8", loaderOnly: true},
	{name: "too large", file: strings.Repeat("# x\n", maxSize/4+1), want: "larger than", loaderOnly: true},
	{name: "a key that is none", file: "[a, b]: 1\n", want: "a key has to be a plain word", loaderOnly: true},
	{name: "control", file: "\"\\x1b[31m\": 1\n", want: `unknown key "\\u{1b}[31m"`},
}

func TestBad(t *testing.T) {
	for _, c := range bad {
		got, err := Load("f", []byte(c.file))
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, %v; want %q", c.name, got, err, c.want)
		}
		if err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: the error shows an address: %v", c.name, err)
		}
	}
}

// TestAllMistakes: one reading tells of every mistake.
func TestAllMistakes(t *testing.T) {
	_, err := Load("f", []byte("a: 1\nseverity: x\nprobe: 3\n"))
	if err == nil || len(strings.Split(err.Error(), "\n")) != 3 {
		t.Errorf("%v", err)
	}
}

func compiled(t *testing.T) *jsonschema.Schema {
	t.Helper()
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(Schema()))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	if err := c.AddResource("cloudaudit.schema.json", doc); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile("cloudaudit.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// plain returns a file as an editor hands it to a schema: days are strings.
func plain(t *testing.T, file string) any {
	t.Helper()
	var n yaml.Node
	if err := yaml.Unmarshal([]byte(file), &n); err != nil {
		t.Fatal(err)
	}
	var days func(n *yaml.Node)
	days = func(n *yaml.Node) {
		if n.Tag == "!!timestamp" {
			n.Tag = "!!str"
		}
		for _, c := range n.Content {
			days(c)
		}
	}
	days(&n)
	var v any
	if err := n.Decode(&v); err != nil {
		t.Fatal(err)
	}
	data, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	out, err := jsonschema.UnmarshalJSON(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// TestSchema: the schema takes what the loader takes and refuses what it refuses.
func TestSchema(t *testing.T) {
	s := compiled(t)
	for _, file := range good() {
		if err := s.Validate(plain(t, file)); err != nil {
			t.Errorf("the schema refuses\n%s\n%v", file, err)
		}
		if _, err := Load("f", []byte(file)); err != nil {
			t.Errorf("the loader refuses\n%s\n%v", file, err)
		}
	}
	for _, c := range bad {
		if c.loaderOnly {
			continue
		}
		if err := s.Validate(plain(t, c.file)); err == nil {
			t.Errorf("%s: the schema takes\n%s", c.name, c.file)
		}
	}
}

func good() []string {
	return []string{
		Example, "", "# nothing\n", "---\nport: 11211\n", "port: 11211,11214-11215\n", "project: [123, my-project]\n", "probe-rate: 0.5\n",
		"timeout: 1h30m\n", "ignores: []\n", "notifications:\n- url: slack://token@channel\n",
	}
}

func TestLoad(t *testing.T) {
	c, err := Load(Name, []byte("\ufeff"+strings.ReplaceAll(Example, "\n", "\r\n")))
	if err != nil {
		t.Fatal(err)
	}
	settings := map[string][]string{}
	for _, s := range c.Flags {
		settings[s.Flag] = s.Values
	}
	want := map[string][]string{
		"provider": {"aws", "do", "gcp"}, "region": {"eu-west-1", "us-east-1"}, "project": {"my-project"}, "port": {"11211", "11214-11215"},
		"output": {"sarif=cloudaudit.sarif", "html=cloudaudit.html"}, "severity": {"note"}, "fail-on": {"warning"}, "timeout": {"15m"},
		"state-dir": {"/var/lib/cloudaudit"}, "retain": {"60"}, "metrics": {"/var/lib/prometheus/node-exporter/cloudaudit.prom"}, "quiet": {"true"},
	}
	if diff := cmp.Diff(want, settings); diff != "" {
		t.Errorf("settings (-want +got):\n%s", diff)
	}
	if len(c.Ignores) != 2 || c.Ignores[0].Rule != "CA110" || c.Ignores[0].Source == nil || c.Ignores[1].Resource != "memcached-honeypot" ||
		!c.Ignores[0].Expires.Equal(time.Date(2027, 3, 31, 0, 0, 0, 0, time.UTC)) || c.Ignores[0].Text != "  - rule: CA110" {
		t.Errorf("ignores %+v", c.Ignores)
	}
	if diff := cmp.Diff([]Notification{
		{Address: Address{FromEnv: "CLOUDAUDIT_SLACK_URL"}, On: []string{"new", "cleared", "incomplete"}, Title: "memcached exposure"},
		{Address: Address{URL: "generic+https://hooks.example.com/cloudaudit"}, On: []string{"new"}},
	}, c.Notifications); diff != "" {
		t.Errorf("notifications (-want +got):\n%s", diff)
	}
	if c.KeepDays != 90 || c.Heartbeat != (Address{FromEnv: "CLOUDAUDIT_HEARTBEAT_URL"}) {
		t.Errorf("%d days, heartbeat %+v", c.KeepDays, c.Heartbeat)
	}
}

func TestSuppress(t *testing.T) {
	sources, err := traffic.ParseIPs("203.0.113.0/25")
	if err != nil {
		t.Fatal(err)
	}
	report := func() *findings.Report {
		r := &findings.Report{Findings: []findings.Finding{
			{RuleID: "CA110", Subject: findings.Subject{ID: "sgr-1", List: "sg-1", ListName: "partner"}, Sources: findings.Sources{IPSet: sources}, Exposures: []int{0}},
			{RuleID: "CA102", Subject: findings.Subject{ID: "sgr-2", List: "sg-2", ListName: "web"}, Sources: findings.Sources{IPSet: traffic.Internet()}, Exposures: []int{0, 1}},
			{RuleID: "CA105", Subject: findings.Subject{ID: "4711", Name: "droplet"}, Exposures: []int{1}},
		}}
		for _, name := range []string{"cache-1", "cache-2"} {
			r.Exposures = append(r.Exposures, findings.Exposure{Resource: findings.Resource{ID: "eni-" + name, Name: name, Instance: "i-" + name}})
		}
		return r
	}
	now := time.Date(2026, 5, 31, 23, 59, 59, 0, time.UTC)
	for _, c := range []struct {
		ignore  string
		want    []int
		notices int
	}{
		{"rule: CA110", []int{0}, 0},
		{"rule: sgr-2", []int{1}, 0},
		{"resource: partner", []int{0}, 0},
		{"resource: sg-2", []int{1}, 0},
		{"resource: cache-1", []int{0}, 0}, // sgr-2 opens cache-2 too
		{"resource: i-cache-2", []int{2}, 0},
		{"resource: droplet", []int{2}, 0},
		{"source: 203.0.113.0/24", []int{0}, 0},
		{"source: 203.0.113.0/26", nil, 0},
		{"source: '0.0.0.0/0, ::/0'", []int{0, 1}, 0},
		{"rule: CA102\n  source: 203.0.113.0/24", nil, 0},
		{"rule: CA110\n  expires: 2026-05-31", []int{0}, 0}, // its last day
		{"rule: CA110\n  expires: 2026-05-30", nil, 1},
	} {
		file := "ignores:\n- reason: x\n  " + c.ignore
		if !strings.Contains(file, "expires") {
			file += "\n  expires: 2030-01-31"
		}
		config, err := Load("f", []byte(file))
		if err != nil {
			t.Fatal(err)
		}
		r := report()
		config.Suppress(r, now)
		notices := r.Notices
		var got []int
		for i, f := range r.Findings {
			if f.Suppressed != nil {
				got = append(got, i)
			}
		}
		if !slices.Equal(got, c.want) || len(notices) != c.notices {
			t.Errorf("%s: ignores %v, want %v; notices %q", c.ignore, got, c.want, notices)
		}
		if c.notices > 0 && !strings.Contains(notices[0], "f:2: the ignore (x) has expired on 2026-05-30: what it was for counts again") {
			t.Errorf("notice %q", notices[0])
		}
	}
}

// FuzzLoad: whatever the file, it is read or refused, and what is refused says where.
func FuzzLoad(f *testing.F) {
	for _, c := range bad {
		if len(c.file) < 1000 {
			f.Add([]byte(c.file))
		}
	}
	for _, g := range good() {
		f.Add([]byte(g))
	}
	for _, end := range []string{"\r", "\u0085", "\u2028"} { // to YAML these end a line too
		f.Add([]byte(strings.ReplaceAll("# x\nignores:\n- rule: CA110\n  reason: x\n  expires: 2030-01-01\n", "\n", end)))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := Load("file", data)
		if err != nil && !strings.HasPrefix(err.Error(), "file:") {
			t.Errorf("%v", err)
		}
		if err == nil && c == nil {
			t.Error("neither a configuration nor an error")
		}
	})
}
