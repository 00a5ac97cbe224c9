package do_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"testing"

	"github.com/digitalocean/godo"
	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/getkin/kin-openapi/routers/gorillamux"

	emulated "github.com/cloudaudit/cloudaudit/internal/emulate/do"
	"github.com/cloudaudit/cloudaudit/providers/do"
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

	demo := emulated.Demo()
	demo.Teams[0].Tokens = append(demo.Teams[0].Tokens, emulated.Token{Value: "narrow", Scopes: []string{"firewall:read"}})
	demo.PageSize = 2
	server := httptest.NewServer(demo)
	defer server.Close()
	base, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	validating := func() *described {
		return &described{t: t, router: router, next: server.Client().Transport, seen: map[string]int{}}
	}

	// Every list by godo's own methods, with a token of full access, one that is refused, and one that is unknown.
	for token, lists := range map[string]int{emulated.DemoToken: 15, "narrow": 11, "unknown": 8} {
		d := validating()
		c := godo.NewClient(&http.Client{Transport: authorized{token, d}})
		c.BaseURL = base
		ctx := t.Context()
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
		_, _, _ = c.Firewalls.Get(ctx, "d6f1c0b4-7e22-4f0b-a2f7-5be1b3a4c905")
		if total := sum(d.seen); len(d.seen) != 8 || total != lists {
			t.Errorf("token %s: %d requests, want %d: %v", token, total, lists, d.seen)
		}
	}

	// And what the provider sends.
	d := validating()
	p := do.New(do.Config{Tokens: []string{emulated.DemoToken}, BaseURL: server.URL, Transport: d, Concurrency: 1})
	scopes, err := p.Scopes(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if s, err := p.Read(t.Context(), scopes[0]); err != nil || len(s.Gaps) > 0 {
		t.Errorf("%+v, %v", s, err)
	}
	if len(d.seen) != 7 {
		t.Errorf("requests by path: %v", d.seen)
	}
}

func sum(calls map[string]int) (n int) {
	for _, c := range calls {
		n += c
	}
	return n
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
