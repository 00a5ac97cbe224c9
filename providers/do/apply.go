package do

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/digitalocean/godo"

	"github.com/cloudaudit/cloudaudit/cloud"
	"github.com/cloudaudit/cloudaudit/providers"
)

var _ providers.Fixer = (*Provider)(nil)

// WritePermissions returns the token scopes that a fix needs besides Permissions.
func WritePermissions() []string {
	return []string{"firewall:create", "firewall:delete", "firewall:update"}
}

// settleTries bounds how often a firewall is read until its change is in force; waits double from a second.
const settleTries = 9

// Apply adds rules to a firewall or takes rules from it, as deltas: a PUT would reset whatever it does not name. It is in
// force when no change is pending.
func (p *Provider) Apply(ctx context.Context, e cloud.Edit) (cloud.Edit, error) {
	done, err := p.apply(ctx, e)
	switch {
	case err == nil:
		return done, nil
	case !errors.Is(err, providers.ErrInexpressible):
		done = cloud.Edit{}
	}
	return done, fmt.Errorf("digitalocean %s: firewall %s: %w", e.List.Scope, e.List.ID, err)
}

func (p *Provider) apply(ctx context.Context, e cloud.Edit) (cloud.Edit, error) {
	scope := scopeOf(e.List)
	teams, err := p.identify(ctx)
	if err != nil {
		return e, err
	}
	i := slices.IndexFunc(teams, func(t *team) bool { return t.scope == scope })
	if i < 0 {
		return e, errors.New("no token belongs to this team")
	}
	c := teams[i].client
	if e.Guard != nil && len(e.Old) == 0 {
		return p.guard(ctx, c, e)
	}
	f, err := c.firewall(ctx, e.List.ID)
	var failed *godo.ErrorResponse
	if errors.As(err, &failed) && failed.Response.StatusCode == http.StatusNotFound {
		return e, fmt.Errorf("it is gone: %w", providers.ErrStale)
	}
	if err != nil {
		return e, c.failure("firewall:read", err)
	}
	list := listOf(scope, f)
	if e.Base != "" && list.Digest() != e.Base {
		return e, providers.ErrStale
	}
	var stored []json.RawMessage
	for i := range e.Old {
		at := list.Find(&e.Old[i])
		if at < 0 {
			return e, fmt.Errorf("rule %s is not there: %w", e.Old[i].Text, providers.ErrStale)
		}
		stored = append(stored, list.Rules[at].Native) // as the API stores it, which is what it compares
	}
	path := "/v2/firewalls/" + url.PathEscape(e.List.ID)
	switch {
	case e.Guard != nil:
		return e, c.send(ctx, "firewall:delete", http.MethodDelete, path, nil)
	case len(e.Old) > 0 && len(e.New) > 0:
		return e, errors.New("rules are either added or removed by one write")
	case len(e.New) > 0:
		if err := c.send(ctx, "firewall:update", http.MethodPost, path+"/rules", map[string]any{"inbound_rules": natives(e.New)}); err != nil {
			return e, err
		}
	default:
		if err := c.send(ctx, "firewall:update", http.MethodDelete, path+"/rules", map[string]any{"inbound_rules": stored}); err != nil {
			return e, err
		}
	}
	if list, err = p.settled(ctx, c, scope, e.List.ID); err != nil {
		return e, err
	}
	for i := range e.Old {
		if list.Find(&e.Old[i]) >= 0 {
			return e, fmt.Errorf("rule %s is still there after it was removed", e.Old[i].Text)
		}
	}
	return kept(list, e)
}

// kept returns e with its new rules as list has them. Where the API ignored that a rule denies, it is an allow, of no more
// than what the rules admit that it was to deny.
func kept(list *cloud.List, e cloud.Edit) (cloud.Edit, error) {
	e.New = slices.Clone(e.New)
	var err error
	for i := range e.New {
		want := e.New[i]
		at := list.Find(&want)
		if at < 0 {
			allow, ok := withoutAction(&want)
			if at = list.Find(&allow); !ok || at < 0 {
				return e, fmt.Errorf("rule %s is not there after it was added", want.Text)
			}
			err = fmt.Errorf("the API does not keep deny rules: %w", providers.ErrInexpressible)
		}
		e.New[i] = list.Rules[at]
	}
	return e, err
}

// guard makes a firewall in front of droplets that have none.
func (p *Provider) guard(ctx context.Context, c *client, e cloud.Edit) (cloud.Edit, error) {
	scope := scopeOf(e.List)
	s, err := p.Read(ctx, scope)
	if err != nil {
		return e, err
	}
	var droplets []int
	for _, ref := range e.Guard.Endpoints {
		i := slices.IndexFunc(s.Endpoints, func(x cloud.Endpoint) bool { return x.Ref == ref })
		if i < 0 || !bare(&s.Endpoints[i], e.Guard.Was.Ref) {
			return e, fmt.Errorf("droplet %s is gone, or behind a firewall now: %w", ref.ID, providers.ErrStale)
		}
		id, err := strconv.Atoi(ref.ID)
		if err != nil {
			return e, err
		}
		droplets = append(droplets, id)
	}
	var outbound []map[string]any
	for _, protocol := range []string{"tcp", "udp", "icmp"} {
		outbound = append(outbound, map[string]any{
			"protocol": protocol, "ports": "0", "destinations": map[string]any{"addresses": []string{"0.0.0.0/0", "::/0"}},
		})
	}
	var made struct {
		Firewall firewall `json:"firewall"`
	}
	request, err := c.api.NewRequest(ctx, http.MethodPost, "/v2/firewalls", map[string]any{
		"name": e.Guard.Name, "inbound_rules": natives(e.New), "outbound_rules": outbound, "droplet_ids": droplets,
	})
	if err != nil {
		return e, err
	}
	if _, err := c.api.Do(ctx, request, &made); err != nil {
		return e, c.failure("firewall:create", err)
	}
	list, err := p.settled(ctx, c, scope, made.Firewall.ID)
	if err != nil {
		return e, err
	}
	e.List = scope.Ref("firewall", made.Firewall.ID)
	return kept(list, e)
}

// bare says whether the only list in front of e is the one that stands for none.
func bare(e *cloud.Endpoint, none cloud.Ref) bool {
	return slices.ContainsFunc(e.Hops[len(e.Hops)-1].Layers, func(l cloud.Layer) bool {
		return len(l.Lists) == 1 && l.Lists[0].Ref == none
	})
}

// firewall reads one firewall.
func (c *client) firewall(ctx context.Context, id string) (*firewall, error) {
	request, err := c.api.NewRequest(ctx, http.MethodGet, "/v2/firewalls/"+url.PathEscape(id), nil)
	if err != nil {
		return nil, err
	}
	var root struct {
		Firewall *firewall `json:"firewall"`
	}
	if _, err := c.api.Do(ctx, request, &root); err != nil {
		return nil, err
	}
	if root.Firewall == nil || root.Firewall.ID != id {
		return nil, errors.New("the answer is not the firewall that was asked for")
	}
	return root.Firewall, nil
}

// settled reads a firewall until its last change is in force.
func (p *Provider) settled(ctx context.Context, c *client, scope cloud.Scope, id string) (*cloud.List, error) {
	for try := range settleTries {
		f, err := c.firewall(ctx, id)
		switch {
		case err != nil:
			return nil, c.failure("firewall:read", err)
		case f.Status == "failed":
			return nil, errors.New("the API says that the change failed")
		case f.Status != "waiting" && len(f.PendingChanges) == 0:
			return listOf(scope, f), nil
		}
		if err := p.sleep(ctx, time.Second<<try); err != nil {
			return nil, err
		}
	}
	return nil, errors.New("the change is written, and still not in force")
}

// listOf returns f as a list.
func listOf(scope cloud.Scope, f *firewall) *cloud.List {
	t := translation{scope: scope}
	return t.firewall(f).whole
}

// natives returns what is written of rules.
func natives(rules []cloud.Rule) []json.RawMessage {
	out := make([]json.RawMessage, len(rules))
	for i := range rules {
		out[i] = rules[i].Native
	}
	return out
}

// withoutAction returns what an API that ignores the action makes of r, which is false if that is r.
func withoutAction(r *cloud.Rule) (cloud.Rule, bool) {
	var n nativeRule
	if json.Unmarshal(r.Native, &n) != nil || n.Action == "" || n.Action == "allow" {
		return *r, false
	}
	n.Action = ""
	text, err := json.Marshal(n)
	return cloud.Rule{Native: text}, err == nil
}

// send sends a request whose answer has no content.
func (c *client) send(ctx context.Context, scope, method, path string, content any) error {
	request, err := c.api.NewRequest(ctx, method, path, content)
	if err != nil {
		return err
	}
	if _, err := c.api.Do(ctx, request, nil); err != nil {
		return c.failure(scope, err)
	}
	return nil
}

// failure describes err without the token, with what to grant if that is what is missing.
func (c *client) failure(scope string, err error) error {
	out := errors.New(c.describe(err))
	var failed *godo.ErrorResponse
	if errors.As(err, &failed) && failed.Response.StatusCode == http.StatusForbidden {
		return &providers.Hint{Err: out, Next: "give the token the scope " + scope}
	}
	return out
}
