package gcp

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"

	compute "cloud.google.com/go/compute/apiv1"
	"golang.org/x/oauth2"
	"golang.org/x/oauth2/google"
	"google.golang.org/api/cloudresourcemanager/v3"
	"google.golang.org/api/networksecurity/v1"
	"google.golang.org/api/option"

	"github.com/cloudaudit/cloudaudit/providers"
)

// accessScope is what the client libraries ask for by themselves; what a caller may do is decided by its roles.
const accessScope = "https://www.googleapis.com/auth/cloud-platform"

// clients are the API clients for one reading, made when they are first needed. All share one transport.
type clients struct {
	http            *http.Client
	project         string // of the credentials, if they name one
	computeURL      string
	securityURL     string
	resourcesURL    string
	instances       func() (*compute.InstancesClient, error)
	networks        func() (*compute.NetworksClient, error)
	firewalls       func() (*compute.FirewallsClient, error)
	regionPolicies  func() (*compute.RegionNetworkFirewallPoliciesClient, error)
	globalPolicies  func() (*compute.NetworkFirewallPoliciesClient, error)
	routes          func() (*compute.RoutesClient, error)
	forwardingRules func() (*compute.ForwardingRulesClient, error)
	targetInstances func() (*compute.TargetInstancesClient, error)
	targetPools     func() (*compute.TargetPoolsClient, error)
	tcpProxies      func() (*compute.TargetTcpProxiesClient, error)
	sslProxies      func() (*compute.TargetSslProxiesClient, error)
	httpProxies     func() (*compute.TargetHttpProxiesClient, error)
	httpsProxies    func() (*compute.TargetHttpsProxiesClient, error)
	urlMaps         func() (*compute.UrlMapsClient, error)
	backendServices func() (*compute.BackendServicesClient, error)
	instanceGroups  func() (*compute.InstanceGroupsClient, error)
	regionGroups    func() (*compute.RegionInstanceGroupsClient, error)
	endpointGroups  func() (*compute.NetworkEndpointGroupsClient, error)
	subnetworks     func() (*compute.SubnetworksClient, error)
	addressGroups   func() (*networksecurity.Service, error)
	resources       func() (*cloudresourcemanager.Service, error)
}

// open finds the credentials, which is the first I/O of a provider and done once, and prepares clients whose requests end
// with ctx.
func (p *Provider) open(ctx context.Context) (*clients, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.source == nil {
		source, project, err := p.credentials(ctx)
		if err != nil {
			return nil, err
		}
		p.source, p.project = source, project
	}
	c := &clients{
		http:         &http.Client{Transport: &oauth2.Transport{Base: &within{ctx, p.transport}, Source: p.source}},
		project:      p.project,
		computeURL:   endpoint(p.env("GOOGLE_COMPUTE_CUSTOM_ENDPOINT"), "compute/v1"),
		securityURL:  endpoint(p.env("GOOGLE_NETWORK_SECURITY_CUSTOM_ENDPOINT"), "v1"),
		resourcesURL: endpoint(p.env("GOOGLE_RESOURCE_MANAGER_V3_CUSTOM_ENDPOINT"), "v3"),
	}
	c.instances = lazy(c, compute.NewInstancesRESTClient)
	c.networks = lazy(c, compute.NewNetworksRESTClient)
	c.firewalls = lazy(c, compute.NewFirewallsRESTClient)
	c.regionPolicies = lazy(c, compute.NewRegionNetworkFirewallPoliciesRESTClient)
	c.globalPolicies = lazy(c, compute.NewNetworkFirewallPoliciesRESTClient)
	c.routes = lazy(c, compute.NewRoutesRESTClient)
	c.forwardingRules = lazy(c, compute.NewForwardingRulesRESTClient)
	c.targetInstances = lazy(c, compute.NewTargetInstancesRESTClient)
	c.targetPools = lazy(c, compute.NewTargetPoolsRESTClient)
	c.tcpProxies = lazy(c, compute.NewTargetTcpProxiesRESTClient)
	c.sslProxies = lazy(c, compute.NewTargetSslProxiesRESTClient)
	c.httpProxies = lazy(c, compute.NewTargetHttpProxiesRESTClient)
	c.httpsProxies = lazy(c, compute.NewTargetHttpsProxiesRESTClient)
	c.urlMaps = lazy(c, compute.NewUrlMapsRESTClient)
	c.backendServices = lazy(c, compute.NewBackendServicesRESTClient)
	c.instanceGroups = lazy(c, compute.NewInstanceGroupsRESTClient)
	c.regionGroups = lazy(c, compute.NewRegionInstanceGroupsRESTClient)
	c.endpointGroups = lazy(c, compute.NewNetworkEndpointGroupsRESTClient)
	c.subnetworks = lazy(c, compute.NewSubnetworksRESTClient)
	c.addressGroups = sync.OnceValues(func() (*networksecurity.Service, error) {
		return networksecurity.NewService(context.Background(), c.options(slash(c.securityURL))...)
	})
	c.resources = sync.OnceValues(func() (*cloudresourcemanager.Service, error) {
		return cloudresourcemanager.NewService(context.Background(), c.options(slash(c.resourcesURL))...)
	})
	return c, nil
}

// within sends requests that end with ctx. The list calls of cloud.google.com/go/compute v1.74.0 make theirs without the
// context that they are given, so that nothing would end them.
type within struct {
	ctx  context.Context
	next http.RoundTripper
}

// RoundTrip sends r, by its own context if it has one.
func (w *within) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Context().Done() == nil {
		r = r.WithContext(w.ctx)
	}
	return w.next.RoundTrip(r)
}

// lazy makes a client of Compute Engine once, when it is first asked for.
func lazy[C any](c *clients, make func(context.Context, ...option.ClientOption) (C, error)) func() (C, error) {
	return sync.OnceValues(func() (C, error) {
		return make(context.Background(), c.options(c.computeURL)...)
	})
}

func (c *clients) options(url string) []option.ClientOption {
	opts := []option.ClientOption{option.WithHTTPClient(c.http)}
	if url != "" {
		opts = append(opts, option.WithEndpoint(url))
	}
	return opts
}

// endpoint returns the base that a client wants of an endpoint as the Terraform provider takes it: without the path of
// the API's version, which the clients add themselves.
func endpoint(custom, version string) string {
	if custom == "" {
		return ""
	}
	base := strings.TrimRight(custom, "/")
	base = strings.TrimSuffix(base, version)
	return strings.TrimRight(base, "/")
}

// slash ends a base as the clients of the older kind want it.
func slash(base string) string {
	if base == "" {
		return ""
	}
	return base + "/"
}

// credentials returns the token source to use, and the project that it belongs to, if it is known.
func (p *Provider) credentials(ctx context.Context) (oauth2.TokenSource, string, error) {
	if token := p.env("GOOGLE_OAUTH_ACCESS_TOKEN"); token != "" {
		return oauth2.StaticTokenSource(&oauth2.Token{AccessToken: token}), "", nil
	}
	// The token source outlives ctx and renews itself through the HTTP client it is given here.
	detached := context.WithValue(context.WithoutCancel(ctx), oauth2.HTTPClient, &http.Client{Transport: p.transport})
	found, err := google.FindDefaultCredentials(detached, accessScope)
	if err != nil {
		return nil, "", &providers.Hint{
			Err: fmt.Errorf("gcp: %w: %v", providers.ErrNotConfigured, err),
			Next: "run `gcloud auth application-default login`, or set GOOGLE_APPLICATION_CREDENTIALS to a key file or " +
				"GOOGLE_OAUTH_ACCESS_TOKEN to a token",
		}
	}
	return found.TokenSource, found.ProjectID, nil
}
