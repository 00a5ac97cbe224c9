// Package providers is the contract between cloudaudit and a cloud: a Provider lists what can be read and reads one scope
// at a time into a cloud.Snapshot. A Provider never judges, and never turns what it could not read into silence.
package providers

import (
	"context"
	"errors"
	"time"

	"github.com/cloudaudit/cloudaudit/cloud"
)

// Provider reads one cloud. The suite in providertest is the executable form of this comment; every provider passes it.
//
// A Provider is safe for concurrent use. Making one does no I/O, so that a missing credential is reported by Scopes, with
// the scope it concerns, and not by a constructor.
type Provider interface {
	// Scopes lists what can be read with the credentials at hand, sorted and without duplicates. A scope that is known to
	// exist and cannot be entered is listed all the same: reading it gives a gap. An error means that not even the list
	// could be had; it wraps ErrNotConfigured where credentials are missing altogether, or the name of what to read.
	Scopes(ctx context.Context) ([]cloud.Scope, error)

	// Read reads one scope that Scopes listed.
	//
	// What could not be read is a Gap of the snapshot, with the permission to grant as its subject, and what hangs on it
	// is left in doubt (Rule.Maybe), so that its verdict is unknown and never blocked. The error is not nil only if ctx
	// ended, and then the snapshot is nil.
	//
	// Reading an unchanged cloud twice gives equal snapshots, however the cloud pages and orders its answers.
	Read(ctx context.Context, scope cloud.Scope) (*cloud.Snapshot, error)
}

// NoProbeTag is the tag that keeps the probe away from a resource: a tag key in AWS, a tag in DigitalOcean. NoProbeLabel is
// its form in Google Cloud, whose labels hold lower case letters, digits, dashes and underscores only
// (https://cloud.google.com/resource-manager/docs/labels-overview#requirements).
const (
	NoProbeTag   = "cloudaudit:no-probe"
	NoProbeLabel = "cloudaudit-no-probe"
)

// ErrNotConfigured is wrapped by errors that say that a provider has no credentials, or was not told what to read: nothing
// was asked of the cloud, and nothing will be until the user has done what the hint says.
var ErrNotConfigured = errors.New("not configured")

// Sleep waits for d. It returns the error of ctx if that ends first.
func Sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Hint is an error that also says what the user can do about it. Its message is the cause alone; whoever prints errors
// asks for the hint with errors.As.
type Hint struct {
	Err  error
	Next string // one sentence, such as "set DIGITALOCEAN_TOKEN to a token with the scopes of `cloudaudit providers do`"
}

// Error returns the cause.
func (h *Hint) Error() string { return h.Err.Error() }

// Unwrap returns the cause.
func (h *Hint) Unwrap() error { return h.Err }
