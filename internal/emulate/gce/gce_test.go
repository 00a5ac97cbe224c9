package gce

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	compute "cloud.google.com/go/compute/apiv1"
	"cloud.google.com/go/compute/apiv1/computepb"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/api/cloudresourcemanager/v3"
	"google.golang.org/api/googleapi"
	"google.golang.org/api/iterator"
	"google.golang.org/api/networksecurity/v1"
	"google.golang.org/api/option"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/cloudaudit/cloudaudit/internal/emulate"
)

// descriptions reads the discovery documents that google.golang.org/api is generated from.
var descriptions = sync.OnceValues(func() ([]*description, error) {
	dir, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "google.golang.org/api").Output()
	if err != nil {
		return nil, err
	}
	var out []*description
	for _, name := range []string{
		"compute/v1/compute-api.json", "networksecurity/v1/networksecurity-api.json",
		"cloudresourcemanager/v3/cloudresourcemanager-api.json",
	} {
		doc, err := os.ReadFile(filepath.Join(strings.TrimSpace(string(dir)), name))
		if err != nil {
			return nil, err
		}
		d, err := parseDescription(doc)
		if err != nil {
			return nil, err
		}
		out = append(out, d)
	}
	return out, nil
})

// everything is a world that has one of each kind of resource, twice where it can.
func everything() *World {
	w := Demo()
	w.Organization = "420042004200"
	yes := int32(7)
	p := Project{
		ID: "p", Parent: "folders/715517400100",
		Networks:  []Network{{Name: "net", EnforcementOrder: "BEFORE_CLASSIC_FIREWALL"}, {Name: "other"}},
		Firewalls: []Firewall{{Name: "a", Network: "net", Direction: "EGRESS", Priority: &yes, Denied: []Protocol{{IPProtocol: "all"}}, DestinationRanges: []string{"0.0.0.0/0"}}, {Name: "b", Network: "net", SourceTags: []string{"t"}, TargetTags: []string{"u"}, Allowed: []Protocol{{IPProtocol: "all"}}}},
		SystemRegionalPolicies: []Policy{{Name: "sys", Region: "us-central1", Rules: []PolicyRule{{
			Priority: 1, Action: "goto_next", Match: Match{SrcIPRanges: []string{"10.0.0.0/8"}, Layer4Configs: []Layer4{{IPProtocol: "all"}}},
		}}}},
		NetworkPolicies: []Policy{
			{Name: "np", Network: "net", AssociationPriority: &yes, Rules: []PolicyRule{{
				Priority: 1, Action: "allow", Description: "all there is", TargetType: "INSTANCES", TargetResources: []string{"net"},
				TargetServiceAccounts: []string{"a@p.iam.gserviceaccount.com"}, TargetSecureTags: []SecureTag{{Name: "tagValues/1"}, {Name: "tagValues/2", State: "INEFFECTIVE"}},
				SecurityProfileGroup: "g",
				Match: Match{
					Layer4Configs: []Layer4{{"tcp", []string{"11211"}}}, SrcIPRanges: []string{"0.0.0.0/0"}, SrcAddressGroups: []string{"ag"},
					SrcFQDNs: []string{"example.com"}, SrcRegionCodes: []string{"US"}, SrcThreatIntelligences: []string{"iplist-tor-exit-nodes"},
					SrcSecureTags: []SecureTag{{Name: "tagValues/3"}}, SrcNetworkContext: "VPC_NETWORKS", SrcNetworkType: "INTERNET", SrcNetworks: []string{"other"},
					DestIPRanges: []string{"10.0.0.0/8"}, DestAddressGroups: []string{"ag"}, DestFQDNs: []string{"example.com"},
					DestRegionCodes: []string{"DE"}, DestThreatIntelligences: []string{"iplist-tor-exit-nodes"},
				},
			}}},
			{Name: "rp", Network: "net", Region: "us-central1"},
		},
		HierarchicalPolicies: []Policy{{Name: "1", ShortName: "org"}},
		AddressGroups:        map[string][]string{"ag": {"81.2.69.0/24"}, "ag6": {"2600::/32"}},
		Instances: []Instance{
			{Name: "vm-1", Zone: "us-central1-a", Tags: []string{"t"}, ServiceAccounts: []string{"a@p.iam.gserviceaccount.com"}, SecureTags: []string{"tagValues/1"}, NetworkInterfaces: []NetworkInterface{
				{Network: "net", NetworkIP: "10.0.0.2", AccessConfigs: []AccessConfig{{Type: "ONE_TO_ONE_NAT", NatIP: "34.1.1.1", SecurityPolicy: "regions/us-central1/securityPolicies/edge"}}},
				{Network: "other", NetworkIP: "10.1.0.2", StackType: "IPV4_IPV6", IPv6AccessType: "EXTERNAL", IPv6AccessConfigs: []AccessConfig{{Type: "DIRECT_IPV6", ExternalIPv6: "2600:1900::1", ExternalIPv6PrefixLength: 96}}},
			}},
			{Name: "vm-2", Zone: "us-central1-b", NetworkInterfaces: []NetworkInterface{{Network: "net", NetworkIP: "10.0.0.3"}}},
		},
		ForwardingRules: []ForwardingRule{
			{Name: "instance", IPAddress: "34.9.9.1", IPProtocol: "UDP", PortRange: "1-2", LoadBalancingScheme: "EXTERNAL", BackendInstances: []string{"vm-1"}, Target: "targetInstances/ti", SecurityPolicy: "regions/us-central1/securityPolicies/edge"},
			{Name: "pool", IPAddress: "34.9.9.2", IPProtocol: "TCP", PortRange: "1-2", LoadBalancingScheme: "EXTERNAL", BackendInstances: []string{"vm-1", "vm-2"}},
			{Name: "service", IPAddress: "2600:1901::9", IPProtocol: "L3_DEFAULT", AllPorts: true, LoadBalancingScheme: "EXTERNAL", BackendInstances: []string{"vm-2"}, SourceIPRanges: []string{"81.2.69.0/24"}},
			{Name: "proxy", IPAddress: "34.9.9.3", IPProtocol: "TCP", PortRange: "443-443", LoadBalancingScheme: "EXTERNAL", BackendInstances: []string{"vm-2"}, Proxy: true, BackendPort: 11211},
		},
		TargetProxies: []TargetProxy{
			{Kind: "targetSslProxies", Name: "s", Service: "global/backendServices/proxy-service"},
			{Kind: "targetHttpProxies", Name: "h", URLMap: "global/urlMaps/u"},
			{Kind: "targetHttpsProxies", Name: "hs", Region: "us-central1", URLMap: "regions/us-central1/urlMaps/u"},
		},
		URLMaps:        []URLMap{{Name: "u", DefaultService: "global/backendServices/proxy-service", Services: []string{"global/backendServices/proxy-service"}}, {Name: "u", Region: "us-central1"}},
		InstanceGroups: []InstanceGroup{{Name: "regional", Region: "us-central1", Network: "net", Instances: []string{"vm-1", "vm-2"}, NamedPorts: map[string]int32{"b": 2, "a": 1}}},
		NetworkEndpointGroups: []NetworkEndpointGroup{
			{Name: "neg", Zone: "us-central1-a", Type: "GCE_VM_IP_PORT", Network: "net", DefaultPort: 80, Endpoints: []NetworkEndpoint{{Instance: "vm-1", IPAddress: "10.0.0.2", Port: 11211}, {Instance: "vm-1", IPAddress: "10.0.0.2"}}},
			{Name: "run", Region: "us-central1", Type: "SERVERLESS"},
		},
		Subnetworks: []Subnetwork{{Name: "s", Region: "us-central1", Network: "net", IPCidrRange: "10.129.0.0/23", Purpose: "REGIONAL_MANAGED_PROXY"}},
		Routes:      []Route{{Name: "via", Network: "net", DestRange: "0.0.0.0/0", NextHopInstance: "zones/us-central1-a/instances/vm-1", Tags: []string{"t"}}, {Name: "ip", Network: "net", DestRange: "8.0.0.0/8", NextHopIP: "10.0.0.9"}},
	}
	w.Projects = append(w.Projects, p, Project{ID: "service", Host: "p", Parent: "folders/715517400100"},
		Project{ID: "off", ComputeDisabled: true}, Project{ID: "gone", State: "DELETE_REQUESTED", Parent: "folders/715517400100"})
	return w
}

// requests ask for every operation once.
func requests() map[string]struct {
	method, path string
	into         proto.Message
} {
	type row = struct {
		method, path string
		into         proto.Message
	}
	const p = "/any/prefix/compute/v1/projects/p"
	return map[string]row{
		"project":            {"GET", p, &computepb.Project{}},
		"host":               {"GET", "/any/prefix/compute/v1/projects/service/getXpnHost", &computepb.Project{}},
		"instances":          {"GET", p + "/aggregated/instances", &computepb.InstanceAggregatedList{}},
		"networks":           {"GET", p + "/global/networks", &computepb.NetworkList{}},
		"network":            {"GET", p + "/global/networks/net", &computepb.Network{}},
		"firewalls":          {"GET", p + "/global/firewalls", &computepb.FirewallList{}},
		"routes":             {"GET", p + "/global/routes", &computepb.RouteList{}},
		"network firewalls":  {"GET", p + "/global/networks/net/getEffectiveFirewalls", &computepb.NetworksGetEffectiveFirewallsResponse{}},
		"region firewalls":   {"GET", p + "/regions/us-central1/firewallPolicies/getEffectiveFirewalls?network=projects/p/global/networks/net", &computepb.RegionNetworkFirewallPoliciesGetEffectiveFirewallsResponse{}},
		"instance firewalls": {"GET", p + "/zones/us-central1-a/instances/vm-1/getEffectiveFirewalls?networkInterface=nic0", &computepb.InstancesGetEffectiveFirewallsResponse{}},
		"global policy":      {"GET", p + "/global/firewallPolicies/np", &computepb.FirewallPolicy{}},
		"regional policy":    {"GET", p + "/regions/us-central1/firewallPolicies/rp", &computepb.FirewallPolicy{}},
		"forwarding":         {"GET", p + "/aggregated/forwardingRules", &computepb.ForwardingRuleAggregatedList{}},
		"global forwarding":  {"GET", p + "/global/forwardingRules", &computepb.ForwardingRuleList{}},
		"target instances":   {"GET", p + "/aggregated/targetInstances", &computepb.TargetInstanceAggregatedList{}},
		"target pools":       {"GET", p + "/aggregated/targetPools", &computepb.TargetPoolAggregatedList{}},
		"tcp proxies":        {"GET", p + "/aggregated/targetTcpProxies", &computepb.TargetTcpProxyAggregatedList{}},
		"ssl proxies":        {"GET", p + "/global/targetSslProxies", &computepb.TargetSslProxyList{}},
		"http proxies":       {"GET", p + "/aggregated/targetHttpProxies", &computepb.TargetHttpProxyAggregatedList{}},
		"https proxies":      {"GET", p + "/aggregated/targetHttpsProxies", &computepb.TargetHttpsProxyAggregatedList{}},
		"url maps":           {"GET", p + "/aggregated/urlMaps", &computepb.UrlMapsAggregatedList{}},
		"backend services":   {"GET", p + "/aggregated/backendServices", &computepb.BackendServiceAggregatedList{}},
		"groups":             {"GET", p + "/aggregated/instanceGroups", &computepb.InstanceGroupAggregatedList{}},
		"zonal members":      {"POST", p + "/zones/us-central1-b/instanceGroups/service-group/listInstances", &computepb.InstanceGroupsListInstances{}},
		"regional members":   {"POST", p + "/regions/us-central1/instanceGroups/regional/listInstances", &computepb.RegionInstanceGroupsListInstances{}},
		"endpoint groups":    {"GET", p + "/aggregated/networkEndpointGroups", &computepb.NetworkEndpointGroupAggregatedList{}},
		"endpoints":          {"POST", p + "/zones/us-central1-a/networkEndpointGroups/neg/listNetworkEndpoints", &computepb.NetworkEndpointGroupsListNetworkEndpoints{}},
		"no endpoints":       {"POST", p + "/regions/us-central1/networkEndpointGroups/run/listNetworkEndpoints", &computepb.NetworkEndpointGroupsListNetworkEndpoints{}},
		"subnetworks":        {"GET", p + "/aggregated/subnetworks", &computepb.SubnetworkAggregatedList{}},
		"address group":      {"GET", "/any/prefix/v1/projects/p/locations/global/addressGroups/ag", nil},
		"projects":           {"GET", "/any/prefix/v3/projects?parent=folders/715517400100", nil},
		"managed project":    {"GET", "/any/prefix/v3/projects/p", nil},
		"folders":            {"GET", "/any/prefix/v3/folders?parent=organizations/420042004200", nil},
	}
}

// TestAnswersAreGoogles asks for everything, with pages as small as can be, and holds every answer to Google's own
// description, and those of Compute Engine to its messages, of which no field may be unknown.
func TestAnswersAreGoogles(t *testing.T) {
	docs, err := descriptions()
	if err != nil {
		t.Fatal(err)
	}
	for _, size := range []int{0, 1} {
		w := everything()
		w.PageSize, w.Unreachable = size, []string{"zones/europe-north1-a", "regions/europe-north1"}
		h := checked(w, docs, func(err error) { t.Error(err) })
		for name, q := range requests() {
			pages, token := 0, ""
			for {
				url := q.path
				if strings.Contains(url, "/aggregated/") {
					url += "?returnPartialSuccess=true"
				}
				if token != "" {
					sep := "?"
					if strings.Contains(url, "?") {
						sep = "&"
					}
					url += sep + "pageToken=" + token
				}
				r := httptest.NewRequest(q.method, url, http.NoBody)
				if q.method == "POST" && !strings.Contains(url, "/regions/us-central1/networkEndpointGroups/") { // that takes none
					r = httptest.NewRequest(q.method, url, strings.NewReader("{}"))
				}
				rec := httptest.NewRecorder()
				h.ServeHTTP(rec, r)
				if rec.Code != http.StatusOK {
					t.Fatalf("%s: %d %s", name, rec.Code, rec.Body)
				}
				pages++
				if q.into != nil {
					if err := protojson.Unmarshal(rec.Body.Bytes(), q.into); err != nil {
						t.Errorf("%s: %v\n%s", name, err, rec.Body)
					}
				}
				var next struct{ NextPageToken string }
				if err := json.Unmarshal(rec.Body.Bytes(), &next); err != nil {
					t.Fatal(err)
				}
				if token = next.NextPageToken; token == "" || pages > 50 {
					break
				}
			}
			switch name {
			case "instances", "networks", "routes", "projects", "endpoints", "regional members":
				if size == 1 && pages < 2 {
					t.Errorf("%s: %d pages of one", name, pages)
				}
			}
		}
	}
	asked := map[string]bool{}
	w := everything()
	for _, q := range requests() {
		asked[w.Operation(httptest.NewRequest(q.method, q.path, http.NoBody))] = true
	}
	for _, o := range slices.Concat(computeOperations, managementOperations) {
		if o.method != "GET" && o.permission != "compute.instanceGroups.list" && o.permission != "compute.networkEndpointGroups.get" ||
			strings.Contains(o.permission, "Operations.") {
			continue // a write, or of one: see TestFirewallWrites and TestPolicyWrites
		}
		if !asked[o.permission] && o.permission != "compute.globalNetworkEndpointGroups.get" {
			t.Errorf("%s %s is not asked for here", o.method, strings.Join(o.path, "/"))
		}
	}
}

// TestDescriptionRefuses: a check that takes everything would prove nothing.
func TestDescriptionRefuses(t *testing.T) {
	docs, err := descriptions()
	if err != nil {
		t.Fatal(err)
	}
	for _, url := range []string{
		"/compute/v1/projects/p/aggregated/firewalls",
		"/compute/v1/projects/p/global/firewalls?fliter=x",
		"/compute/v1/projects/p/global/firewalls?maxResults=many",
		"/compute/v1/projects/p/global/firewalls?maxResults=-1",
		"/compute/v1/projects/p/global/firewalls?returnPartialSuccess=yes",
		"/compute/v1/projects/p/regions/r/firewallPolicies/getEffectiveFirewalls",
	} {
		if err := docs[0].checkRequest(httptest.NewRequest("GET", url, http.NoBody)); err == nil {
			t.Errorf("GET %s is taken", url)
		}
	}
	r := httptest.NewRequest("GET", "/compute/v1/projects/p/global/firewalls", http.NoBody)
	for _, body := range []string{
		`{"itmes":[]}`, `{"items":{}}`, `{"items":[{"priority":"1000"}]}`, `{"items":[{"id":17}]}`, `{"items":[{"id":"x"}]}`,
		`{"items":[{"direction":"SIDEWAYS"}]}`, `{"items":[{"disabled":"no"}]}`, `{"items":[{"priority":1.5}]}`, `[]`, `{`,
	} {
		if docs[0].checkAnswer(r, []byte(body)) == nil {
			t.Errorf("the answer %s is taken", body)
		}
	}
	if err := docs[0].checkAnswer(r, []byte(`{"items":[{"direction":"INGRESS","id":"17","priority":1000}]}`)); err != nil {
		t.Error(err)
	}
	if err := docs[0].checkRequest(httptest.NewRequest("POST", "/compute/v1/projects/p/zones/z/instanceGroups/g/listInstances", strings.NewReader(`{"instanceStat":"ALL"}`))); err == nil {
		t.Error("a body with an unknown property is taken")
	}
}

// serve returns the clients' options for w.
func serve(t *testing.T, h http.Handler, suffix string) []option.ClientOption {
	t.Helper()
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	return []option.ClientOption{option.WithEndpoint(server.URL + "/any/prefix" + suffix), option.WithHTTPClient(server.Client())}
}

// TestClients reads the world with Google's own clients.
func TestClients(t *testing.T) {
	w := everything()
	w.PageSize = 1
	ctx := t.Context()
	instances, err := compute.NewInstancesRESTClient(ctx, serve(t, w, "")...)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	it := instances.AggregatedList(ctx, &computepb.AggregatedListInstancesRequest{Project: "p"})
	for {
		pair, err := it.Next()
		if errors.Is(err, iterator.Done) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		for _, vm := range pair.Value.GetInstances() {
			names = append(names, pair.Key+"/"+vm.GetName())
			if pair.Value.GetWarning() != nil {
				t.Errorf("%s has results and a warning", pair.Key)
			}
		}
	}
	if diff := cmp.Diff([]string{"zones/us-central1-a/vm-1", "zones/us-central1-b/vm-2"}, names); diff != "" {
		t.Error(diff)
	}

	effective, err := instances.GetEffectiveFirewalls(ctx, &computepb.GetEffectiveFirewallsInstanceRequest{
		Project: "p", Zone: "us-central1-b", Instance: "vm-2", NetworkInterface: "nic0",
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range effective.GetFirewallPolicys() {
		for _, r := range p.GetRules() {
			if len(r.GetTargetServiceAccounts())+len(r.GetTargetSecureTags()) > 0 {
				t.Errorf("rule %d of %s is for others, and the answer has it", r.GetPriority(), p.GetName())
			}
		}
	}

	security, err := networksecurity.NewService(ctx, serve(t, w, "/")...)
	if err != nil {
		t.Fatal(err)
	}
	group, err := security.Projects.Locations.AddressGroups.Get("projects/p/locations/global/addressGroups/ag6").Context(ctx).Do()
	if err != nil || group.Type != "IPV6" {
		t.Errorf("%+v, %v", group, err)
	}
	if _, err := security.Projects.Locations.AddressGroups.Get("projects/p/locations/global/addressGroups/none").Context(ctx).Do(); code(err) != 403 {
		t.Errorf("an address group that is not there: %v", err)
	}

	resources, err := cloudresourcemanager.NewService(ctx, serve(t, w, "/")...)
	if err != nil {
		t.Fatal(err)
	}
	var projects []string
	err = resources.Projects.List().Parent("folders/715517400100").Pages(ctx, func(page *cloudresourcemanager.ListProjectsResponse) error {
		for _, p := range page.Projects {
			projects = append(projects, p.ProjectId)
		}
		return nil
	})
	if diff := cmp.Diff([]string{"p", "service", "shop-network", "shop-prod"}, projects); err != nil || diff != "" {
		t.Errorf("%v\n%s", err, diff)
	}
}

func code(err error) int {
	var e *googleapi.Error
	if errors.As(err, &e) {
		return e.Code
	}
	return 0
}

// TestErrors: what goes wrong is said in Google's words.
func TestErrors(t *testing.T) {
	ctx := t.Context()
	list := func(ctx context.Context, h http.Handler, project string) *googleapi.Error {
		t.Helper()
		client, err := compute.NewFirewallsRESTClient(ctx, serve(t, h, "")...)
		if err != nil {
			t.Fatal(err)
		}
		_, err = client.List(ctx, &computepb.ListFirewallsRequest{Project: project}).Next()
		var e *googleapi.Error
		if !errors.As(err, &e) {
			t.Fatalf("%s: %v", project, err)
		}
		return e
	}
	always := func(f emulate.Fault) http.Handler {
		return emulate.WithFaults(everything(), func(string, *http.Request) emulate.Fault { return f })
	}
	for _, c := range []struct {
		name    string
		handler http.Handler
		project string
		code    int
		reason  string
	}{
		{"a project that is not there", everything(), "nowhere", 404, "notFound"},
		{"a project that is going", everything(), "gone", 404, "notFound"},
		{"a project without the API", everything(), "off", 403, "accessNotConfigured"},
		{"a missing permission", always(emulate.Fault{Refuse: true}), "p", 403, "forbidden"},
		{"too many requests", always(emulate.Fault{Throttle: 9}), "p", 403, "rateLimitExceeded"},
	} {
		e := list(ctx, c.handler, c.project)
		if e.Code != c.code || len(e.Errors) != 1 || e.Errors[0].Reason != c.reason {
			t.Errorf("%s: %d %+v, want %d %s", c.name, e.Code, e.Errors, c.code, c.reason)
		}
	}
	get := func(w *World, path string) (int, string) {
		rec := httptest.NewRecorder()
		w.ServeHTTP(rec, httptest.NewRequest("GET", path, http.NoBody))
		body, err := io.ReadAll(rec.Body)
		if err != nil {
			t.Fatal(err)
		}
		return rec.Code, string(body)
	}
	w := everything()
	w.Unreachable = []string{"zones/us-central1-b"}
	for path, want := range map[string]int{
		"/compute/v1/projects/p/global/nothing":                                             404,
		"/compute/v1/projects/p/global/firewalls?maxResults=501":                            400,
		"/compute/v1/projects/p/global/firewalls?pageToken=made-up":                         400,
		"/compute/v1/projects/p/aggregated/instances":                                       503,
		"/compute/v1/projects/p/aggregated/instances?returnPartialSuccess=true":             200,
		"/compute/v1/projects/p/global/networks/none":                                       404,
		"/v3/projects?parent=folders/1":                                                     403,
		"/compute/v1/projects/p/global/firewalls?fields=items(":                             400,
		"/compute/v1/projects/p/regions/us-central1/firewallPolicies/getEffectiveFirewalls": 400,
	} {
		if got, body := get(w, path); got != want {
			t.Errorf("%s: %d %s, want %d", path, got, body, want)
		}
	}
	_, body := get(w, "/compute/v1/projects/p/aggregated/instances?returnPartialSuccess=true")
	if !strings.Contains(body, `"UNREACHABLE"`) || !strings.Contains(body, `"unreachables":["zones/us-central1-b"]`) || strings.Contains(body, `"vm-2"`) {
		t.Errorf("an unreachable zone: %s", body)
	}
	if _, body := get(w, "/compute/v1/projects/p/global/networks?fields=items(name,kind),kind"); strings.Contains(body, "selfLink") || !strings.Contains(body, `"name":"net"`) {
		t.Errorf("a partial response: %s", body)
	}
	w.NoMasks = true
	if got, _ := get(w, "/compute/v1/projects/p/global/networks?fields=kind"); got != 400 {
		t.Errorf("a world without partial responses answers %d", got)
	}
}

// TestContradictions: a scene that contradicts itself is not served.
func TestContradictions(t *testing.T) {
	for name, w := range map[string]*World{
		"no ID":       {Projects: []Project{{}}},
		"twice":       {Projects: []Project{{ID: "p"}, {ID: "p"}}},
		"no zone":     {Projects: []Project{{ID: "p", Instances: []Instance{{Name: "vm"}}}}},
		"no instance": {Projects: []Project{{ID: "p", ForwardingRules: []ForwardingRule{{Name: "fr", BackendInstances: []string{"vm"}}}}}},
	} {
		rec := httptest.NewRecorder()
		w.ServeHTTP(rec, httptest.NewRequest("GET", "/compute/v1/projects/p", http.NoBody))
		if rec.Code != http.StatusInternalServerError {
			t.Errorf("%s: answers %d", name, rec.Code)
		}
	}
}
