package gcp

import (
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cloudaudit/cloudaudit/cloud"
	"github.com/cloudaudit/cloudaudit/internal/emulate"
	"github.com/cloudaudit/cloudaudit/internal/emulate/gce"
)

// open serves h under a path and returns a provider that reads it as config says. It waits next to nothing before it asks
// again.
func open(t testing.TB, h http.Handler, config Config) *Provider {
	t.Helper()
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	environment := map[string]string{
		"GOOGLE_OAUTH_ACCESS_TOKEN":                  "a-token",
		"GOOGLE_COMPUTE_CUSTOM_ENDPOINT":             server.URL + "/any/prefix/compute/v1/",
		"GOOGLE_NETWORK_SECURITY_CUSTOM_ENDPOINT":    server.URL + "/any/prefix/v1/",
		"GOOGLE_RESOURCE_MANAGER_V3_CUSTOM_ENDPOINT": server.URL + "/any/prefix/v3/",
	}
	config.Env = func(name string) string { return environment[name] }
	config.FirstWait = time.Microsecond
	p := New(config)
	t.Cleanup(func() { p.transport.base.(*http.Transport).CloseIdleConnections() })
	return p
}

// read reads a project.
func read(t testing.TB, p *Provider, project string) *cloud.Snapshot {
	t.Helper()
	s, err := p.Read(t.Context(), cloud.Scope{Provider: Name, Account: project})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// readWorld reads project p of a world, and fails the test if there is a gap.
func readWorld(t testing.TB, w *gce.World) *cloud.Snapshot {
	t.Helper()
	s := read(t, open(t, w, Config{}), "p")
	if len(s.Gaps) > 0 {
		t.Errorf("gaps: %+v", s.Gaps)
	}
	return s
}

// verdict is what the answers for one instance, family and protocol come to.
type verdict struct {
	text     string // "blocked", or exposure/coverage
	admitted []string
	stages   []string // of all answers that are as strong, with the deny rules that took packets
}

// ask asks for port 11211 and returns the strongest verdict of an instance for a family and protocol, such as "v4.tcp".
func ask(s *cloud.Snapshot, instance, what string) verdict {
	rank := map[cloud.Exposure]int{cloud.Reachable: 4, cloud.Unknown: 3, cloud.OneWay: 2, cloud.ProviderOnly: 2, cloud.Blocked: 1}
	best, out := 0, verdict{text: "blocked"}
	for _, a := range (cloud.Question{Ports: []uint16{11211}}).Judge(s) {
		family, protocol := "v4", a.Service.Proto().String()
		if a.Endpoint.Family == 6 {
			family = "v6"
		}
		if a.Endpoint.Name != instance || family+"."+protocol != what || rank[a.Exposure] < best {
			continue
		}
		if rank[a.Exposure] > best {
			best, out = rank[a.Exposure], verdict{}
		}
		out.text = string(a.Exposure)
		if a.Exposure != cloud.Blocked {
			out.text += "/" + string(a.Coverage)
		}
		if len(a.Denied) == 0 {
			out.stages = append(out.stages, a.Stage)
		}
		for _, r := range a.Denied {
			out.stages = append(out.stages, r.Ref.ID)
		}
		for _, admission := range a.AdmittedBy {
			out.admitted = append(out.admitted, admission.Rule.Ref.ID)
		}
	}
	slices.Sort(out.admitted)
	out.admitted = slices.Compact(out.admitted)
	return out
}

// expect checks the verdicts of one instance, written "v4.tcp reachable/world v4.udp blocked".
func expect(t *testing.T, s *cloud.Snapshot, instance, verdicts string) {
	t.Helper()
	words := strings.Fields(verdicts)
	for i := 0; i+1 < len(words); i += 2 {
		if got := ask(s, instance, words[i]); got.text != words[i+1] {
			t.Errorf("%s %s is %s (admitted by %v, stages %v), want %s", instance, words[i], got.text, got.admitted, got.stages, words[i+1])
		}
	}
}

// subjects returns what could not be read.
func subjects(s *cloud.Snapshot) []string {
	var out []string
	for _, g := range s.Gaps {
		out = append(out, g.Subject)
	}
	return slices.Compact(out)
}

// refusing makes one operation, or all that match, a missing permission.
func refusing(operations ...string) func(string, *http.Request) emulate.Fault {
	return func(op string, _ *http.Request) emulate.Fault {
		return emulate.Fault{Refuse: slices.Contains(operations, op)}
	}
}
