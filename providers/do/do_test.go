package do

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cloudaudit/cloudaudit/cloud"
	"github.com/cloudaudit/cloudaudit/internal/emulate"
	world "github.com/cloudaudit/cloudaudit/internal/emulate/do"
	"github.com/cloudaudit/cloudaudit/providers"
	"github.com/cloudaudit/cloudaudit/providers/providertest"
)

func TestConformance(t *testing.T) {
	providertest.Run(t, providertest.Cloud{
		Open: func(t *testing.T, match func(string, *http.Request) emulate.Fault, smallPages bool) (providers.Provider, *emulate.Faults) {
			w := world.Demo()
			w.Teams = append(w.Teams, &world.Team{
				Name: "second", UUID: "0a5df3e3004a17e242b7c20ca6c9fc25b701a47e", Tokens: []world.Token{{Value: "second-token"}},
				Scene: world.Scene{Droplets: []world.Droplet{public(1, "alone", "159.65.1.2")}},
			})
			if smallPages {
				w.PageSize = 1
			}
			o := open(t, w, match, world.DemoToken, "second-token")
			return o, o.calls
		},
		Question:    cloud.Question{Ports: []uint16{11211}},
		ListsScopes: func(op string) bool { return op == "account:read /v2/account" },
	})
}

// public returns a droplet with a public and a private address.
func public(id int, name, ip string, tags ...string) world.Droplet {
	return world.Droplet{ID: id, Name: name, Tags: tags, VPCUUID: "vpc-a", Networks: world.Networks{V4: []world.Address{
		{IPAddress: fmt.Sprintf("10.116.%d.%d", id/200%16, id%200+2), Type: "private"}, {IPAddress: ip, Type: "public"},
	}}}
}

// inbound returns a rule from addresses.
func inbound(action, protocol, ports string, addresses ...string) world.InboundRule {
	return world.InboundRule{Action: action, Protocol: protocol, Ports: ports, Sources: &world.Peers{Addresses: addresses}}
}

func TestDemoHasEveryVerdict(t *testing.T) {
	s := open(t, world.Demo(), nil, world.DemoToken).read(t)
	expect(t, s, "cache-scratch", "v4.tcp provider_only/world v4.udp provider_only/world")
	expect(t, s, "cache-sessions", "v4.tcp provider_only/world v4.udp provider_only/world v6.tcp provider_only/world")
	expect(t, s, "cache-reports", "v4.tcp blocked v4.udp blocked")
	expect(t, s, "cache-feeds", "v4.tcp provider_only/wide v4.udp blocked")
	expect(t, s, "cache-catalog", "v4.tcp reachable/world v4.udp blocked v6.tcp blocked")
	expect(t, s, "cache-legacy", "v4.tcp unknown/world v4.udp blocked")
	expect(t, s, "cache-partner", "v4.tcp provider_only/narrow")
	expect(t, s, "cache-images", "v4.tcp blocked v4.udp provider_only/world")
	expect(t, s, "cache-moving", "v4.tcp unknown/none v4.udp unknown/none")
	behind := map[cloud.Ref]bool{}
	for _, e := range s.Endpoints {
		for _, l := range e.Hops[len(e.Hops)-1].Layers {
			for _, list := range l.Lists {
				behind[list.Ref] = true
			}
		}
	}
	var latent []string
	for _, l := range s.Lists {
		if !behind[l.Ref] {
			latent = append(latent, l.Name)
		}
	}
	if diff := cmp.Diff([]string{"forgotten-migration"}, latent); diff != "" {
		t.Errorf("firewalls in front of nothing:\n%s", diff)
	}
	if open := ask(s, "cache-scratch", "v4.tcp"); !slices.Equal(open.admitted, []string{"none"}) {
		t.Errorf("a droplet behind no firewall is admitted by %v", open.admitted)
	}
}

func TestOrderOfTheAnswersDoesNotMatter(t *testing.T) {
	encoded := func(w *world.World) string {
		text, err := json.Marshal(open(t, w, nil, world.DemoToken).read(t))
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	reversed := world.Demo()
	scene := &reversed.Teams[0].Scene
	slices.Reverse(scene.Droplets)
	slices.Reverse(scene.Firewalls)
	slices.Reverse(scene.LoadBalancers)
	slices.Reverse(scene.ReservedIPs)
	for i := range scene.Droplets {
		slices.Reverse(scene.Droplets[i].Networks.V4)
		slices.Reverse(scene.Droplets[i].Tags)
	}
	if diff := cmp.Diff(encoded(world.Demo()), encoded(reversed)); diff != "" {
		t.Error(diff)
	}
}

func TestScopesAreTeams(t *testing.T) {
	w := &world.World{Teams: []*world.Team{
		{Name: "b", UUID: "uuid-b", Tokens: []world.Token{{Value: "token-of-b"}}, Scene: world.Scene{Droplets: []world.Droplet{public(1, "in-b", "159.65.1.2")}}},
		{Name: "a", UUID: "uuid-a", Tokens: []world.Token{{Value: "token-of-a"}, {Value: "again-a"}}, Scene: world.Scene{Droplets: []world.Droplet{public(2, "in-a", "159.65.1.3")}}},
		{Name: "only a name", Tokens: []world.Token{{Value: "token-of-c"}}},
	}}
	o := open(t, w, nil, "token-of-b", "token-of-a", "again-a", "token-of-c", "token-of-nobody")
	scopes, err := o.Scopes(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	want := []cloud.Scope{
		{Provider: "do", Account: "only a name"},
		{Provider: "do", Account: "token-5"},
		{Provider: "do", Account: "uuid-a"},
		{Provider: "do", Account: "uuid-b"},
	}
	if diff := cmp.Diff(want, scopes); diff != "" {
		t.Error(diff)
	}
	for account, name := range map[string]string{"uuid-a": "in-a", "uuid-b": "in-b"} {
		s, err := o.Read(t.Context(), cloud.Scope{Provider: "do", Account: account})
		if err != nil || len(s.Endpoints) != 1 || s.Endpoints[0].Name != name {
			t.Errorf("%s: %+v, %v", account, s, err)
		}
	}
	s, err := o.Read(t.Context(), cloud.Scope{Provider: "do", Account: "token-5"})
	if err != nil || len(s.Gaps) != 6 || !strings.Contains(s.Gaps[0].Hint, "does not accept the token") {
		t.Errorf("a token that is not accepted: %+v, %v", s, err)
	}
	s, err = o.Read(t.Context(), cloud.Scope{Provider: "do", Account: "someone-else"})
	if err != nil || len(s.Gaps) != 1 {
		t.Errorf("a scope that was not listed: %+v, %v", s, err)
	}
}

func TestCredentialsAndURL(t *testing.T) {
	var hint *providers.Hint
	_, err := New(Config{}).Scopes(t.Context())
	if !errors.Is(err, providers.ErrNotConfigured) || !errors.As(err, &hint) || !strings.Contains(hint.Next, "DIGITALOCEAN_TOKEN") {
		t.Errorf("without a token: %v", err)
	}
	_, err = New(Config{Tokens: []string{"t"}, BaseURL: "api.digitalocean.com"}).Scopes(t.Context())
	if !errors.As(err, &hint) || !strings.Contains(hint.Next, "DIGITALOCEAN_API_URL") {
		t.Errorf("a base URL without a scheme: %v", err)
	}
	for _, test := range []struct {
		token, access string
		want          []string
	}{
		{"", "", nil}, {"a", "b", []string{"a"}}, {" ", "b", []string{"b"}}, {" a , b,,a", "", []string{"a", "b"}},
	} {
		got := FromEnv(func(name string) string {
			return map[string]string{"DIGITALOCEAN_TOKEN": test.token, "DIGITALOCEAN_ACCESS_TOKEN": test.access, "DIGITALOCEAN_API_URL": "u"}[name]
		})
		if !slices.Equal(got.Tokens, test.want) || got.BaseURL != "u" {
			t.Errorf("%+v: %v", test, got)
		}
	}
}

// TestCallsAreCounted: each list is asked once a page, and nothing is asked an item at a time.
func TestCallsAreCounted(t *testing.T) {
	o := open(t, world.Demo(), nil, world.DemoToken)
	o.read(t)
	want := map[string]int{
		"account:read /v2/account": 1, "droplet:read /v2/droplets": 1, "firewall:read /v2/firewalls": 1,
		"load_balancer:read /v2/load_balancers": 1, "reserved_ip:read /v2/reserved_ips": 1,
		"reserved_ip:read /v2/reserved_ipv6": 1, "vpc:read /v2/vpcs": 1,
	}
	if diff := cmp.Diff(want, o.calls.Calls()); diff != "" {
		t.Error(diff)
	}

	// Without a balancer on the internet, networks do not matter; the owner of the token is asked once.
	w := world.Demo()
	w.Teams[0].Scene.LoadBalancers = []world.LoadBalancer{{ID: "internal", Network: "INTERNAL"}}
	o = open(t, w, nil, world.DemoToken)
	o.read(t)
	o.read(t)
	delete(want, "vpc:read /v2/vpcs")
	for op := range want {
		want[op] = 2
	}
	want["account:read /v2/account"] = 1
	if diff := cmp.Diff(want, o.calls.Calls()); diff != "" {
		t.Error(diff)
	}
}

// TestPermissions: what is documented is what the calls need, no more and no less.
func TestPermissions(t *testing.T) {
	full := open(t, world.Demo(), nil, world.DemoToken)
	reference, err := json.Marshal(full.read(t))
	if err != nil {
		t.Fatal(err)
	}
	needed := map[string]bool{"tag:read": true} // no call of its own: it shows attributes
	for op := range full.calls.Calls() {
		scope, _, _ := strings.Cut(op, " ")
		needed[scope] = true
	}
	if diff := cmp.Diff(slices.Sorted(maps.Keys(needed)), Permissions()); diff != "" {
		t.Errorf("permissions:\n%s", diff)
	}

	with := func(scopes []string) *cloud.Snapshot {
		w := world.Demo()
		w.Teams[0].Tokens = []world.Token{{Value: "narrow", Scopes: scopes}}
		return open(t, w, nil, "narrow").read(t)
	}
	narrow, err := json.Marshal(with(Permissions()))
	if err != nil || !bytes.Equal(narrow, reference) {
		t.Errorf("a token with these scopes reads something else than one with full access: %v", err)
	}
	for _, scope := range Permissions() {
		s := with(slices.DeleteFunc(Permissions(), func(p string) bool { return p == scope }))
		i := slices.IndexFunc(s.Gaps, func(g cloud.Gap) bool { return g.Subject == scope })
		if i < 0 || !strings.Contains(s.Gaps[i].Hint, scope) {
			t.Errorf("without %s: no gap names it: %+v", scope, s.Gaps)
		}
	}
}

// TestTokenAppearsNowhere: not in a gap, an error or the log, even if the server sends it back.
func TestTokenAppearsNowhere(t *testing.T) {
	const token = "dop_v1_do_not_print_me"
	for name, h := range map[string]http.HandlerFunc{
		"JSON": func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(http.StatusForbidden)
			fmt.Fprintf(w, `{"id":"forbidden","message":"bad %s","request_id":"%s"}`, r.Header.Get("Authorization"), token)
		},
		"HTML": func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(http.StatusBadGateway)
			fmt.Fprintf(w, "<html>%s\x1b[31m</html>", r.Header.Get("Authorization"))
		},
		"redirect": func(w http.ResponseWriter, r *http.Request) {
			if r.Host != "" && !strings.HasPrefix(r.URL.Path, "/v2/") {
				t.Errorf("the redirect was followed to %s with %s", r.URL, r.Header.Get("Authorization"))
			}
			http.Redirect(w, r, "/any/prefix/elsewhere?t="+token, http.StatusFound)
		},
		"connection": func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
	} {
		t.Run(name, func(t *testing.T) {
			o := &opened{}
			o.serve(t, h, token)
			s := o.read(t)
			text := fmt.Sprintf("%+v %s", s, o.log.String())
			if strings.Contains(text, token) || strings.Contains(text, "\x1b") {
				t.Errorf("%s", text)
			}
			if len(s.Gaps) != 6 || s.Gaps[0].Hint == "" {
				t.Errorf("gaps: %+v", s.Gaps)
			}
			if !strings.Contains(o.log.String(), "/v2/droplets") {
				t.Errorf("the log does not show what is asked: %q", o.log.String())
			}
		})
	}
}

// TestRequestsInFlightAreBounded: with two places, the server sees two requests at a time and never a third.
func TestRequestsInFlightAreBounded(t *testing.T) {
	var mu sync.Mutex
	flying, most := 0, 0
	pair := make(chan struct{})
	meet := func() { // wait for company
		select {
		case pair <- struct{}{}:
		case <-pair:
		case <-t.Context().Done():
		}
	}
	go meet() // there are five lists: one would stay alone
	demo := world.Demo()
	o := &opened{}
	o.serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		flying++
		most = max(most, flying)
		mu.Unlock()
		if r.URL.Path != "/v2/account" && r.URL.Path != "/v2/vpcs" {
			meet()
		}
		mu.Lock()
		flying--
		mu.Unlock()
		demo.ServeHTTP(w, r)
	}), world.DemoToken)
	o.slots = make(chan struct{}, 2)
	if s := o.read(t); len(s.Gaps) > 0 {
		t.Errorf("gaps: %+v", s.Gaps)
	}
	if most != 2 {
		t.Errorf("%d requests in flight at once, want 2", most)
	}
}

func TestCancelledWhileWaiting(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	o := open(t, world.Demo(), func(string, *http.Request) emulate.Fault { return emulate.Fault{Throttle: 100} }, world.DemoToken)
	o.sleep = func(ctx context.Context, _ time.Duration) error {
		cancel()
		return ctx.Err()
	}
	if _, err := o.Scopes(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("Scopes returned %v", err)
	}
	s, err := o.Read(ctx, cloud.Scope{Provider: Name, Account: "any"})
	if s != nil || !errors.Is(err, context.Canceled) {
		t.Errorf("Read returned %v, %v", s, err)
	}
}
