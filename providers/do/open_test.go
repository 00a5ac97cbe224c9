package do

import (
	"bytes"
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/cloudaudit/cloudaudit/cloud"
	"github.com/cloudaudit/cloudaudit/internal/emulate"
	world "github.com/cloudaudit/cloudaudit/internal/emulate/do"
)

// opened is a provider of an emulated cloud. Its clock stands still but for the provider's own waiting.
type opened struct {
	*Provider
	calls *emulate.Faults

	mu     sync.Mutex
	clock  time.Time
	waited []time.Duration
	log    bytes.Buffer
}

// open serves w under a path, behind faults, and returns a provider of the teams of tokens.
func open(t *testing.T, w *world.World, match func(string, *http.Request) emulate.Fault, tokens ...string) *opened {
	t.Helper()
	o := &opened{calls: emulate.WithFaults(w, match), clock: time.Unix(1_790_000_000, 0)}
	o.serve(t, o.calls, tokens...)
	return o
}

// serve makes o the provider of an API that h answers.
func (o *opened) serve(t *testing.T, h http.Handler, tokens ...string) {
	t.Helper()
	server := httptest.NewServer(http.StripPrefix("/any/prefix", h))
	t.Cleanup(server.Close)
	o.Provider = New(Config{
		Tokens: tokens, BaseURL: server.URL + "/any/prefix/", Concurrency: 4,
		Log: hclog.New(&hclog.LoggerOptions{Level: hclog.Trace, Output: &o.log}),
	})
	t.Cleanup(o.config.Transport.(*http.Transport).CloseIdleConnections)
	o.now = func() time.Time {
		o.mu.Lock()
		defer o.mu.Unlock()
		return o.clock
	}
	o.sleep = func(ctx context.Context, d time.Duration) error {
		o.mu.Lock()
		defer o.mu.Unlock()
		o.waited = append(o.waited, d)
		o.clock = o.clock.Add(d)
		return ctx.Err()
	}
}

// read reads the only scope of o.
func (o *opened) read(t *testing.T) *cloud.Snapshot {
	t.Helper()
	scopes, err := o.Scopes(t.Context())
	if err != nil || len(scopes) != 1 {
		t.Fatalf("scopes %v, %v: want one", scopes, err)
	}
	s, err := o.Read(t.Context(), scopes[0])
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// single reads scene with a token of full access, and fails the test if there is a gap.
func single(t *testing.T, scene world.Scene) *cloud.Snapshot {
	t.Helper()
	s := open(t, world.Single("token", scene), nil, "token").read(t)
	if len(s.Gaps) > 0 {
		t.Errorf("gaps: %+v", s.Gaps)
	}
	return s
}

// ask asks for port 11211 and returns the strongest verdict of the droplet for a family and protocol, such as "v4.tcp".
func ask(s *cloud.Snapshot, droplet, what string) verdict {
	return askWith(cloud.Question{Ports: []uint16{11211}}, s, droplet, what)
}

// verdict is what the answers for one droplet, family and protocol come to.
type verdict struct {
	text     string // "blocked", or exposure/coverage
	admitted []string
	stages   []string // of all answers that are as strong, with the deny rules that took packets
}

func askWith(q cloud.Question, s *cloud.Snapshot, droplet, what string) verdict {
	rank := map[cloud.Exposure]int{cloud.Reachable: 4, cloud.Unknown: 3, cloud.OneWay: 2, cloud.ProviderOnly: 2, cloud.Blocked: 1}
	best, out := 0, verdict{text: "blocked"}
	for _, a := range q.Judge(s) {
		family, protocol := "v4", a.Service.Proto().String()
		if a.Endpoint.Family == 6 {
			family = "v6"
		}
		if a.Endpoint.Name != droplet || family+"."+protocol != what || rank[a.Exposure] < best {
			continue
		}
		if rank[a.Exposure] > best {
			best, out = rank[a.Exposure], verdict{}
		}
		out.text = string(a.Exposure)
		if a.Exposure != cloud.Blocked {
			out.text += "/" + string(a.Coverage)
		}
		out.stages = append(out.stages, a.Stage)
		for _, r := range a.Denied {
			out.stages = append(out.stages, r.Ref.ID)
		}
		for _, admission := range a.AdmittedBy {
			out.admitted = append(out.admitted, admission.Rule.Ref.ID)
		}
	}
	return out
}

// expect checks the verdicts of one droplet, written "v4.tcp provider_only/world v4.udp blocked".
func expect(t *testing.T, s *cloud.Snapshot, droplet, verdicts string) {
	t.Helper()
	words := strings.Fields(verdicts)
	for i := 0; i+1 < len(words); i += 2 {
		if got := ask(s, droplet, words[i]); got.text != words[i+1] {
			t.Errorf("%s %s is %s (admitted by %v, stages %v), want %s", droplet, words[i], got.text, got.admitted, got.stages, words[i+1])
		}
	}
}

// gapSubjects returns what could not be read.
func gapSubjects(s *cloud.Snapshot) string {
	var out []string
	for _, g := range s.Gaps {
		out = append(out, g.Subject)
	}
	return strings.Join(out, " ")
}
