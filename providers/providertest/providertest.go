// Package providertest is the conformance suite that every provider runs: the laws of providers.Provider, checked against
// an emulated cloud under every fault. A provider's own tests are left with what is particular to its cloud.
package providertest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cloudaudit/cloudaudit/cloud"
	"github.com/cloudaudit/cloudaudit/internal/emulate"
	"github.com/cloudaudit/cloudaudit/providers"
)

// Cloud is an emulated cloud as the suite sees it.
type Cloud struct {
	// Open serves the scene anew, behind the given faults, with the smallest page size that the vendor allows if
	// smallPages, and returns a provider that reads it. What it starts ends with t.
	Open func(t *testing.T, match func(operation string, r *http.Request) emulate.Fault, smallPages bool) (providers.Provider, *emulate.Faults)

	// Question is what to ask of the scene. It must expose something.
	Question cloud.Question

	// ListsScopes says of an operation that Scopes needs it, so that refusing it is an error of Scopes, not a gap.
	ListsScopes func(operation string) bool

	// Names says of an operation that the provider asks it only for what people read, such as the name of an instance:
	// without it the verdicts are the same, although the gap is reported.
	Names func(operation string) bool
}

// Run checks every law.
func Run(t *testing.T, c Cloud) {
	t.Run("scopes are sorted and distinct", c.scopes)
	t.Run("snapshots are well formed", c.wellFormed)
	t.Run("reading twice gives the same", c.twice)
	t.Run("pages do not matter", c.pages)
	t.Run("JSON keeps everything", c.roundTrip)
	t.Run("a refused operation is a gap and never clean", func(t *testing.T) {
		c.faults(t, emulate.Fault{Refuse: true})
	})
	t.Run("a broken operation is a gap and never clean", func(t *testing.T) {
		c.faults(t, emulate.Fault{Garbage: true})
	})
	t.Run("throttling is waited for", c.throttled)
	t.Run("a cancelled context ends reading", c.cancelled)
}

// read reads all scopes, and fails the test on any error.
func read(t *testing.T, p providers.Provider) []*cloud.Snapshot {
	t.Helper()
	scopes, err := p.Scopes(t.Context())
	if err != nil {
		t.Fatalf("Scopes: %v", err)
	}
	var out []*cloud.Snapshot
	for _, s := range scopes {
		snapshot, err := p.Read(t.Context(), s)
		if err != nil {
			t.Fatalf("Read(%v): %v", s, err)
		}
		if snapshot.Scope != s {
			t.Errorf("Read(%v) returned a snapshot of %v", s, snapshot.Scope)
		}
		out = append(out, snapshot)
	}
	return out
}

func encode(t *testing.T, snapshots []*cloud.Snapshot) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := cloud.WriteSnapshots(&b, snapshots); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func (c Cloud) scopes(t *testing.T) {
	p, _ := c.Open(t, nil, false)
	scopes, err := p.Scopes(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(scopes) == 0 {
		t.Fatal("no scopes: the suite would check nothing")
	}
	for i := 1; i < len(scopes); i++ {
		if strings.Compare(scopes[i-1].String(), scopes[i].String()) >= 0 {
			t.Errorf("scope %v comes before %v", scopes[i-1], scopes[i])
		}
	}
}

func (c Cloud) wellFormed(t *testing.T) {
	p, _ := c.Open(t, nil, false)
	exposed := 0
	for _, s := range read(t, p) {
		if len(s.Gaps) > 0 {
			t.Errorf("%v: gaps on a healthy cloud: %+v", s.Scope, s.Gaps)
		}
		lists := map[cloud.Ref]bool{}
		for _, l := range s.Lists {
			if l.Ref.IsZero() || lists[l.Ref] {
				t.Errorf("%v: list %v has no ref, or one twice", s.Scope, l.Ref)
			}
			lists[l.Ref] = true
			rules := map[cloud.Ref]bool{}
			for _, r := range l.Rules {
				if r.Ref.ID == "" || rules[r.Ref] {
					t.Errorf("%v: list %v: rule %v has no id, or one twice", s.Scope, l.Ref, r.Ref)
				}
				rules[r.Ref] = true
				if !r.Maybe.IsEmpty() && (r.Doubt == "" || r.Cause == "") {
					t.Errorf("rule %v is in doubt without saying how and why", r.Ref)
				}
			}
		}
		for _, e := range s.Endpoints {
			if len(e.Hops) == 0 || (e.Family != 4 && e.Family != 6) || e.Address() == "" {
				t.Errorf("endpoint %v: %d hops, family %d, address %q", e.Ref, len(e.Hops), e.Family, e.Address())
				continue
			}
			for _, h := range e.Hops {
				for _, l := range h.Layers {
					if l.Name == "" || l.Kind == "" || (l.Stateless && l.ReplyName == "") {
						t.Errorf("endpoint %v: layer %+v lacks a name or kind", e.Ref, l)
					}
					for _, list := range l.Lists {
						if l.Kind == cloud.Firewall && !lists[list.Ref] && !implied(list) {
							t.Errorf("endpoint %v: list %v is not among the snapshot's lists", e.Ref, list.Ref)
						}
					}
				}
			}
		}
		for _, a := range c.Question.Judge(s) {
			if a.Exposure != cloud.Blocked {
				exposed++
			}
		}
	}
	if exposed == 0 {
		t.Error("nothing in the scene is exposed: the suite would check nothing")
	}
}

// implied says whether every rule of l stands for the absence of a list.
func implied(l *cloud.List) bool {
	return !slices.ContainsFunc(l.Rules, func(r cloud.Rule) bool { return !r.Implied })
}

func (c Cloud) twice(t *testing.T) {
	p, _ := c.Open(t, nil, false)
	if diff := cmp.Diff(string(encode(t, read(t, p))), string(encode(t, read(t, p)))); diff != "" {
		t.Errorf("second reading differs:\n%s", diff)
	}
}

func (c Cloud) pages(t *testing.T) {
	large, _ := c.Open(t, nil, false)
	small, calls := c.Open(t, nil, true)
	if diff := cmp.Diff(string(encode(t, read(t, large))), string(encode(t, read(t, small)))); diff != "" {
		t.Errorf("small pages give another snapshot:\n%s", diff)
	}
	most := 0
	for _, n := range calls.Calls() {
		most = max(most, n)
	}
	if most < 2 {
		t.Error("no operation was asked twice: the scene fits in the smallest page, and the law was not tested")
	}
}

func (c Cloud) roundTrip(t *testing.T) {
	p, _ := c.Open(t, nil, false)
	before := read(t, p)
	text := encode(t, before)
	after, err := cloud.ReadSnapshots(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(text), string(encode(t, after))); diff != "" {
		t.Errorf("the snapshot changed on its way through JSON:\n%s", diff)
	}
	for i := range before {
		if diff := cmp.Diff(c.verdicts(before[i]), c.verdicts(after[i])); diff != "" {
			t.Errorf("%v: other verdicts after JSON:\n%s", before[i].Scope, diff)
		}
	}
}

// verdicts returns what is exposed in s, by endpoint, way in and service.
func (c Cloud) verdicts(s *cloud.Snapshot) map[string]cloud.Exposure {
	out := map[string]cloud.Exposure{}
	for _, a := range c.Question.Judge(s) {
		if a.Exposure == cloud.Blocked {
			continue
		}
		key, err := json.Marshal([]any{a.Endpoint.Ref, a.Endpoint.Address(), a.Endpoint.Via, a.Service, a.Front})
		if err != nil {
			panic(err)
		}
		out[string(key)] = a.Exposure
	}
	return out
}

// faults breaks every operation that a healthy reading uses, one at a time.
func (c Cloud) faults(t *testing.T, fault emulate.Fault) {
	healthy, counter := c.Open(t, nil, false)
	reference := read(t, healthy)
	expected := map[cloud.Scope]map[string]cloud.Exposure{}
	for _, s := range reference {
		expected[s.Scope] = c.verdicts(s)
	}
	operations := counter.Calls()
	if len(operations) < 2 {
		t.Fatalf("only %d operations were asked", len(operations))
	}
	for op := range operations {
		t.Run(strings.NewReplacer("/", "|", " ", "_").Replace(op), func(t *testing.T) {
			t.Parallel()
			p, _ := c.Open(t, func(operation string, _ *http.Request) emulate.Fault {
				if operation == op {
					return fault
				}
				return emulate.Fault{}
			}, false)
			scopes, err := p.Scopes(t.Context())
			if c.ListsScopes(op) {
				if err == nil {
					// Then the loss has to show when the scopes are read, as gaps.
					if len(scopes) == 0 {
						t.Error("the scopes could not be listed, and neither an error nor a scope says so")
					}
				} else {
					var hint *providers.Hint
					if !errors.As(err, &hint) {
						t.Errorf("error without a hint: %v", err)
					}
					return
				}
			} else if err != nil {
				t.Fatalf("Scopes: %v", err)
			}
			gaps := 0
			for _, scope := range scopes {
				s, err := p.Read(t.Context(), scope)
				if err != nil {
					t.Fatalf("Read(%v): %v", scope, err)
				}
				for _, g := range s.Gaps {
					gaps++
					if g.Subject == "" || g.Cause == "" {
						t.Errorf("%v: a gap that says nothing: %+v", scope, g)
					}
					if fault.Refuse && g.Hint == "" {
						t.Errorf("%v: a refused operation without a hint at what to grant: %+v", scope, g)
					}
				}
				verdicts := c.verdicts(s)
				for endpoint, was := range expected[scope] {
					if _, still := verdicts[endpoint]; still || len(s.Gaps) > 0 {
						continue
					}
					t.Errorf("%v: %s was %s, and is gone without a gap", scope, endpoint, was)
				}
				if c.Names != nil && c.Names(op) {
					if diff := cmp.Diff(expected[scope], verdicts); diff != "" {
						t.Errorf("%v: %s gives only names, yet the verdicts differ:\n%s", scope, op, diff)
					}
				}
			}
			if gaps == 0 {
				t.Errorf("%s failed, and no gap says so", op)
			}
		})
	}
}

func (c Cloud) throttled(t *testing.T) {
	healthy, _ := c.Open(t, nil, false)
	p, calls := c.Open(t, func(string, *http.Request) emulate.Fault { return emulate.Fault{Throttle: 1} }, false)
	if diff := cmp.Diff(string(encode(t, read(t, healthy))), string(encode(t, read(t, p)))); diff != "" {
		t.Errorf("throttled once, the snapshot differs:\n%s", diff)
	}
	for op, n := range calls.Calls() {
		if n < 2 {
			t.Errorf("%s was throttled and not asked again", op)
		}
	}
}

func (c Cloud) cancelled(t *testing.T) {
	healthy, _ := c.Open(t, nil, false)
	scopes, err := healthy.Scopes(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	p, _ := c.Open(t, func(string, *http.Request) emulate.Fault {
		cancel()
		return emulate.Fault{Hang: true}
	}, false)
	done := make(chan error, 1)
	go func() {
		s, err := p.Read(ctx, scopes[0])
		if err != nil && s != nil {
			t.Error("an error and a snapshot")
		}
		done <- err
	}()
	select {
	case err := <-done:
		if !errors.Is(err, context.Canceled) {
			t.Errorf("Read returned %v, want context.Canceled", err)
		}
	case <-time.After(20 * time.Second):
		t.Error("Read goes on after its context ended")
	}
}
