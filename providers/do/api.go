package do

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode"

	"github.com/digitalocean/godo"

	"github.com/cloudaudit/cloudaudit/cloud"
)

const (
	// perMinute is what the API allows each token: 250 requests a minute
	// (https://docs.digitalocean.com/reference/api/reference/, "Rate Limit").
	perMinute = 250
	// throttledTries bounds how often one request is sent while the API answers that it comes too often, brokenTries while
	// it answers with a fault of its own, or not at all.
	throttledTries = 16
	brokenTries    = 4
	// longestWait is how long a scan waits because the API says so. The hourly limit may ask for more: then the scope is
	// incomplete, which is better than an hour of silence.
	longestWait = 5 * time.Minute
)

// client is the API as one token sees it.
type client struct {
	api   *godo.Client
	token string
	limit int // pages of one list that are read at most
}

func (p *Provider) client(base *url.URL, token string) *client {
	c := godo.NewClient(&http.Client{
		Transport: &transport{provider: p, prefix: strings.TrimSuffix(base.Path, "/"), token: token, window: window{size: perMinute}},
		// A redirect would carry the token to wherever the answer says.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	})
	c.BaseURL = &url.URL{Scheme: base.Scheme, User: base.User, Host: base.Host, Path: "/"}
	c.UserAgent = "cloudaudit " + c.UserAgent
	return &client{api: c, token: token, limit: maxPages}
}

// transport sends the requests of one token: under the path that the API stands under, no more than the API and the
// provider allow at once, and again after the API asked to wait. godo's own retries are not used because they put another
// HTTP client in the place of the one that all teams share.
type transport struct {
	provider *Provider
	prefix   string
	token    string
	window   window
}

// RoundTrip sends r until it gets an answer worth having.
func (t *transport) RoundTrip(r *http.Request) (*http.Response, error) {
	ctx := r.Context()
	send := r.Clone(ctx)
	send.URL.Path = t.prefix + r.URL.Path
	send.Header.Set("Authorization", "Bearer "+t.token)
	for try := 1; ; try++ {
		response, err := t.once(ctx, send)
		if ctx.Err() != nil {
			if err == nil {
				response.Body.Close()
			}
			return nil, ctx.Err()
		}
		wait, again := pause(response, err, try, t.provider.now())
		if !again || r.Method != http.MethodGet {
			return response, err
		}
		cause := ""
		if err != nil {
			cause = redact(err.Error(), t.token)
		} else {
			cause = response.Status
			_, _ = io.Copy(io.Discard, io.LimitReader(response.Body, 1<<16)) // so that the connection can be used again
			response.Body.Close()
		}
		t.provider.log.Debug("asking again", "path", send.URL.Path, "try", try, "wait", wait, "cause", cause)
		if err := t.provider.sleep(ctx, wait); err != nil {
			return nil, err
		}
	}
}

// once sends r when the token's rate and the provider's concurrency allow it. The place in the queue is held until the
// body of the answer is closed.
func (t *transport) once(ctx context.Context, r *http.Request) (*http.Response, error) {
	for {
		wait := t.window.reserve(t.provider.now())
		if wait <= 0 {
			break
		}
		if err := t.provider.sleep(ctx, wait); err != nil {
			return nil, err
		}
	}
	select {
	case t.provider.slots <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	release := sync.OnceFunc(func() { <-t.provider.slots })
	response, err := t.provider.config.Transport.RoundTrip(r)
	if err != nil {
		release()
		return nil, err
	}
	response.Body = &body{response.Body, release}
	t.provider.log.Debug("answer", "path", r.URL.Path, "query", r.URL.RawQuery, "status", response.StatusCode)
	return response, nil
}

// body gives a place in the queue back when it is closed.
type body struct {
	io.ReadCloser
	release func()
}

func (b *body) Close() error {
	defer b.release()
	return b.ReadCloser.Close()
}

// pause says whether to send a request again after its nth try, and how long to wait before.
func pause(response *http.Response, err error, try int, now time.Time) (time.Duration, bool) {
	backoff := min(500*time.Millisecond<<min(try-1, 6), 30*time.Second)
	switch {
	case err != nil:
		return backoff, try < brokenTries
	case response.StatusCode == http.StatusTooManyRequests:
		wait, asked := retryAfter(response.Header, now)
		if !asked {
			wait = backoff
		}
		return wait, try < throttledTries && wait <= longestWait
	case response.StatusCode >= 500 && response.StatusCode != http.StatusNotImplemented:
		if wait, asked := retryAfter(response.Header, now); asked && wait <= longestWait {
			backoff = wait
		}
		return backoff, try < brokenTries
	}
	return 0, false
}

// retryAfter returns how long the server asks to wait, in either form of the header (RFC 9110, section 10.2.3).
func retryAfter(h http.Header, now time.Time) (time.Duration, bool) {
	value := h.Get("Retry-After")
	if seconds, err := strconv.Atoi(value); err == nil {
		return time.Duration(max(seconds, 0)) * time.Second, true
	}
	if at, err := http.ParseTime(value); err == nil {
		return max(at.Sub(now), 0), true
	}
	return 0, false
}

// window admits size requests in any minute.
type window struct {
	size int

	mu   sync.Mutex
	sent []time.Time // the last size requests, oldest first
}

// reserve enters a request and returns 0, or returns how long to wait before asking again.
func (w *window) reserve(now time.Time) time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.sent) >= w.size {
		if wait := w.sent[0].Add(time.Minute).Sub(now); wait > 0 {
			return wait
		}
		w.sent = w.sent[1:]
	}
	w.sent = append(w.sent, now)
	return 0
}

// gap tells that what scope grants could not be read.
func (c *client) gap(scope, path string, err error) cloud.Gap {
	g := cloud.Gap{Subject: scope, Cause: "GET " + path + ": " + c.describe(err)}
	var failed *godo.ErrorResponse
	switch {
	case !errors.As(err, &failed):
		g.Hint = "check that the API can be reached, and scan again"
	case failed.Response.StatusCode == http.StatusUnauthorized:
		g.Hint = "the API does not accept the token: make a new one under API, Tokens in the control panel, and set DIGITALOCEAN_TOKEN"
	case failed.Response.StatusCode == http.StatusForbidden:
		g.Hint = "give the token the scope " + scope
	case failed.Response.StatusCode == http.StatusTooManyRequests:
		g.Hint = "the token has used up its requests: scan again later, or with a token of its own"
	default:
		g.Hint = "scan again; if it stays, see https://status.digitalocean.com"
	}
	return g
}

// describe returns what went wrong in one line, without the token, whatever the server sent.
func (c *client) describe(err error) string {
	text := err.Error()
	var failed *godo.ErrorResponse
	if errors.As(err, &failed) {
		message := failed.Message
		if kind := failed.Response.Header.Get("Content-Type"); message != "" && strings.HasPrefix(kind, "text/html") {
			message = "an HTML page, which is not what the API answers"
		}
		text = fmt.Sprintf("%d %s", failed.Response.StatusCode, http.StatusText(failed.Response.StatusCode))
		if message != "" {
			text += ": " + message
		}
		if failed.RequestID != "" {
			text += " (request " + failed.RequestID + ")"
		}
	}
	return oneLine(redact(text, c.token))
}

// redact takes token out of text, which a server or a proxy may have put there.
func redact(text, token string) string {
	if token == "" {
		return text
	}
	return strings.ReplaceAll(text, token, "[token]")
}

// oneLine makes text fit for a report: no control characters, and not longer than a reader wants.
func oneLine(text string) string {
	text = strings.Join(strings.Fields(strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, text)), " ")
	const most = 300
	if runes := []rune(text); len(runes) > most {
		return string(runes[:most]) + "…"
	}
	return text
}
