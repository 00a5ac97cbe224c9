// Package gcp reads Google Cloud: for every interface of every instance, the firewall policies and rules that filter its
// packets, in the order in which Google asks them, and the ways in from the internet.
//
// What a network is filtered by is asked of Google once for each network and region in use; which rule concerns which
// interface is decided here, and a rule of which that cannot be decided is left in doubt, never left out.
package gcp

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"golang.org/x/oauth2"
	"google.golang.org/api/cloudresourcemanager/v3"

	"github.com/cloudaudit/cloudaudit/cloud"
	"github.com/cloudaudit/cloudaudit/providers"
)

// Name is how the provider is called in scopes, refs and on the command line.
const Name = "gcp"

// Config is what to read and how. The zero value reads the project of the environment: GOOGLE_CLOUD_PROJECT, or that of
// the Application Default Credentials.
type Config struct {
	Projects      []string // project IDs
	Folders       []string // folder numbers, "123" or "folders/123": every active project below
	Organizations []string // organization numbers, likewise

	Log  hclog.Logger             // nil: nothing is logged
	Env  func(name string) string // where variables come from; nil: os.Getenv
	HTTP http.RoundTripper        // what requests are sent with; nil: an own http.Transport

	Concurrency int           // bound on the requests in flight; 0: 64
	FirstWait   time.Duration // before a failed request is sent again; grows from there; 0: 100 ms
	NoFieldMask bool          // ask for whole instances, not only for the fields that are used
}

// Provider reads Google Cloud. It implements providers.Provider.
type Provider struct {
	config    Config
	env       func(string) string
	log       hclog.Logger
	transport *transport

	mu      sync.Mutex
	source  oauth2.TokenSource // nil until the credentials were found
	project string             // that the credentials belong to, if it is known
	noMask  bool               // the service does not take the field mask
}

var _ providers.Provider = (*Provider)(nil)

// New returns a provider. It does no I/O: credentials are looked for when they are first needed.
func New(config Config) *Provider {
	p := &Provider{config: config, env: config.Env, log: config.Log, noMask: config.NoFieldMask}
	if p.env == nil {
		p.env = os.Getenv
	}
	if p.log == nil {
		p.log = hclog.NewNullLogger()
	}
	bound := config.Concurrency
	if bound <= 0 {
		bound = 64
	}
	base := config.HTTP
	if base == nil {
		t := http.DefaultTransport.(*http.Transport).Clone()
		t.MaxIdleConns, t.MaxIdleConnsPerHost = bound, bound
		base = t
	}
	first := config.FirstWait
	if first <= 0 {
		first = 100 * time.Millisecond
	}
	p.transport = &transport{
		base: base, inFlight: make(chan struct{}, bound), log: p.log,
		patience: patience{first: first, most: 50 * first, throttled: 16, broken: 4},
	}
	return p
}

// Scopes lists the projects to read: those that were named, and every active one below the named folders and
// organizations. A folder or organization that cannot be listed is a scope too, whose reading gives the gap.
func (p *Provider) Scopes(ctx context.Context) ([]cloud.Scope, error) {
	c, err := p.open(ctx)
	if err != nil {
		return nil, err
	}
	accounts := map[string]bool{}
	for _, id := range p.config.Projects {
		accounts[id] = true
	}
	parents := parents(p.config)
	if len(accounts) == 0 && len(parents) == 0 {
		id := p.env("GOOGLE_CLOUD_PROJECT")
		if id == "" {
			id = c.project
		}
		if id == "" {
			return nil, &providers.Hint{
				Err:  fmt.Errorf("gcp: %w: no project to read", providers.ErrNotConfigured),
				Next: "name one with --project, or set GOOGLE_CLOUD_PROJECT; --folder and --organization-id take all below",
			}
		}
		accounts[id] = true
	}
	for _, parent := range parents {
		if err := p.below(ctx, c, parent, accounts); err != nil {
			return nil, err
		}
	}
	var scopes []cloud.Scope
	for id := range accounts {
		scopes = append(scopes, cloud.Scope{Provider: Name, Account: id})
	}
	slices.SortFunc(scopes, func(a, b cloud.Scope) int { return strings.Compare(a.String(), b.String()) })
	return scopes, nil
}

// parents returns the folders and organizations of a configuration by their resource names.
func parents(c Config) []string {
	var out []string
	add := func(kind string, names []string) {
		for _, n := range names {
			if !strings.HasPrefix(n, kind+"/") {
				n = kind + "/" + n
			}
			out = append(out, n)
		}
	}
	add("folders", c.Folders)
	add("organizations", c.Organizations)
	return out
}

// below adds the active projects under a folder or organization to accounts, and the names of folders that cannot be
// listed. The error is that of ctx.
func (p *Provider) below(ctx context.Context, c *clients, parent string, accounts map[string]bool) error {
	service, err := c.resources()
	if err != nil {
		return fmt.Errorf("gcp: resource manager: %w", err)
	}
	if g := p.projectsOf(ctx, service, parent, accounts); g != nil {
		accounts[parent] = true
	}
	folders, g := p.foldersOf(ctx, service, parent)
	if g != nil {
		accounts[parent] = true
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	for _, f := range folders {
		if err := p.below(ctx, c, f, accounts); err != nil {
			return err
		}
	}
	return nil
}

func (p *Provider) projectsOf(ctx context.Context, s *cloudresourcemanager.Service, parent string, accounts map[string]bool) *cloud.Gap {
	err := s.Projects.List().Parent(parent).PageSize(int64(pageSize)).Pages(ctx, func(page *cloudresourcemanager.ListProjectsResponse) error {
		for _, project := range page.Projects {
			if project.State == "ACTIVE" {
				accounts[project.ProjectId] = true
			}
		}
		return nil
	})
	if err != nil {
		g := gap("resourcemanager.projects.list", parent, err)
		return &g
	}
	return nil
}

func (p *Provider) foldersOf(ctx context.Context, s *cloudresourcemanager.Service, parent string) ([]string, *cloud.Gap) {
	var out []string
	err := s.Folders.List().Parent(parent).PageSize(int64(pageSize)).Pages(ctx, func(page *cloudresourcemanager.ListFoldersResponse) error {
		for _, f := range page.Folders {
			if f.State == "ACTIVE" {
				out = append(out, f.Name)
			}
		}
		return nil
	})
	if err != nil {
		g := gap("resourcemanager.folders.list", parent, err)
		return nil, &g
	}
	return out, nil
}

// Read reads one project. For a folder or organization that could not be listed it says why.
func (p *Provider) Read(ctx context.Context, scope cloud.Scope) (*cloud.Snapshot, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	c, err := p.open(ctx)
	if err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		g := cloud.Gap{Subject: "credentials", Cause: err.Error()}
		var hint *providers.Hint
		if errors.As(err, &hint) {
			g.Hint = hint.Next
		}
		return &cloud.Snapshot{Scope: scope, Gaps: []cloud.Gap{g}}, nil
	}
	if strings.Contains(scope.Account, "/") {
		return p.readParent(ctx, c, scope)
	}
	r := newReader(p, c, scope)
	if err := r.read(ctx); err != nil {
		return nil, err
	}
	return r.snapshot(), nil
}

// readParent reports what keeps the projects below a folder or organization from being listed.
func (p *Provider) readParent(ctx context.Context, c *clients, scope cloud.Scope) (*cloud.Snapshot, error) {
	s := &cloud.Snapshot{Scope: scope}
	service, err := c.resources()
	if err != nil {
		s.Gaps = append(s.Gaps, cloud.Gap{Subject: "resourcemanager.projects.list", Cause: err.Error()})
		return s, nil
	}
	found := map[string]bool{}
	projects := p.projectsOf(ctx, service, scope.Account, found)
	_, folders := p.foldersOf(ctx, service, scope.Account)
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	for _, g := range []*cloud.Gap{projects, folders} {
		if g != nil {
			s.Gaps = append(s.Gaps, *g)
		}
	}
	if len(s.Gaps) == 0 {
		s.Gaps = append(s.Gaps, cloud.Gap{
			Subject: "resourcemanager.projects.list", Cause: scope.Account + ": could not be listed before, and can now",
			Hint: "run the audit again",
		})
	}
	return s, nil
}
