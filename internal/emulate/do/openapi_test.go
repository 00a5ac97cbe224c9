package do

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"os"
	"testing"

	"github.com/digitalocean/godo"
	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/getkin/kin-openapi/routers/gorillamux"
)

const description = "../../../../shared/specs/digitalocean-openapi.yaml"

// described validates every request and its answer against DigitalOcean's own description of the API.
type described struct {
	t      *testing.T
	router routers.Router
	next   http.RoundTripper
	seen   map[string]int
}

func (d *described) RoundTrip(r *http.Request) (*http.Response, error) {
	public := r.Clone(r.Context())
	public.URL.Scheme, public.URL.Host, public.Host = "https", "api.digitalocean.com", ""
	route, params, err := d.router.FindRoute(public)
	if err != nil {
		d.t.Errorf("%s %s is not in the description: %v", r.Method, r.URL.Path, err)
		return d.next.RoundTrip(r)
	}
	d.seen[route.Path]++
	in := &openapi3filter.RequestValidationInput{
		Request: public, PathParams: params, Route: route,
		Options: &openapi3filter.Options{AuthenticationFunc: func(_ context.Context, a *openapi3filter.AuthenticationInput) error {
			if a.RequestValidationInput.Request.Header.Get("Authorization") == "" {
				return errors.New("no bearer token")
			}
			return nil
		}},
	}
	if err := openapi3filter.ValidateRequest(r.Context(), in); err != nil {
		d.t.Errorf("request %s %s: %v", r.Method, r.URL, err)
	}
	response, err := d.next.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return nil, err
	}
	response.Body = io.NopCloser(bytes.NewReader(body))
	out := &openapi3filter.ResponseValidationInput{
		RequestValidationInput: in, Status: response.StatusCode, Header: response.Header,
		Body: io.NopCloser(bytes.NewReader(body)), Options: &openapi3filter.Options{IncludeResponseStatus: true},
	}
	if err := openapi3filter.ValidateResponse(r.Context(), out); err != nil {
		d.t.Errorf("answer %d to %s %s: %v", response.StatusCode, r.Method, r.URL.Path, err)
	}
	return response, nil
}

func TestRequestsAndAnswersPassTheAPIDescription(t *testing.T) {
	text, err := os.ReadFile(description)
	if errors.Is(err, fs.ErrNotExist) {
		t.Skipf("there is no %s", description)
	}
	if err != nil {
		t.Fatal(err)
	}
	doc, err := openapi3.NewLoader().LoadFromData(text)
	if err != nil {
		t.Fatal(err)
	}
	router, err := gorillamux.NewRouter(doc)
	if err != nil {
		t.Fatal(err)
	}

	demo := Demo()
	demo.Teams[0].Tokens = append(demo.Teams[0].Tokens, Token{Value: "narrow", Scopes: []string{"firewall:read"}})
	demo.PageSize = 2
	read := func(token string) map[string]int {
		c := client(t, demo, token)
		d := &described{t: t, router: router, next: c.HTTPClient.Transport, seen: map[string]int{}}
		c.HTTPClient = &http.Client{Transport: authorized{token, d}}
		ctx := context.Background()
		pages(func(o *godo.ListOptions) (*godo.Response, error) { _, r, err := c.Droplets.List(ctx, o); return r, err })
		pages(func(o *godo.ListOptions) (*godo.Response, error) {
			_, r, err := c.Firewalls.List(ctx, o)
			return r, err
		})
		pages(func(o *godo.ListOptions) (*godo.Response, error) {
			_, r, err := c.LoadBalancers.List(ctx, o)
			return r, err
		})
		pages(func(o *godo.ListOptions) (*godo.Response, error) {
			_, r, err := c.ReservedIPs.List(ctx, o)
			return r, err
		})
		pages(func(o *godo.ListOptions) (*godo.Response, error) {
			_, r, err := c.ReservedIPV6s.List(ctx, o)
			return r, err
		})
		pages(func(o *godo.ListOptions) (*godo.Response, error) { _, r, err := c.VPCs.List(ctx, o); return r, err })
		_, _, _ = c.Account.Get(ctx)
		_, _, _ = c.Firewalls.Get(ctx, fwPartner)
		return d.seen
	}
	seen := read(DemoToken)
	if len(seen) != 8 || seen["/v2/droplets"] != 5 || seen["/v2/firewalls"] != 4 {
		t.Errorf("requests by path: %v", seen)
	}
	read("narrow")
	read("unknown")
}

// authorized adds the token before the validation sees a request.
type authorized struct {
	token string
	next  http.RoundTripper
}

func (a authorized) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("Authorization", "Bearer "+a.token)
	return a.next.RoundTrip(r)
}

func pages(list func(*godo.ListOptions) (*godo.Response, error)) {
	for o := (&godo.ListOptions{Page: 1, PerPage: 200}); ; o.Page++ {
		r, err := list(o)
		if err != nil || r.Links == nil || r.Links.IsLastPage() {
			return
		}
	}
}
