package gcp

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"

	_ "cloud.google.com/go/compute/apiv1/computepb" // registers the messages
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"github.com/cloudaudit/cloudaudit/internal/emulate"
	"github.com/cloudaudit/cloudaudit/internal/emulate/gce"
)

// discovery is what is used of Google's description of an API
// (https://developers.google.com/discovery/v1/reference/apis).
type discovery struct {
	Parameters map[string]json.RawMessage
	Schemas    map[string]schema
	Resources  map[string]resource
}

type resource struct {
	Methods   map[string]method
	Resources map[string]resource
}

type method struct {
	ID, HTTPMethod, FlatPath, Path string
	Parameters                     map[string]struct{ Location string }
	Response                       struct {
		Ref string `json:"$ref"`
	}
}

type schema struct {
	Ref                  string `json:"$ref"`
	Type                 string
	Properties           map[string]schema
	AdditionalProperties *schema
	Items                *schema
}

// description reads the description of the Compute Engine API that comes with Google's Go client.
func description(t *testing.T) discovery {
	t.Helper()
	dir, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "google.golang.org/api").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	data, err := os.ReadFile(filepath.Join(strings.TrimSpace(string(dir)), "compute", "v1", "compute-api.json"))
	if err != nil {
		t.Fatal(err)
	}
	var d discovery
	if err := json.Unmarshal(data, &d); err != nil {
		t.Fatal(err)
	}
	return d
}

// method returns the method of a request, by its path below /compute/v1/. Where several fit it is the one with the fewest
// variables in its path.
func (d *discovery) method(verb, path string) (best method, found bool) {
	variable := regexp.MustCompile(`\\\{[^}]*\\\}`)
	fewest := 0
	var look func(rs map[string]resource)
	look = func(rs map[string]resource) {
		for _, r := range rs {
			for _, m := range r.Methods {
				template := regexp.QuoteMeta(cmp.Or(m.FlatPath, m.Path))
				n := len(variable.FindAllString(template, -1))
				if m.HTTPMethod != verb || found && n >= fewest {
					continue
				}
				if regexp.MustCompile("^" + variable.ReplaceAllString(template, "[^/]+") + "$").MatchString(path) {
					best, found, fewest = m, true, n
				}
			}
			look(r.Resources)
		}
	}
	look(d.Resources)
	return best, found
}

// check compares a value with its schema: no property that it does not know, no value of another type.
func (d *discovery) check(at string, s schema, v any) []string {
	if s.Ref != "" {
		s = d.Schemas[s.Ref]
	}
	wrong := func() []string { return []string{fmt.Sprintf("%s is %T, want %s", at, v, s.Type)} }
	var out []string
	switch s.Type {
	case "object":
		object, ok := v.(map[string]any)
		if !ok {
			return wrong()
		}
		for name, value := range object {
			property, known := s.Properties[name]
			if !known && s.AdditionalProperties != nil {
				property, known = *s.AdditionalProperties, true
			}
			if !known {
				out = append(out, fmt.Sprintf("%s has the property %s", at, name))
				continue
			}
			out = append(out, d.check(at+"."+name, property, value)...)
		}
	case "array":
		list, ok := v.([]any)
		if !ok {
			return wrong()
		}
		for i, value := range list {
			out = append(out, d.check(fmt.Sprintf("%s[%d]", at, i), *s.Items, value)...)
		}
	case "string": // 64-bit numbers too
		if _, ok := v.(string); !ok {
			return wrong()
		}
	case "integer", "number":
		if _, ok := v.(float64); !ok {
			return wrong()
		}
	case "boolean":
		if _, ok := v.(bool); !ok {
			return wrong()
		}
	}
	return out
}

// described serves a cloud and holds every request and answer of Compute Engine to the description, and every answer to the
// messages of the client library, which may know no field of another name.
type described struct {
	t    *testing.T
	next http.Handler
	d    discovery

	mu   sync.Mutex
	seen map[string]int // methods, with how often they were asked
}

func (s *described) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	_, path, compute := strings.Cut(r.URL.Path, "/compute/v1/")
	if !compute {
		s.next.ServeHTTP(w, r)
		return
	}
	answer := httptest.NewRecorder()
	s.next.ServeHTTP(answer, r)
	for name, values := range answer.Header() {
		w.Header()[name] = values
	}
	w.WriteHeader(answer.Code)
	_, _ = w.Write(answer.Body.Bytes())

	s.mu.Lock()
	defer s.mu.Unlock()
	m, ok := s.d.method(r.Method, path)
	if !ok {
		s.t.Errorf("%s %s is no method of the API", r.Method, path)
		return
	}
	s.seen[m.ID]++
	for name := range r.URL.Query() {
		_, own := m.Parameters[name]
		_, general := s.d.Parameters[name]
		if !own && !general && name != "$alt" && name != "$prettyPrint" {
			s.t.Errorf("%s has no parameter %s", m.ID, name)
		}
	}
	if answer.Code != http.StatusOK {
		return
	}
	var v any
	if err := json.Unmarshal(answer.Body.Bytes(), &v); err != nil {
		s.t.Errorf("%s: %v", m.ID, err)
		return
	}
	for _, wrong := range s.d.check(m.Response.Ref, schema{Ref: m.Response.Ref}, v) {
		s.t.Errorf("%s: %s", m.ID, wrong)
	}
	kind, err := protoregistry.GlobalTypes.FindMessageByName(protoreflect.FullName("google.cloud.compute.v1." + m.Response.Ref))
	if err != nil {
		s.t.Errorf("%s: %v", m.ID, err)
		return
	}
	if err := (protojson.UnmarshalOptions{}).Unmarshal(bytes.Clone(answer.Body.Bytes()), kind.New().Interface()); err != nil {
		s.t.Errorf("%s: %v", m.ID, err)
	}
}

// TestRequestsAndAnswersAreTheAPIs reads the scenes that use every call, with the fallbacks, under the description.
func TestRequestsAndAnswersAreTheAPIs(t *testing.T) {
	d := description(t)
	seen := map[string]int{}
	for _, c := range []struct {
		world   *gce.World
		config  Config
		refused []string
	}{
		{world: gce.Demo(), config: Config{Organizations: []string{gce.Demo().Organization}}},
		{world: balancers(), config: Config{Projects: []string{"p"}}},
		{world: balancers(), config: Config{Projects: []string{"p"}}, refused: []string{"compute.networks.getRegionEffectiveFirewalls"}},
		{world: balancers(), config: Config{Projects: []string{"p"}}, refused: []string{
			"compute.networks.getRegionEffectiveFirewalls", "compute.networks.getEffectiveFirewalls",
		}},
	} {
		s := &described{t: t, next: emulate.WithFaults(c.world, refusing(c.refused...)), d: d, seen: seen}
		p := open(t, s, c.config)
		scopes, err := p.Scopes(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, scope := range scopes {
			read(t, p, scope.Account)
		}
	}
	if len(seen) < 18 {
		t.Errorf("only these methods were asked: %v", seen)
	}

	// The check finds what is wrong.
	bad := map[string]any{"items": map[string]any{"zones/z": map[string]any{"instances": []any{map[string]any{"nmae": "x", "cpuPlatform": 1.0}}}}}
	if got := d.check("list", schema{Ref: "InstanceAggregatedList"}, bad); len(got) != 2 {
		t.Errorf("in a wrong answer the description finds %q", got)
	}
}
