// Package do is an emulated DigitalOcean API v2: an http.Handler that godo reads, answering from a scene of plain values.
// Whatever a token's scopes do not cover is refused or left out of the answer exactly as the public API documents it, and
// no answer depends on who asks beyond that token.
package do

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/cloudaudit/cloudaudit/internal/emulate"
)

var _ emulate.Cloud = (*World)(nil)

// The limits that the API documents for each token.
const (
	limitPerHour   = 5000
	limitPerMinute = 250
)

// The sizes of a page that the API documents.
const (
	defaultPerPage = 20
	maxPerPage     = 200
)

// World is one emulated DigitalOcean. It is safe for concurrent use; its fields are set before the first request.
type World struct {
	Teams []*Team

	PageSize   int              // when positive, no page holds more entries than this
	Endless    bool             // every page promises a further one; past the end come copies of the last page
	RetryAfter int              // seconds that a throttled caller is told to wait; 1 when zero
	Now        func() time.Time // the clock behind the rate limits; nil means that they only count and never refuse

	OldAPI bool // from before deny rules: the action of a rule is ignored, so that a deny becomes an allow
	Settle int  // for how many readings of a firewall by its id a change of rules is waiting to come into force

	mu      sync.Mutex
	calls   map[string][]time.Time // by token: when it called, within the last hour where there is a clock
	writes  int                    // how many changes were made
	pending int                    // readings until the last change is in force
}

// Team is an account with its own resources. Its tokens see all of it, as far as their scopes go.
type Team struct {
	Name   string
	UUID   string
	Tokens []Token
	Scene  Scene
}

// Token is a bearer token. No scopes mean full access; otherwise it may do what is listed, such as "droplet:read".
type Token struct {
	Value  string
	Scopes []string
}

// Single returns a world with one team, one token of full access, and scene.
func Single(token string, scene Scene) *World {
	return &World{Teams: []*Team{{
		Name: "Single Team", UUID: "5df3e3004a17e242b7c20ca6c9fc25b701a47ece",
		Tokens: []Token{{Value: token}}, Scene: scene,
	}}}
}

// may reports whether the token has scope.
func (t Token) may(scope string) bool {
	return len(t.Scopes) == 0 || slices.Contains(t.Scopes, scope)
}

// route is one path of the API.
type route struct {
	scope  string // what a token must have to read it
	path   string // as the API's description writes it
	id     string // the last segment, where the path has a parameter
	plural string // the name of the list in an answer; empty where the path leads to one object
	rules  bool   // the rules of the object, to add to or to take from
}

// find returns the route that r asks for, under whatever prefix the API is served.
func find(r *http.Request) (route, bool) {
	_, after, ok := strings.Cut(r.URL.Path, "/v2/")
	if !ok {
		return route{}, false
	}
	name, id, one := strings.Cut(strings.TrimSuffix(after, "/"), "/")
	var rt route
	switch name {
	case "account":
		return route{scope: "account:read", path: "/v2/account"}, !one
	case "droplets":
		rt = route{scope: "droplet:read", path: "/v2/droplets", plural: "droplets"}
	case "firewalls":
		rt = route{scope: "firewall:read", path: "/v2/firewalls", plural: "firewalls"}
	case "load_balancers":
		rt = route{scope: "load_balancer:read", path: "/v2/load_balancers", plural: "load_balancers"}
	case "reserved_ips":
		rt = route{scope: "reserved_ip:read", path: "/v2/reserved_ips", plural: "reserved_ips"}
	case "reserved_ipv6":
		rt = route{scope: "reserved_ip:read", path: "/v2/reserved_ipv6", plural: "reserved_ipv6s"}
	case "vpcs":
		rt = route{scope: "vpc:read", path: "/v2/vpcs", plural: "vpcs"}
	default:
		return route{}, false
	}
	if one {
		id, rest, below := strings.Cut(id, "/")
		rt.id, rt.plural = id, ""
		rt.path += "/{" + strings.TrimSuffix(name, "s") + "_id}"
		if below {
			rt.path, rt.rules = rt.path+"/"+rest, true
			return rt, name == "firewalls" && id != "" && rest == "rules"
		}
		return rt, name == "firewalls" && id != ""
	}
	return rt, true
}

// Operation names what r asks for, such as "firewall:read /v2/firewalls": the token scope and the path.
func (w *World) Operation(r *http.Request) string {
	rt, ok := find(r)
	if !ok {
		return r.Method + " " + r.URL.Path
	}
	if r.Method != http.MethodGet {
		return r.Method + " " + rt.path
	}
	return rt.scope + " " + rt.path
}

// Refuse answers as the API does for a token without the scope.
func (w *World) Refuse(rw http.ResponseWriter, _ *http.Request) {
	fail(rw, http.StatusForbidden, "forbidden", "You do not have permission to perform this operation")
}

// Throttle answers as the API does when the token has used up its requests.
func (w *World) Throttle(rw http.ResponseWriter, _ *http.Request) {
	wait := w.RetryAfter
	if wait == 0 {
		wait = 1
	}
	rw.Header().Set("Retry-After", strconv.Itoa(wait))
	rw.Header().Set("RateLimit-Limit", strconv.Itoa(limitPerHour))
	rw.Header().Set("RateLimit-Remaining", "0")
	rw.Header().Set("RateLimit-Reset", strconv.FormatInt(w.time().Unix()+int64(wait), 10))
	fail(rw, http.StatusTooManyRequests, "too_many_requests", "API rate limit exceeded.")
}

// time is the world's clock, or a fixed moment without one, so that answers are the same each time.
func (w *World) time() time.Time {
	if w.Now != nil {
		return w.Now()
	}
	return time.Unix(1_790_000_000, 0)
}

// ServeHTTP answers one request of the API.
func (w *World) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	team, token, ok := w.caller(r)
	if !ok {
		fail(rw, http.StatusUnauthorized, "unauthorized", "Unable to authenticate you")
		return
	}
	if !w.count(rw, token) {
		w.Throttle(rw, r)
		return
	}
	rt, ok := find(r)
	if !ok {
		fail(rw, http.StatusNotFound, "not_found", "The resource you were accessing could not be found.")
		return
	}
	if r.Method != http.MethodGet || rt.rules {
		if !writable(r.Method, rt) {
			rw.Header().Set("Allow", http.MethodGet)
			fail(rw, http.StatusMethodNotAllowed, "method_not_allowed", "This emulated API changes firewalls only, and only by deltas.")
			return
		}
		w.mu.Lock()
		defer w.mu.Unlock()
		w.write(rw, r, team, token, rt)
		return
	}
	if !token.may(rt.scope) {
		w.Refuse(rw, r)
		return
	}

	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case rt.path == "/v2/account":
		answer(rw, map[string]any{"account": account(team, token)})
	case rt.id != "":
		for i := range team.Scene.Firewalls {
			if f := &team.Scene.Firewalls[i]; f.ID == rt.id {
				shown := w.waiting(*f)
				answer(rw, map[string]any{"firewall": firewall(&shown, token)})
				w.pending = max(w.pending-1, 0)
				return
			}
		}
		fail(rw, http.StatusNotFound, "not_found", "The resource you were accessing could not be found.")
	default:
		w.list(rw, r, rt, entries(team, token, rt.plural))
	}
}

// writable says whether the emulated API takes method at rt: it makes and deletes firewalls, and adds and removes rules.
func writable(method string, rt route) bool {
	switch {
	case rt.rules:
		return method == http.MethodPost || method == http.MethodDelete
	case rt.scope != "firewall:read":
		return false
	case rt.id == "":
		return method == http.MethodPost
	}
	return method == http.MethodDelete
}

// waiting returns f as it is shown while its last change is not in force yet.
func (w *World) waiting(f Firewall) Firewall {
	if w.pending > 0 && len(f.DropletIDs) > 0 {
		f.Status = "waiting"
		f.PendingChanges = append(slices.Clone(f.PendingChanges), PendingChange{DropletID: f.DropletIDs[0], Status: "waiting"})
	}
	return f
}

// caller returns the team and token that r presents.
func (w *World) caller(r *http.Request) (*Team, Token, bool) {
	value, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if !ok {
		return nil, Token{}, false
	}
	for _, team := range w.Teams {
		for _, token := range team.Tokens {
			if token.Value == value {
				return team, token, true
			}
		}
	}
	return nil, Token{}, false
}

// count enters the request into the token's hour, says in the headers what is left, and reports whether there was any.
func (w *World) count(rw http.ResponseWriter, token Token) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := w.time()
	if w.calls == nil {
		w.calls = map[string][]time.Time{}
	}
	calls, hour, minute := w.calls[token.Value], 0, 0
	if w.Now != nil {
		calls = slices.DeleteFunc(calls, func(t time.Time) bool { return !t.After(now.Add(-time.Hour)) })
		hour = len(calls)
		for _, t := range calls {
			if t.After(now.Add(-time.Minute)) {
				minute++
			}
		}
	}
	if hour >= limitPerHour || minute >= limitPerMinute {
		w.calls[token.Value] = calls
		return false
	}
	calls = append(calls, now)
	w.calls[token.Value] = calls
	rw.Header().Set("RateLimit-Limit", strconv.Itoa(limitPerHour))
	rw.Header().Set("RateLimit-Remaining", strconv.Itoa(max(limitPerHour-len(calls), 0)))
	rw.Header().Set("RateLimit-Reset", strconv.FormatInt(calls[0].Add(time.Hour).Unix(), 10))
	return true
}

// list answers one page of all.
func (w *World) list(rw http.ResponseWriter, r *http.Request, rt route, all []any) {
	page, ok := number(r.URL.Query(), "page", 1, 0)
	perPage, ok2 := number(r.URL.Query(), "per_page", defaultPerPage, maxPerPage)
	if !ok || !ok2 {
		fail(rw, http.StatusBadRequest, "bad_request", fmt.Sprintf("page must be at least 1, per_page between 1 and %d", maxPerPage))
		return
	}
	size := perPage
	if w.PageSize > 0 {
		size = min(size, w.PageSize)
	}
	last := max((len(all)+size-1)/size, 1)
	shown := page
	if w.Endless {
		shown = min(page, last)
	}
	from := min((shown-1)*size, len(all))
	link := func(n int) string {
		u := url.URL{Scheme: "http", Host: r.Host, Path: r.URL.Path}
		if r.TLS != nil {
			u.Scheme = "https"
		}
		u.RawQuery = url.Values{"page": {strconv.Itoa(n)}, "per_page": {strconv.Itoa(perPage)}}.Encode()
		return u.String()
	}
	links := map[string]any{}
	pages := map[string]string{}
	if page > 1 {
		pages["first"], pages["prev"] = link(1), link(page-1)
	}
	if page < last || w.Endless {
		pages["next"], pages["last"] = link(page+1), link(max(last, page+1))
	}
	if len(pages) > 0 {
		links["pages"] = pages
	}
	answer(rw, map[string]any{
		rt.plural: append([]any{}, all[from:min(from+size, len(all))]...),
		"links":   links,
		"meta":    map[string]int{"total": len(all)},
	})
}

// number reads a positive query parameter; most is its upper bound, or 0 for none.
func number(q url.Values, name string, fallback, most int) (int, bool) {
	s := q.Get(name)
	if s == "" {
		return fallback, true
	}
	n, err := strconv.Atoi(s)
	return n, err == nil && n >= 1 && (most == 0 || n <= most)
}

func answer(rw http.ResponseWriter, v any) {
	rw.Header().Set("Content-Type", "application/json; charset=utf-8")
	enc := json.NewEncoder(rw)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(v) // fails only when the client is gone
}

func fail(rw http.ResponseWriter, status int, id, message string) {
	rw.Header().Set("Content-Type", "application/json; charset=utf-8")
	rw.WriteHeader(status)
	_ = json.NewEncoder(rw).Encode(map[string]string{
		"id": id, "message": message, "request_id": "4d9d8375-3c56-4925-a3e7-eb137fed17e9",
	})
}
