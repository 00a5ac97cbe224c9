package do

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/digitalocean/godo"

	"github.com/cloudaudit/cloudaudit/internal/emulate"
	world "github.com/cloudaudit/cloudaudit/internal/emulate/do"
)

// N30: more than 200 droplets. per_page is at most 200, the default is 20; links.pages.next leads on.
func TestN30MoreThanOnePageOfDroplets(t *testing.T) {
	var scene world.Scene
	for i := range 450 {
		scene.Droplets = append(scene.Droplets, public(i+1, "d"+strconv.Itoa(i+1), fmt.Sprintf("159.65.%d.%d", 1+i/200, 1+i%200)))
	}
	o := open(t, world.Single("token", scene), nil, "token")
	s := o.read(t)
	if len(s.Endpoints) != 450 || len(s.Gaps) > 0 || s.Endpoints[449].Name != "d450" {
		t.Errorf("%d endpoints, gaps %+v", len(s.Endpoints), s.Gaps)
	}
	if n := o.calls.Calls()["droplet:read /v2/droplets"]; n != 3 {
		t.Errorf("%d requests for 450 droplets, want 3", n)
	}
}

// N31: 429 with retry-after. The wait is what the API asks for, and the limits of 250 a minute are kept without being told.
func TestN31RetryAfterIsWaitedFor(t *testing.T) {
	w := world.Demo()
	w.RetryAfter = 29
	o := open(t, w, func(op string, _ *http.Request) emulate.Fault {
		if op == "firewall:read /v2/firewalls" {
			return emulate.Fault{Throttle: 10}
		}
		return emulate.Fault{}
	}, world.DemoToken)
	if s := o.read(t); len(s.Gaps) > 0 {
		t.Errorf("throttled ten times: %+v", s.Gaps)
	}
	if len(o.waited) != 10 || slices.ContainsFunc(o.waited, func(d time.Duration) bool { return d != 29*time.Second }) {
		t.Errorf("waited %v, want ten times 29s", o.waited)
	}

	w = world.Demo()
	w.RetryAfter = 3000 // the hour is used up
	o = open(t, w, func(op string, _ *http.Request) emulate.Fault {
		if op == "firewall:read /v2/firewalls" {
			return emulate.Fault{Throttle: 1000}
		}
		return emulate.Fault{}
	}, world.DemoToken)
	s := o.read(t)
	if len(o.waited) != 0 || gapSubjects(s) != "firewall:read" || !strings.Contains(s.Gaps[0].Hint, "used up") {
		t.Errorf("waited %v, gaps %+v", o.waited, s.Gaps)
	}
}

func TestN31NoMoreThan250RequestsAMinute(t *testing.T) {
	var scene world.Scene
	for i := range 260 {
		scene.Droplets = append(scene.Droplets, public(i+1, "d"+strconv.Itoa(i+1), fmt.Sprintf("159.65.%d.%d", 1+i/200, 1+i%200)))
	}
	w := world.Single("token", scene)
	w.PageSize = 1
	o := open(t, w, nil, "token")
	w.Now = o.now
	if s := o.read(t); len(s.Endpoints) != 260 || len(s.Gaps) > 0 {
		t.Errorf("%d endpoints, gaps %+v", len(s.Endpoints), s.Gaps)
	}
	// 265 requests need more than a minute; a single refusal would show as a wait for its Retry-After.
	if len(o.waited) == 0 || o.waited[0] != time.Minute || slices.Contains(o.waited, time.Second) {
		t.Errorf("waited %v", o.waited)
	}
}

func TestRetryAfterForms(t *testing.T) {
	now := time.Date(2026, 11, 24, 10, 0, 0, 0, time.UTC)
	for value, want := range map[string]time.Duration{
		"29": 29 * time.Second, "0": 0, "-3": 0, "": 500 * time.Millisecond, "soon": 500 * time.Millisecond,
		"Tue, 24 Nov 2026 10:00:40 GMT": 40 * time.Second, "Tue, 24 Nov 2026 09:00:00 GMT": 0,
	} {
		r := &http.Response{StatusCode: 429, Header: http.Header{"Retry-After": {value}}}
		if got, again := pause(r, nil, 1, now); got != want || !again {
			t.Errorf("%q: %v, %v", value, got, again)
		}
	}
	for _, test := range []struct {
		status, try int
		again       bool
	}{
		{200, 1, false}, {403, 1, false}, {500, 1, true}, {500, brokenTries, false}, {501, 1, false}, {429, throttledTries, false}, {429, throttledTries - 1, true},
	} {
		if _, again := pause(&http.Response{StatusCode: test.status, Header: http.Header{}}, nil, test.try, now); again != test.again {
			t.Errorf("%+v: again is %v", test, again)
		}
	}
}

// N32: the token lacks tag:read or droplet:read. Attachment is unknown, not empty.
func TestN32MissingScopesAreUnknown(t *testing.T) {
	scene := world.Scene{
		Droplets: []world.Droplet{public(1, "by-tag", "159.65.1.2", "web"), public(2, "by-id", "159.65.1.3"), public(3, "open", "159.65.1.4")},
		Firewalls: []world.Firewall{
			{ID: "fw-tag", Name: "ssh", Tags: []string{"web"}, InboundRules: []world.InboundRule{inbound("", "tcp", "22", "0.0.0.0/0")}},
			{ID: "fw-id", Name: "partner", DropletIDs: []int{2}, InboundRules: []world.InboundRule{inbound("", "tcp", "11211", "5.5.5.5")}},
		},
	}
	s := single(t, scene)
	expect(t, s, "by-tag", "v4.tcp blocked v4.udp blocked")
	expect(t, s, "by-id", "v4.tcp provider_only/narrow v4.udp blocked")
	expect(t, s, "open", "v4.tcp provider_only/world")

	without := func(scope string) world.World {
		scopes := slices.DeleteFunc(Permissions(), func(p string) bool { return p == scope })
		return world.World{Teams: []*world.Team{{UUID: "team", Tokens: []world.Token{{Value: "narrow", Scopes: scopes}}, Scene: scene}}}
	}
	w := without("tag:read")
	s = open(t, &w, nil, "narrow").read(t)
	if gapSubjects(s) != "tag:read" {
		t.Errorf("gaps: %+v", s.Gaps)
	}
	for _, name := range []string{"by-tag", "by-id", "open"} {
		expect(t, s, name, "v4.tcp unknown/none v4.udp unknown/none")
	}
	if got := ask(s, "by-tag", "v4.tcp"); got.stages[0] != stageAttachment {
		t.Errorf("stages %v", got.stages)
	}

	// An API that lists droplets and yet leaves droplet_ids out.
	w = without("droplet:read")
	full := world.Single("narrow", scene)
	o := &opened{}
	o.serve(t, http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/v2/firewalls") {
			w.ServeHTTP(rw, r)
			return
		}
		full.ServeHTTP(rw, r)
	}), "narrow")
	s = o.read(t)
	if gapSubjects(s) != "droplet:read" {
		t.Errorf("gaps: %+v", s.Gaps)
	}
	expect(t, s, "by-id", "v4.tcp unknown/none v4.udp unknown/none")

	// Without droplets at all, what a balancer or a reserved address leads to is still listed, in doubt.
	scene.LoadBalancers = []world.LoadBalancer{balancer("lb", 443, 11211, 1)}
	w = without("droplet:read")
	s = open(t, &w, nil, "narrow").read(t)
	if gapSubjects(s) != "droplet:read droplet:read" || len(s.Endpoints) != 1 {
		t.Errorf("gaps %+v, endpoints %+v", s.Gaps, s.Endpoints)
	}
	expect(t, s, "", "v4.tcp unknown/none v4.udp blocked")
}

// An attribute that is null is there, and says that nothing is attached.
func TestN32NullIsNotMissing(t *testing.T) {
	var all []firewall
	text := `[{"id":"a","droplet_ids":null,"tags":[]},{"id":"b","tags":null,"inbound_rules":[{"protocol":"tcp","ports":"0","zzz":1}]}]`
	if err := json.Unmarshal([]byte(text), &all); err != nil {
		t.Fatal(err)
	}
	if a, b := all[0], all[1]; !a.showsIDs || !a.showsTagged || b.showsIDs || !b.showsTagged || string(b.rules[0]) != `{"protocol":"tcp","ports":"0","zzz":1}` {
		t.Errorf("%+v", all)
	}
}

// N35: an SDK that does not know deny rules would read them as allow. Ours knows them, and they win wherever they stand.
func TestN35DenyRulesAreRead(t *testing.T) {
	world4 := "0.0.0.0/0"
	scene := world.Scene{
		Droplets: []world.Droplet{public(1, "cache", "159.65.1.2", "x"), public(2, "half", "159.65.1.3"), public(3, "deny-only", "159.65.1.4")},
		Firewalls: []world.Firewall{
			{ID: "fw-a", Name: "allow", DropletIDs: []int{1}, InboundRules: []world.InboundRule{inbound("allow", "tcp", "11211", world4), inbound("", "udp", "11211", world4)}},
			{ID: "fw-z", Name: "deny", Tags: []string{"x"}, InboundRules: []world.InboundRule{inbound("deny", "tcp", "1-65535", world4)}},
			{ID: "fw-h", Name: "half", DropletIDs: []int{2}, InboundRules: []world.InboundRule{
				inbound("", "tcp", "0", world4), inbound("deny", "tcp", "11211", "0.0.0.0/1"), inbound("deny", "udp", "0", world4), inbound("", "udp", "11211", world4),
			}},
			{ID: "fw-d", Name: "only", DropletIDs: []int{3}, InboundRules: []world.InboundRule{inbound("DENY", "tcp", "11211", "5.5.5.0/24")}},
		},
	}
	s := single(t, scene)
	expect(t, s, "cache", "v4.tcp blocked v4.udp provider_only/world")
	expect(t, s, "half", "v4.tcp provider_only/wide v4.udp blocked")
	expect(t, s, "deny-only", "v4.tcp blocked v4.udp blocked")
	if got := ask(s, "cache", "v4.tcp"); !slices.Contains(got.stages, "fw-z#0") || slices.Contains(got.stages, "fw-a#0") {
		t.Errorf("cache is blocked by %v", got.stages)
	}
	if got := ask(s, "half", "v4.tcp"); !slices.Equal(got.admitted, []string{"fw-h#0"}) {
		t.Errorf("half is admitted by %v", got.admitted)
	}
}

// A server that always promises a next page does not keep the reader for ever, and is believed only as far as it counts.
func TestPagesWithoutEnd(t *testing.T) {
	w := world.Demo()
	w.Endless, w.PageSize = true, 3
	s := open(t, w, nil, world.DemoToken).read(t)
	reference := open(t, world.Demo(), nil, world.DemoToken).read(t)
	if len(s.Gaps) > 0 || len(s.Endpoints) != len(reference.Endpoints) || len(s.Lists) != len(reference.Lists) {
		t.Errorf("%d endpoints, %d lists, gaps %+v", len(s.Endpoints), len(s.Lists), s.Gaps)
	}

	type answer struct {
		ids   []int
		next  string
		total int // -1 for none
	}
	always := func(a answer) func(int) answer { return func(int) answer { return a } }
	for name, test := range map[string]struct {
		page       func(int) answer
		want       int
		incomplete bool
	}{
		"one page":                    {always(answer{[]int{1, 2}, "", 2}), 2, false},
		"no count":                    {always(answer{[]int{1, 2}, "", -1}), 2, false},
		"empty":                       {always(answer{nil, "", 0}), 0, false},
		"neither list nor count":      {always(answer{nil, "", -1}), 0, true},
		"ends early":                  {always(answer{[]int{1, 2}, "", 3}), 2, true},
		"same page, all seen":         {always(answer{[]int{1, 2}, "http://x/?page=2", 2}), 2, false},
		"same page, more than it has": {always(answer{[]int{1, 2, 3}, "http://x/?page=2", 1}), 3, false},
		"same page, some never come":  {always(answer{[]int{1, 2}, "http://x/?page=2", 5}), 2, true},
		"same page, no count":         {always(answer{[]int{1, 2}, "http://x/?page=2", -1}), 2, true},
		"empty and more":              {always(answer{nil, "http://x/?page=2", 0}), 0, false},
		"link without page":           {always(answer{[]int{1}, "http://x/", 5}), 1, true},
		"link is no URL":              {always(answer{[]int{1}, "http://[", 5}), 1, true},
		"leads back":                  {func(p int) answer { return answer{[]int{p}, "http://x/?page=1", 9} }, 1, true},
		"new entries for ever": {func(p int) answer {
			return answer{[]int{p}, "http://x/?page=" + strconv.Itoa(p+1), 3}
		}, 3 + surplus + 1, true},
		"new entries for ever, no count": {func(p int) answer {
			return answer{[]int{p}, "http://x/?page=" + strconv.Itoa(p+1), -1}
		}, 2000, true},
		"skips a page": {func(p int) answer {
			if p == 3 {
				return answer{[]int{2}, "", 2}
			}
			return answer{[]int{1}, "http://x/?page=3", 2}
		}, 2, false},
	} {
		got := 0
		err := pages(t.Context(), 2000, strconv.Itoa, func(_ context.Context, o *godo.ListOptions) ([]int, *godo.Response, error) {
			if o.PerPage != 200 {
				t.Fatalf("per_page is %d", o.PerPage)
			}
			a := test.page(o.Page)
			r := &godo.Response{}
			if a.total >= 0 {
				r.Meta = &godo.Meta{Total: a.total}
			}
			if a.next != "" {
				r.Links = &godo.Links{Pages: &godo.Pages{Next: a.next}}
			}
			return a.ids, r, nil
		}, func(int) { got++ })
		if got != test.want || errors.Is(err, errIncomplete) != test.incomplete {
			t.Errorf("%s: %d entries, %v", name, got, err)
		}
	}
}

// A page that fails in the middle leaves a gap, and what hangs on the rest is in doubt.
func TestSecondPageFails(t *testing.T) {
	scene := world.Scene{Droplets: []world.Droplet{public(1, "cache", "159.65.1.2")}}
	for i := range 3 {
		scene.Firewalls = append(scene.Firewalls, world.Firewall{ID: fmt.Sprintf("fw-%d", i), DropletIDs: []int{1}})
	}
	w := world.Single("token", scene)
	w.PageSize = 2
	s := open(t, w, func(op string, r *http.Request) emulate.Fault {
		return emulate.Fault{Garbage: op == "firewall:read /v2/firewalls" && r.URL.Query().Get("page") == "2"}
	}, "token").read(t)
	if gapSubjects(s) != "firewall:read" || len(s.Lists) != 2 || !strings.Contains(s.Gaps[0].Cause, "page 2: 500") && !strings.Contains(s.Gaps[0].Cause, "500") {
		t.Errorf("%d lists, gaps %+v", len(s.Lists), s.Gaps)
	}
	expect(t, s, "cache", "v4.tcp unknown/none v4.udp unknown/none")
	if got := ask(s, "cache", "v4.tcp"); got.stages[0] != stageFirewalls {
		t.Errorf("stages %v", got.stages)
	}
}
