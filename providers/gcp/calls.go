package gcp

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"cloud.google.com/go/compute/apiv1/computepb"
	"github.com/googleapis/gax-go/v2"
	"google.golang.org/api/googleapi"
	"google.golang.org/api/iterator"

	"github.com/cloudaudit/cloudaudit/cloud"
)

// pageSize is the most that Compute Engine puts on a page of a list.
const pageSize uint32 = 500

// once keeps the client libraries from asking again without bound: the transport does that, within one.
var once = gax.WithRetry(func() gax.Retryer { return nil })

// each takes every element of a list.
func each[T any](next func() (T, error), take func(T)) error {
	for {
		v, err := next()
		if errors.Is(err, iterator.Done) {
			return nil
		}
		if err != nil {
			return err
		}
		take(v)
	}
}

// unreached is a zone or region that an aggregated list could not include.
type unreached struct{ scope, why string }

// aggregated takes every scope of an aggregated list, page by page, and returns those that could not be reached. The
// messages of a page are garbage once they are taken.
func aggregated[P any](next func() (P, error), response func() any, take func(P) (string, *computepb.Warning)) ([]unreached, error) {
	missing := map[string]string{}
	var last any
	look := func() {
		r := response()
		if r == nil || r == last {
			return
		}
		last = r
		if page, ok := r.(interface{ GetUnreachables() []string }); ok {
			for _, s := range page.GetUnreachables() {
				if missing[s] == "" {
					missing[s] = "unreachable"
				}
			}
		}
		if page, ok := r.(interface{ GetWarning() *computepb.Warning }); ok {
			if w := page.GetWarning(); matters(w) {
				missing["the list"] = w.GetCode() + ": " + w.GetMessage()
			}
		}
	}
	err := each(next, func(p P) {
		look()
		if scope, w := take(p); matters(w) {
			missing[scope] = w.GetCode() + ": " + w.GetMessage()
		}
	})
	if err != nil {
		return nil, err
	}
	look()
	var out []unreached
	for scope, why := range missing {
		out = append(out, unreached{scope, why})
	}
	slices.SortFunc(out, func(a, b unreached) int { return strings.Compare(a.scope, b.scope) })
	return out, nil
}

// matters says whether a warning means that something is missing. Every scope without results carries one that does not
// (https://cloud.google.com/compute/docs/reference/rest/v1/instances/aggregatedList).
func matters(w *computepb.Warning) bool {
	return w != nil && w.GetCode() != "NO_RESULTS_ON_PAGE"
}

// apiError returns Google's own error in err, if there is one.
func apiError(err error) (*googleapi.Error, bool) {
	var e *googleapi.Error
	return e, errors.As(err, &e)
}

// switchedOff says whether err means that the API was never enabled in the project.
func switchedOff(err error) bool {
	e, ok := apiError(err)
	if !ok || e.Code != http.StatusForbidden {
		return false
	}
	for _, item := range e.Errors {
		if item.Reason == "accessNotConfigured" {
			return true
		}
	}
	return strings.Contains(e.Body, "SERVICE_DISABLED")
}

// badMask says whether err means that the service does not take the field mask.
func badMask(err error) bool {
	e, ok := apiError(err)
	return ok && e.Code == http.StatusBadRequest
}

// cause returns why a call failed, in one line and without what the client library wraps around it.
func cause(err error) string {
	e, ok := apiError(err)
	if !ok {
		return err.Error()
	}
	message := e.Message
	if message == "" {
		message = http.StatusText(e.Code)
	}
	if i := strings.IndexByte(message, '\n'); i >= 0 {
		message = message[:i]
	}
	return fmt.Sprintf("%d: %s", e.Code, message)
}

// gap returns what to report for a call that failed: the permission, what Google said, and what to do.
func gap(permission, resource string, err error) cloud.Gap {
	g := cloud.Gap{Subject: permission, Cause: resource + ": " + cause(err)}
	e, ok := apiError(err)
	switch {
	case !ok:
		g.Hint = "check the way to Google Cloud, and read again"
	case switchedOff(err):
		g.Hint = "enable the API in " + resource + ", or leave it out if it is not used"
	case e.Code == http.StatusUnauthorized:
		g.Hint = "the token is not valid, or no longer: get a new one"
	case e.Code == http.StatusForbidden && throttledError(e):
		g.Hint = "the quota for read requests is used up: read again later, or with a lower --concurrency"
	case e.Code == http.StatusForbidden || e.Code == http.StatusNotFound:
		g.Hint = "grant " + permission + " on " + resource + " (deploy/iam/gcp-read-role.yaml has every permission that is needed)"
	case e.Code == http.StatusTooManyRequests:
		g.Hint = "the quota for read requests is used up: read again later, or with a lower --concurrency"
	default:
		g.Hint = "read again; if it stays, look at https://status.cloud.google.com"
	}
	return g
}

func throttledError(e *googleapi.Error) bool {
	return slices.ContainsFunc(e.Errors, func(i googleapi.ErrorItem) bool {
		return i.Reason == "rateLimitExceeded" || i.Reason == "userRateLimitExceeded"
	})
}
