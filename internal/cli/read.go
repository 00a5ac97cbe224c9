package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"

	"github.com/hashicorp/go-hclog"
	"golang.org/x/sync/errgroup"

	"github.com/cloudaudit/cloudaudit/cloud"
	"github.com/cloudaudit/cloudaudit/providers"
)

// source is a provider and the name that it was asked for by.
type source struct {
	name     string
	provider providers.Provider
}

// listing is what a source answered to the question what can be read.
type listing struct {
	source
	scopes []cloud.Scope
	err    error
}

// list asks all sources for their scopes, side by side.
func list(ctx context.Context, sources []source) []listing {
	out := make([]listing, len(sources))
	var group errgroup.Group
	for i, src := range sources {
		group.Go(func() error {
			scopes, err := src.provider.Scopes(ctx)
			out[i] = listing{src, scopes, err}
			return nil
		})
	}
	_ = group.Wait() // no function of the group returns an error
	return out
}

// readAll reads every scope of every listing, several at a time, and returns one snapshot for each. It never fails as a
// whole: what could not be read, because of an error or because ctx ended, is a snapshot with nothing but a gap.
func readAll(ctx context.Context, listings []listing, concurrency int, p *progress, log hclog.Logger) []*cloud.Snapshot {
	var mu sync.Mutex
	var snapshots []*cloud.Snapshot
	add := func(s *cloud.Snapshot) {
		for _, g := range s.Gaps {
			log.Info("could not be read", "scope", s.Scope.String(), "subject", hclog.Quote(g.Subject), "cause", hclog.Quote(g.Cause))
		}
		mu.Lock()
		defer mu.Unlock()
		snapshots = append(snapshots, s)
	}
	for _, l := range listings {
		p.expect(len(l.scopes))
	}
	var reading errgroup.Group
	reading.SetLimit(max(1, concurrency))
	for _, l := range listings {
		if l.err != nil {
			add(unread(cloud.Scope{Provider: l.name, Account: "unknown"}, l.err))
			continue
		}
		for _, scope := range l.scopes {
			reading.Go(func() error {
				p.begin(scope.String())
				defer p.done(scope.String())
				s, err := l.provider.Read(ctx, scope)
				if err != nil {
					s = unread(scope, err)
				}
				add(s)
				return nil
			})
		}
	}
	_ = reading.Wait() // no function of the group returns an error
	return snapshots
}

// unread is the snapshot of a scope of which nothing could be read.
func unread(scope cloud.Scope, err error) *cloud.Snapshot {
	gap := cloud.Gap{Subject: "scope", Cause: err.Error()}
	skipped := true
	switch {
	case errors.Is(err, context.Canceled):
		gap.Cause, gap.Hint = "the run was interrupted before this was read", "run it again"
	case errors.Is(err, context.DeadlineExceeded):
		gap.Cause, gap.Hint = "the time given by --timeout was up before this was read", "give a longer --timeout"
	default:
		skipped = false
		if hint, ok := errors.AsType[*providers.Hint](err); ok {
			gap.Hint = hint.Next
		}
	}
	return &cloud.Snapshot{Scope: scope, Gaps: []cloud.Gap{gap}, Skipped: skipped}
}

// readFiles reads what `cloudaudit snapshot` wrote.
func readFiles(paths []string) ([]*cloud.Snapshot, error) {
	var out []*cloud.Snapshot
	seen := map[cloud.Scope]string{}
	for _, path := range paths {
		f, err := os.Open(path)
		if err != nil {
			return nil, &providers.Hint{Err: err, Next: "write one with `cloudaudit snapshot --output " + path + "`"}
		}
		snapshots, err := cloud.ReadSnapshots(f)
		if err = errors.Join(err, f.Close()); err != nil {
			return nil, &providers.Hint{
				Err: fmt.Errorf("%s: %w", path, err), Next: "a snapshot is what `cloudaudit snapshot` writes, not a report",
			}
		}
		for _, s := range snapshots {
			if first, twice := seen[s.Scope]; twice {
				return nil, fmt.Errorf("%s: scope %s is in %s already", path, s.Scope, first)
			}
			seen[s.Scope] = path
		}
		out = append(out, snapshots...)
	}
	return out, nil
}

// sourcesOf returns what the flags ask to read, and no sources if that is files. Ports are what will be asked about; nil
// means any.
func sourcesOf(sys System, in *sourceFlags, ports []uint16, m *manners, log hclog.Logger) ([]source, error) {
	if len(in.snapshots) > 0 {
		return nil, nil
	}
	return choose(in, ports, sys, m, log)
}

// gather reads the files that the flags name, or else the sources.
func gather(ctx context.Context, sys System, in *sourceFlags, m *manners, log hclog.Logger, sources []source) ([]*cloud.Snapshot, error) {
	if len(in.snapshots) > 0 {
		snapshots, err := readFiles(in.snapshots)
		return slices.DeleteFunc(snapshots, func(s *cloud.Snapshot) bool { return !in.shard.Has(s.Scope) }), err
	}
	if in.timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, in.timeout)
		defer cancel()
	}
	p, err := newProgress(m.progress, sys)
	if err != nil {
		return nil, err
	}
	defer p.end()
	listings := list(ctx, sources)
	for _, l := range listings {
		// A cloud that the user named and that cannot be asked at all is a mistake to mend before the others are read.
		if slices.Contains(in.providers, l.name) && errors.Is(l.err, providers.ErrNotConfigured) {
			return nil, l.err
		}
	}
	ofShard(listings, in.shard)
	return readAll(ctx, listings, in.concurrency, p, log), nil
}
