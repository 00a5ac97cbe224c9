// Package do reads DigitalOcean teams: droplets with every public and reserved address, Cloud Firewalls with their deny
// rules, and load balancers. What the API does not show to a token, or has not yet put into force, is left in doubt and
// never taken for absent: an attachment that is not shown is not "no attachment".
package do

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/digitalocean/godo"
	"github.com/hashicorp/go-hclog"

	"github.com/cloudaudit/cloudaudit/cloud"
	"github.com/cloudaudit/cloudaudit/providers"
)

// Name is the provider's name in scopes and refs.
const Name = "do"

// DefaultBaseURL is where the public API is.
const DefaultBaseURL = "https://api.digitalocean.com"

// defaultConcurrency bounds the requests in flight. A token may ask 250 times a minute, so more would only wait.
const defaultConcurrency = 16

// Config says which teams to read and how.
type Config struct {
	Tokens      []string          // one API token a team; never logged
	BaseURL     string            // of the API, which may stand under a path; DefaultBaseURL when empty
	Log         hclog.Logger      // nil logs nothing
	Concurrency int               // requests in flight over all teams; 16 when zero
	Transport   http.RoundTripper // nil makes one that all teams share
}

// FromEnv returns the tokens and base URL of the environment that env looks up: DIGITALOCEAN_TOKEN or else
// DIGITALOCEAN_ACCESS_TOKEN, several tokens separated by commas, and DIGITALOCEAN_API_URL.
func FromEnv(env func(string) string) Config {
	var c Config
	value := env("DIGITALOCEAN_TOKEN")
	if strings.TrimSpace(value) == "" {
		value = env("DIGITALOCEAN_ACCESS_TOKEN")
	}
	for token := range strings.SplitSeq(value, ",") {
		if token = strings.TrimSpace(token); token != "" && !slices.Contains(c.Tokens, token) {
			c.Tokens = append(c.Tokens, token)
		}
	}
	c.BaseURL = env("DIGITALOCEAN_API_URL")
	return c
}

// Permissions returns the token scopes that reading needs. Without tag:read or droplet:read the API leaves the attributes
// out that say what a firewall is attached to (https://docs.digitalocean.com/reference/api/scopes/).
func Permissions() []string {
	return []string{
		"account:read", "droplet:read", "firewall:read", "load_balancer:read", "reserved_ip:read", "tag:read", "vpc:read",
	}
}

// Provider reads the teams of its tokens.
type Provider struct {
	config Config
	log    hclog.Logger
	slots  chan struct{}

	now   func() time.Time
	sleep func(context.Context, time.Duration) error

	mu    sync.Mutex
	teams []*team // nil until Scopes or Read asked who the tokens belong to
}

var _ providers.Provider = (*Provider)(nil)

// team is one token and whom it belongs to.
type team struct {
	scope  cloud.Scope
	client *client
	err    error // why the team could not be named; then the account of scope is the position of the token
}

// New returns a provider for the teams of c. It does no I/O.
func New(c Config) *Provider {
	if c.BaseURL == "" {
		c.BaseURL = DefaultBaseURL
	}
	if c.Concurrency <= 0 {
		c.Concurrency = defaultConcurrency
	}
	if c.Log == nil {
		c.Log = hclog.NewNullLogger()
	}
	if c.Transport == nil {
		t := http.DefaultTransport.(*http.Transport).Clone()
		t.MaxIdleConnsPerHost = c.Concurrency
		t.ResponseHeaderTimeout = time.Minute
		c.Transport = t
	}
	return &Provider{config: c, log: c.Log, slots: make(chan struct{}, c.Concurrency), now: time.Now, sleep: providers.Sleep}
}

// Scopes lists the teams of the tokens, one scope each. A token whose team cannot be named is a scope all the same, called
// after its position, such as "token-2".
func (p *Provider) Scopes(ctx context.Context) ([]cloud.Scope, error) {
	teams, err := p.identify(ctx)
	if err != nil {
		return nil, err
	}
	out := make([]cloud.Scope, len(teams))
	for i, t := range teams {
		out[i] = t.scope
	}
	return out, nil
}

// identify asks once for each token whose it is.
func (p *Provider) identify(ctx context.Context) ([]*team, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.teams != nil {
		return p.teams, nil
	}
	if len(p.config.Tokens) == 0 {
		return nil, &providers.Hint{
			Err: fmt.Errorf("digitalocean: %w: no API token", providers.ErrNotConfigured),
			Next: "set DIGITALOCEAN_TOKEN to an API token (several, separated by commas, for several teams) with the scopes " +
				strings.Join(Permissions(), ", "),
		}
	}
	base, err := url.Parse(p.config.BaseURL)
	if err == nil && (base.Host == "" || base.Scheme != "https" && base.Scheme != "http") {
		err = errors.New("not an absolute http or https URL")
	}
	if err != nil {
		return nil, &providers.Hint{
			Err:  fmt.Errorf("digitalocean: base URL of the API: %w", err),
			Next: "set DIGITALOCEAN_API_URL to something like " + DefaultBaseURL + ", or unset it",
		}
	}
	teams := make([]*team, len(p.config.Tokens))
	var wait sync.WaitGroup
	for i, token := range p.config.Tokens {
		wait.Go(func() {
			teams[i] = p.team(ctx, p.client(base, token), fmt.Sprintf("token-%d", i+1))
		})
	}
	wait.Wait()
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("digitalocean: teams of the tokens: %w", err)
	}
	distinct := map[cloud.Scope]bool{}
	for i, t := range teams {
		if distinct[t.scope] {
			p.log.Warn("two tokens belong to one team; the first is used", "team", t.scope.Account, "position", i+1)
			continue
		}
		distinct[t.scope] = true
		p.teams = append(p.teams, t)
	}
	slices.SortFunc(p.teams, func(a, b *team) int { return strings.Compare(a.scope.String(), b.scope.String()) })
	return p.teams, nil
}

// team asks whose the token of c is; fallback names the team if that cannot be learned.
func (p *Provider) team(ctx context.Context, c *client, fallback string) *team {
	t := &team{scope: cloud.Scope{Provider: Name, Account: fallback}, client: c}
	account, response, err := c.api.Account.Get(ctx)
	switch {
	case err != nil:
		t.err = err
		// An API that has no accounts has no other names for its teams.
		if response != nil && response.StatusCode == http.StatusNotFound {
			t.err = nil
		}
		return t
	case account == nil:
		t.err = errors.New("the answer holds no account")
		return t
	}
	for _, id := range []string{teamID(account), account.UUID} {
		if id != "" {
			t.scope.Account = id
			break
		}
	}
	return t
}

// teamID returns the id of the team that an account acts for, or its name where the API gives no id.
func teamID(a *godo.Account) string {
	switch {
	case a.Team == nil:
		return ""
	case a.Team.UUID != "":
		return a.Team.UUID
	}
	return a.Team.Name
}

// Read reads one team.
func (p *Provider) Read(ctx context.Context, scope cloud.Scope) (*cloud.Snapshot, error) {
	teams, err := p.identify(ctx)
	if ctx.Err() != nil {
		return nil, fmt.Errorf("digitalocean %s: %w", scope.Account, ctx.Err())
	}
	if err != nil {
		gap := cloud.Gap{Subject: "account:read", Cause: err.Error()}
		if hint := (*providers.Hint)(nil); errors.As(err, &hint) {
			gap.Hint = hint.Next
		}
		return &cloud.Snapshot{Scope: scope, Gaps: []cloud.Gap{gap}}, nil
	}
	i := slices.IndexFunc(teams, func(t *team) bool { return t.scope == scope })
	if i < 0 {
		return &cloud.Snapshot{Scope: scope, Gaps: []cloud.Gap{{
			Subject: "account:read", Cause: "no token belongs to this team",
			Hint: "add a token of the team to DIGITALOCEAN_TOKEN",
		}}}, nil
	}
	t := teams[i]
	inventory := t.client.inventory(ctx)
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("digitalocean %s: %w", scope.Account, err)
	}
	if t.err != nil {
		inventory.gaps = append(inventory.gaps, t.client.gap("account:read", "/v2/account", t.err))
	}
	return inventory.snapshot(scope), nil
}
