package do

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/digitalocean/godo"
	"golang.org/x/oauth2"

	"github.com/cloudaudit/cloudaudit/internal/emulate"
)

// client returns a godo client of a server that serves h; requests keep the path prefix of the server's URL.
func client(t *testing.T, h http.Handler, token string) *godo.Client {
	t.Helper()
	server := httptest.NewServer(http.StripPrefix("/some/prefix", h))
	t.Cleanup(server.Close)
	httpClient := oauth2.NewClient(context.Background(), oauth2.StaticTokenSource(&oauth2.Token{AccessToken: token}))
	httpClient.Transport.(*oauth2.Transport).Base = prefixed{server.Client().Transport}
	c, err := godo.New(httpClient, godo.SetBaseURL(server.URL))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// prefixed puts a prefix before the paths that godo asks for, which godo itself cannot.
type prefixed struct{ next http.RoundTripper }

func (p prefixed) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.URL.Path = "/some/prefix" + r.URL.Path
	return p.next.RoundTrip(r)
}

func TestGodoReadsTheSceneBack(t *testing.T) {
	world := Demo()
	c, ctx := client(t, world, DemoToken), context.Background()
	all := &godo.ListOptions{PerPage: 200}
	scene := world.Teams[0].Scene

	account, _, err := c.Account.Get(ctx)
	if err != nil || account.Team.UUID != world.Teams[0].UUID || account.Team.Name != "Example Shop" {
		t.Errorf("account = %+v, %v", account, err)
	}
	droplets, _, err := c.Droplets.List(ctx, all)
	if err != nil || len(droplets) != len(scene.Droplets) {
		t.Fatalf("%d droplets, %v; want %d", len(droplets), err, len(scene.Droplets))
	}
	if ip, _ := droplets[1].PublicIPv4(); ip != "159.89.12.21" {
		t.Errorf("public address = %q", ip)
	}
	if ip, _ := droplets[1].PublicIPv6(); ip != "2a03:b0c0:3:d0::1a2:1001" {
		t.Errorf("public IPv6 address = %q", ip)
	}
	if got := strings.Join(droplets[2].Tags, ","); got != "sessions,no-memcached" || droplets[2].VPCUUID != demoVPC {
		t.Errorf("tags %q, VPC %q", got, droplets[2].VPCUUID)
	}

	firewalls, response, err := c.Firewalls.List(ctx, all)
	if err != nil || len(firewalls) != len(scene.Firewalls) {
		t.Fatalf("%d firewalls, %v; want %d", len(firewalls), err, len(scene.Firewalls))
	}
	if !response.Links.IsLastPage() || response.Meta.Total != len(firewalls) || response.Rate.Limit != 5000 || response.Rate.Remaining == 0 {
		t.Errorf("links %+v, meta %+v, rate %+v", response.Links, response.Meta, response.Rate)
	}
	if r := firewalls[1].InboundRules[0]; r.Action != godo.FirewallRuleActionDeny || r.PortRange != "11211" || r.Sources.Addresses[1] != "::/0" {
		t.Errorf("deny rule = %+v", r)
	}
	if p := firewalls[6].PendingChanges; len(p) != 1 || p[0].DropletID != 386734089 || firewalls[6].Status != "waiting" {
		t.Errorf("pending changes = %+v", p)
	}
	one, _, err := c.Firewalls.Get(ctx, fwPartner)
	if err != nil || one.Name != "partner-access" || one.InboundRules[0].Sources.Addresses[0] != "185.199.108.0/22" {
		t.Errorf("firewall = %+v, %v", one, err)
	}

	balancers, _, err := c.LoadBalancers.List(ctx, all)
	if err != nil || len(balancers) != 2 {
		t.Fatalf("load balancers = %v, %v", balancers, err)
	}
	lb := balancers[0]
	if lb.IP != "157.245.20.11" || len(lb.DropletIDs) != 1 || lb.DropletIDs[0] != 386734085 || lb.ForwardingRules[0].TargetPort != 11211 ||
		lb.Firewall.Deny[0] != "cidr:45.155.204.0/22" || lb.Network != "EXTERNAL" || lb.Type != "REGIONAL" {
		t.Errorf("load balancer = %+v", lb)
	}
	reserved, _, err := c.ReservedIPs.List(ctx, all)
	if err != nil || len(reserved) != 2 || reserved[0].Droplet.ID != 386734088 || reserved[1].Droplet != nil {
		t.Errorf("reserved addresses = %+v, %v", reserved, err)
	}
	reserved6, _, err := c.ReservedIPV6s.List(ctx, all)
	if err != nil || len(reserved6) != 1 || reserved6[0].Droplet.ID != 386734085 {
		t.Errorf("reserved IPv6 addresses = %+v, %v", reserved6, err)
	}
	vpcs, _, err := c.VPCs.List(ctx, all)
	if err != nil || len(vpcs) != 1 || vpcs[0].IPRange != "10.114.0.0/20" {
		t.Errorf("VPCs = %+v, %v", vpcs, err)
	}
}

func TestSceneIsCompleted(t *testing.T) {
	scene := Scene{
		Droplets: []Droplet{{
			ID: 7, Name: "d", Tags: []string{"web"}, VPCUUID: "vpc-a",
			Networks: Networks{V4: []Address{{IPAddress: "10.116.3.2", Type: "private"}}},
		}},
		Firewalls:     []Firewall{{ID: "fw", Name: "fw", InboundRules: []InboundRule{{Protocol: "tcp", Ports: "all"}}}, {ID: "none", Name: "none"}},
		LoadBalancers: []LoadBalancer{{ID: "lb", Tag: "web"}, {ID: "in", Network: "INTERNAL"}, {ID: "new", Status: "new"}},
	}
	c, ctx := client(t, Single("t", scene), "t"), context.Background()
	balancers, _, err := c.LoadBalancers.List(ctx, nil)
	if err != nil {
		t.Fatal(err)
	}
	if b := balancers[0]; b.IP != "104.131.186.1" || b.VPCUUID != "vpc-a" || len(b.DropletIDs) != 1 || b.Status != "active" {
		t.Errorf("load balancer = %+v", b)
	}
	if balancers[1].IP != "10.116.15.2" || balancers[2].IP != "" {
		t.Errorf("internal address %q, address of a new one %q", balancers[1].IP, balancers[2].IP)
	}
	vpcs, _, err := c.VPCs.List(ctx, nil)
	if err != nil || len(vpcs) != 1 || vpcs[0].ID != "vpc-a" || vpcs[0].IPRange != "10.116.0.0/20" {
		t.Errorf("VPCs = %+v, %v", vpcs, err)
	}
	firewalls, _, err := c.Firewalls.List(ctx, nil)
	if err != nil || firewalls[0].InboundRules[0].PortRange != "0" || firewalls[1].InboundRules != nil {
		t.Errorf("firewalls = %+v, %v", firewalls, err)
	}
}

func TestPages(t *testing.T) {
	var scene Scene
	for i := range 450 {
		scene.Droplets = append(scene.Droplets, Droplet{ID: i + 1, Name: fmt.Sprintf("d%d", i+1)})
	}
	for _, test := range []struct{ forced, asked, pages, first int }{
		{0, 200, 3, 200}, {0, 0, 23, 20}, {7, 200, 65, 7}, {200, 150, 3, 150},
	} {
		world := Single("t", scene)
		world.PageSize = test.forced
		c := client(t, world, "t")
		seen, pages, first := map[int]bool{}, 0, 0
		for opt := (&godo.ListOptions{Page: 1, PerPage: test.asked}); ; opt.Page++ {
			droplets, response, err := c.Droplets.List(context.Background(), opt)
			if err != nil {
				t.Fatal(err)
			}
			if pages == 0 {
				first = len(droplets)
			}
			pages++
			for _, d := range droplets {
				seen[d.ID] = true
			}
			if response.Meta.Total != 450 {
				t.Fatalf("total = %d", response.Meta.Total)
			}
			if response.Links.IsLastPage() {
				break
			}
			next, err := url.Parse(response.Links.Pages.Next)
			if err != nil || next.Query().Get("page") != fmt.Sprint(opt.Page+1) || !strings.HasSuffix(next.Path, "/v2/droplets") {
				t.Fatalf("next page is %q, %v", response.Links.Pages.Next, err)
			}
		}
		if len(seen) != 450 || pages != test.pages || first != test.first {
			t.Errorf("%+v: %d droplets on %d pages, %d on the first", test, len(seen), pages, first)
		}
	}
}

func TestEndlessAlwaysPromisesANextPage(t *testing.T) {
	world := Single("t", Scene{Droplets: []Droplet{{ID: 1}, {ID: 2}, {ID: 3}}})
	world.PageSize, world.Endless = 2, true
	c := client(t, world, "t")
	for page, want := range map[int]int{1: 1, 2: 3, 3: 3, 900: 3} {
		droplets, response, err := c.Droplets.List(context.Background(), &godo.ListOptions{Page: page})
		if err != nil || response.Links.IsLastPage() || droplets[0].ID != want {
			t.Errorf("page %d: %v, last %v, %v", page, droplets, response.Links.IsLastPage(), err)
		}
	}
}

func TestTokensMapToTeams(t *testing.T) {
	world := &World{Teams: []*Team{
		{Name: "a", UUID: "uuid-a", Tokens: []Token{{Value: "ta"}, {Value: "ta2"}}, Scene: Scene{Droplets: []Droplet{{ID: 1}}}},
		{Name: "b", UUID: "uuid-b", Tokens: []Token{{Value: "tb"}}, Scene: Scene{Droplets: []Droplet{{ID: 2}}}},
	}}
	for token, want := range map[string]int{"ta": 1, "ta2": 1, "tb": 2} {
		droplets, _, err := client(t, world, token).Droplets.List(context.Background(), nil)
		if err != nil || len(droplets) != 1 || droplets[0].ID != want {
			t.Errorf("token %s: %v, %v", token, droplets, err)
		}
	}
	_, response, err := client(t, world, "other").Droplets.List(context.Background(), nil)
	if response == nil || response.StatusCode != http.StatusUnauthorized {
		t.Errorf("unknown token: %v", err)
	}
}

func TestScopesLeaveAttributesOut(t *testing.T) {
	scene := Scene{
		Droplets:    []Droplet{{ID: 1, Tags: []string{"x"}, VPCUUID: "vpc-a"}},
		Firewalls:   []Firewall{{ID: "fw", DropletIDs: []int{1}, Tags: []string{"x"}}},
		ReservedIPs: []ReservedIP{{IP: "45.55.96.47", Droplet: &DropletRef{ID: 1}}},
	}
	world := Single("full", scene)
	world.Teams[0].Tokens = append(world.Teams[0].Tokens,
		Token{Value: "no-tags", Scopes: []string{"firewall:read", "droplet:read"}},
		Token{Value: "no-droplets", Scopes: []string{"firewall:read", "tag:read", "reserved_ip:read"}})
	get := func(token, path string) (int, string) {
		r := httptest.NewRequest(http.MethodGet, path, nil)
		r.Header.Set("Authorization", "Bearer "+token)
		w := httptest.NewRecorder()
		world.ServeHTTP(w, r)
		return w.Code, w.Body.String()
	}
	for _, test := range []struct {
		token, path, with, without string
		status                     int
	}{
		{"full", "/v2/firewalls", `"droplet_ids":[1]`, `"zzz"`, 200},
		{"full", "/v2/firewalls", `"tags":["x"]`, `"zzz"`, 200},
		{"full", "/v2/droplets", `"vpc_uuid":"vpc-a"`, `"zzz"`, 200},
		{"no-tags", "/v2/firewalls/fw", `"droplet_ids":[1]`, `"tags"`, 200},
		{"no-tags", "/v2/droplets", `"id":1`, `"vpc_uuid"`, 200},
		{"no-droplets", "/v2/firewalls", `"tags":["x"]`, `"droplet_ids"`, 200},
		{"no-droplets", "/v2/reserved_ips", `"45.55.96.47"`, `"droplet"`, 200},
		{"no-droplets", "/v2/droplets", `"forbidden"`, `"zzz"`, 403},
		{"no-droplets", "/v2/account", `"forbidden"`, `"zzz"`, 403},
	} {
		status, body := get(test.token, test.path)
		if status != test.status || !strings.Contains(body, test.with) {
			t.Errorf("%s %s: %d, lacks %s: %s", test.token, test.path, status, test.with, body)
		}
		if strings.Contains(body, test.without) {
			t.Errorf("%s %s: has %s: %s", test.token, test.path, test.without, body)
		}
	}
}

func TestOperation(t *testing.T) {
	for path, want := range map[string]string{
		"/v2/account":                   "account:read /v2/account",
		"/do/v2/droplets?page=2":        "droplet:read /v2/droplets",
		"/a/b/v2/firewalls":             "firewall:read /v2/firewalls",
		"/v2/firewalls/x":               "firewall:read /v2/firewalls/{firewall_id}",
		"/v2/load_balancers":            "load_balancer:read /v2/load_balancers",
		"/v2/reserved_ips":              "reserved_ip:read /v2/reserved_ips",
		"/v2/reserved_ipv6?per_page=20": "reserved_ip:read /v2/reserved_ipv6",
		"/v2/vpcs":                      "vpc:read /v2/vpcs",
		"/v2/unheard_of":                "GET /v2/unheard_of",
	} {
		if got := Demo().Operation(httptest.NewRequest(http.MethodGet, path, nil)); got != want {
			t.Errorf("%s is %q, want %q", path, got, want)
		}
	}
	if got := Demo().Operation(httptest.NewRequest(http.MethodPut, "/v2/firewalls/x", nil)); got != "PUT /v2/firewalls/{firewall_id}" {
		t.Errorf("a write is %q", got)
	}
}

func TestWhatIsNotAnswered(t *testing.T) {
	for _, test := range []struct {
		method, path string
		want         int
	}{
		{"GET", "/v2/unheard_of", 404},
		{"GET", "/v2/firewalls/unheard-of", 404},
		{"GET", "/v2/droplets?page=0", 400},
		{"GET", "/v2/droplets?per_page=201", 400},
		{"PUT", "/v2/firewalls/" + fwCacheOpen, 405},
		{"GET", "/v2/firewalls/" + fwCacheOpen + "/rules", 405},
		{"POST", "/v2/droplets", 405},
		{"POST", "/v2/firewalls/unheard-of/rules", 400},
	} {
		r := httptest.NewRequest(test.method, test.path, nil)
		r.Header.Set("Authorization", "Bearer "+DemoToken)
		w := httptest.NewRecorder()
		Demo().ServeHTTP(w, r)
		if w.Code != test.want {
			t.Errorf("%s %s: %d, want %d", test.method, test.path, w.Code, test.want)
		}
	}
}

func TestRateLimits(t *testing.T) {
	world := Demo()
	now := time.Unix(1_790_000_000, 0)
	world.Now, world.RetryAfter = func() time.Time { return now }, 29
	c := client(t, world, DemoToken)
	for i := range 250 {
		if _, response, err := c.Account.Get(context.Background()); err != nil || response.Rate.Remaining != 4999-i {
			t.Fatalf("call %d: %+v, %v", i, response, err)
		}
	}
	_, response, err := c.Account.Get(context.Background())
	if response.StatusCode != 429 || response.Header.Get("Retry-After") != "29" || response.Rate.Remaining != 0 {
		t.Errorf("call 251: %v, %v", response, err)
	}
	now = now.Add(time.Minute)
	if _, _, err := c.Account.Get(context.Background()); err != nil {
		t.Errorf("a minute later: %v", err)
	}
}

func TestBehindFaults(t *testing.T) {
	front := emulate.WithFaults(Demo(), func(op string, _ *http.Request) emulate.Fault {
		switch op {
		case "droplet:read /v2/droplets":
			return emulate.Fault{Throttle: 1}
		case "vpc:read /v2/vpcs":
			return emulate.Fault{Refuse: true}
		}
		return emulate.Fault{}
	})
	c := client(t, front, DemoToken)
	var failed *godo.ErrorResponse
	_, _, err := c.Droplets.List(context.Background(), nil)
	if !errors.As(err, &failed) || failed.Response.StatusCode != 429 || failed.Response.Header.Get("Retry-After") != "1" {
		t.Errorf("throttled: %v", err)
	}
	if _, _, err := c.Droplets.List(context.Background(), nil); err != nil {
		t.Errorf("after throttling: %v", err)
	}
	if _, _, err := c.VPCs.List(context.Background(), nil); !errors.As(err, &failed) || failed.Response.StatusCode != 403 {
		t.Errorf("refused: %v", err)
	}
	if calls := front.Calls(); calls["droplet:read /v2/droplets"] != 2 || calls["vpc:read /v2/vpcs"] != 1 {
		t.Errorf("calls = %v", calls)
	}
}

// TestRulesAreDeltas: what is added is stored as the API stores it, a removal that does not repeat the rule to the letter
// removes nothing and is answered all the same, the limit holds, and an old API makes an allow of a deny.
func TestRulesAreDeltas(t *testing.T) {
	deny := godo.InboundRule{Protocol: "tcp", PortRange: "11211", Sources: &godo.Sources{Addresses: []string{"8.0.0.0/8"}}, Action: "deny"}
	for _, old := range []bool{false, true} {
		world := Demo()
		world.OldAPI = old
		c := client(t, world, DemoToken)
		rules := func() []godo.InboundRule {
			f, _, err := c.Firewalls.Get(t.Context(), fwForgotten)
			if err != nil {
				t.Fatal(err)
			}
			return f.InboundRules
		}
		before := rules()
		if _, err := c.Firewalls.AddRules(t.Context(), fwForgotten, &godo.FirewallRulesRequest{InboundRules: []godo.InboundRule{deny}}); err != nil {
			t.Fatal(err)
		}
		after := rules()
		if got := after[len(after)-1]; len(after) != len(before)+1 || (got.Action == "deny") == old {
			t.Errorf("old %v: added %+v", old, got)
		}
		split := deny
		split.Sources = &godo.Sources{Addresses: []string{"8.0.0.0/9", "8.128.0.0/9"}}
		for _, r := range []godo.InboundRule{split, after[len(after)-1]} {
			if _, err := c.Firewalls.RemoveRules(t.Context(), fwForgotten, &godo.FirewallRulesRequest{InboundRules: []godo.InboundRule{r}}); err != nil {
				t.Fatal(err)
			}
			if got := len(rules()); got != len(after) && r.Sources == split.Sources {
				t.Errorf("a rule that was not repeated to the letter was removed: %d", got)
			}
		}
		if got := rules(); len(got) != len(before) {
			t.Errorf("%d rules are left, want %d", len(got), len(before))
		}
		many := make([]godo.InboundRule, 47)
		for i := range many {
			many[i] = godo.InboundRule{Protocol: "tcp", PortRange: strconv.Itoa(i + 1), Sources: deny.Sources}
		}
		if _, err := c.Firewalls.AddRules(t.Context(), fwForgotten, &godo.FirewallRulesRequest{InboundRules: many}); err == nil {
			t.Error("51 rules fit into a firewall")
		}
		if got := rules(); len(got) != len(before) {
			t.Errorf("a refused request added rules: %d", len(got))
		}
	}
}
