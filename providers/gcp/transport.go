package gcp

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/cloudaudit/cloudaudit/providers"
)

// patience bounds how long a call is tried: so many attempts in all, with waits that begin at first, grow by half and
// end at most.
type patience struct {
	first, most time.Duration
	throttled   int // attempts when Google says that it is asked too often
	broken      int // attempts when it, or the way to it, is broken
}

// transport sends every request of the provider. It holds the number of requests in flight below a bound, asks again what
// Google was too busy to answer, and asks lists for what they have even where a zone is down.
//
// The client libraries know neither of the last two: they do not send returnPartialSuccess, and take a throttled request,
// which Compute Engine answers with status 403 and reason rateLimitExceeded
// (https://cloud.google.com/compute/docs/api/best-practices#exponential-backoff), for a refused one.
type transport struct {
	base     http.RoundTripper
	inFlight chan struct{}
	patience patience
	log      hclog.Logger
}

// RoundTrip sends r, and again as long as it makes sense. The body of an answer that is an error is already read.
func (t *transport) RoundTrip(r *http.Request) (*http.Response, error) {
	ctx := r.Context()
	r = r.Clone(ctx)
	if r.Method == http.MethodGet && strings.Contains(r.URL.Path, "/aggregated/") {
		q := r.URL.Query()
		q.Set("returnPartialSuccess", "true")
		r.URL.RawQuery = q.Encode()
	}
	var body []byte
	if r.Body != nil {
		var err error
		body, err = io.ReadAll(r.Body)
		_ = r.Body.Close()
		if err != nil {
			return nil, err
		}
	}
	wait := t.patience.first
	for attempt := 1; ; attempt++ {
		if body != nil {
			r.Body = io.NopCloser(bytes.NewReader(body))
		}
		resp, err := t.once(r)
		limit, why := t.judge(r, resp, err)
		if attempt >= limit {
			return resp, err
		}
		pause := time.Duration(float64(wait) * (0.5 + rand.Float64()/2)) // not all callers at once
		if resp != nil {
			pause = max(pause, retryAfter(resp, t.patience.most))
			_ = resp.Body.Close()
		}
		t.log.Debug("asking again", "path", r.URL.Path, "because", why, "attempt", attempt, "wait", pause)
		if err := providers.Sleep(ctx, pause); err != nil {
			return nil, err
		}
		wait = min(wait*3/2, t.patience.most)
	}
}

// judge returns how many attempts an outcome is worth, and why. A write, which has a requestId, is sent again only if it was
// certainly not carried out: whether one was whose answer got lost is found out by reading.
func (t *transport) judge(r *http.Request, resp *http.Response, err error) (attempts int, why string) {
	write := r.URL.Query().Has("requestId")
	switch {
	case r.Context().Err() != nil:
		return 0, ""
	case write && (err != nil || resp.StatusCode >= 500):
		return 0, ""
	case err != nil:
		return t.patience.broken, err.Error()
	case resp.StatusCode == http.StatusTooManyRequests:
		return t.patience.throttled, "too many requests"
	case resp.StatusCode == http.StatusForbidden && throttled(resp):
		return t.patience.throttled, "rate limit exceeded"
	case resp.StatusCode >= 500 && resp.StatusCode != http.StatusNotImplemented:
		return t.patience.broken, resp.Status
	}
	return 0, ""
}

// throttled says whether an answer with status 403 means that the caller asked too often.
func throttled(resp *http.Response) bool {
	data, err := io.ReadAll(resp.Body)
	resp.Body = io.NopCloser(bytes.NewReader(data))
	var doc struct {
		Error struct {
			Errors []struct{ Reason string }
		}
	}
	if err != nil || json.Unmarshal(data, &doc) != nil {
		return false
	}
	for _, e := range doc.Error.Errors {
		if e.Reason == "rateLimitExceeded" || e.Reason == "userRateLimitExceeded" {
			return true
		}
	}
	return false
}

// retryAfter returns the wait that an answer asks for, up to most.
func retryAfter(resp *http.Response, most time.Duration) time.Duration {
	seconds, err := strconv.Atoi(resp.Header.Get("Retry-After"))
	if err != nil || seconds < 0 {
		return 0
	}
	return min(time.Duration(seconds)*time.Second, most)
}

// once sends r when there is room, and holds the place until the answer is read.
func (t *transport) once(r *http.Request) (*http.Response, error) {
	select {
	case t.inFlight <- struct{}{}:
	case <-r.Context().Done():
		return nil, r.Context().Err()
	}
	release := sync.OnceFunc(func() { <-t.inFlight })
	resp, err := t.base.RoundTrip(r)
	if err != nil {
		release()
		return nil, err
	}
	resp.Body = &held{ReadCloser: resp.Body, release: release}
	if resp.StatusCode < 400 {
		return resp, nil
	}
	// Errors are small and looked at more than once. A page of HTML is no explanation: its title is.
	data, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	_ = resp.Body.Close()
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	if strings.HasPrefix(resp.Header.Get("Content-Type"), "text/html") {
		message, err := json.Marshal(map[string]any{"error": map[string]any{
			"code": resp.StatusCode, "message": fmt.Sprintf("%s answered %s with a page of HTML", r.URL.Host, resp.Status),
		}})
		if err != nil {
			return nil, err
		}
		data = message
	}
	resp.Body = io.NopCloser(bytes.NewReader(data))
	return resp, nil
}

// held gives its place back when the answer is closed.
type held struct {
	io.ReadCloser
	release func()
}

// Close closes the answer.
func (h *held) Close() error {
	defer h.release()
	return h.ReadCloser.Close()
}
