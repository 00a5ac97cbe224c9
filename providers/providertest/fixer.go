package providertest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cloudaudit/cloudaudit/cloud"
	"github.com/cloudaudit/cloudaudit/internal/emulate"
	"github.com/cloudaudit/cloudaudit/providers"
	"github.com/cloudaudit/cloudaudit/remedy"
	"github.com/cloudaudit/cloudaudit/traffic"
)

// FixerCloud is an emulated cloud that can be written to, as the suite sees it.
type FixerCloud struct {
	// Open serves the scene anew, behind the given faults, and returns a fixer of it, whose waiting takes no time, and a
	// function that changes a rule of every list that a fix would change, as someone else would.
	Open func(t *testing.T, match func(operation string, r *http.Request) emulate.Fault) (providers.Fixer, *emulate.Faults, func())

	// Options say how to mend; AllowLoss, whether the scene cannot be mended without a loss.
	Options   remedy.Options
	AllowLoss bool

	// Writes says of an operation that it changes the cloud.
	Writes func(operation string) bool
}

// RunFixer checks the laws of providers.Fixer and that a fix of the scene survives whatever happens in the middle of it.
func RunFixer(t *testing.T, c FixerCloud) {
	t.Run("a fix closes what was asked, and nothing else", c.fix)
	t.Run("undo restores every list", c.undo)
	t.Run("a list that someone else changed is left alone", c.meddled)
	t.Run("a write that fails", func(t *testing.T) { c.failing(t, emulate.Fault{Refuse: true}) })
	t.Run("a write whose answer is lost", func(t *testing.T) { c.failing(t, emulate.Fault{Lose: true}) })
	t.Run("a process that is killed", c.killed)
}

// Journal is a journal in memory.
type Journal struct {
	Records []json.RawMessage
	room    *int // records that still fit; nil is any number
}

var errFull = errors.New("no space left")

// Append keeps record.
func (j *Journal) Append(record any) error {
	if j.room != nil {
		if *j.room == 0 {
			return errFull
		}
		*j.room--
	}
	text, err := json.Marshal(record)
	j.Records = append(j.Records, text)
	return err
}

// Runner returns a runner with f as the fixer of provider, that never waits.
func Runner(provider string, f providers.Fixer, j remedy.Journal) *remedy.Runner {
	return &remedy.Runner{
		Fixers: map[string]providers.Fixer{provider: f}, Journal: j,
		Now:   func() time.Time { return time.Unix(1_790_000_000, 0) },
		Sleep: func(ctx context.Context, _ time.Duration) error { return ctx.Err() },
	}
}

// fixing is a scene with the plan for it.
type fixing struct {
	c      FixerCloud
	fixer  providers.Fixer
	faults *emulate.Faults
	meddle func()
	runner *remedy.Runner
	memory *Journal
	before []*cloud.Snapshot
	plan   *remedy.Plan
}

func (c FixerCloud) open(t *testing.T, match func(string, *http.Request) emulate.Fault) *fixing {
	t.Helper()
	f := &fixing{c: c, memory: &Journal{}}
	f.fixer, f.faults, f.meddle = c.Open(t, match)
	f.before = read(t, f.fixer)
	f.plan = f.newPlan(f.before)
	f.runner = Runner(f.before[0].Scope.Provider, f.fixer, f.memory)
	f.runner.AllowLoss = c.AllowLoss
	if len(f.plan.Hunks) == 0 {
		t.Fatalf("the scene has nothing to mend: %+v", f.plan.Refused)
	}
	return f
}

// newPlan plans everything that the fixer can do: what needs consent has it, and the runner decides about losses.
func (f *fixing) newPlan(snapshots []*cloud.Snapshot) *remedy.Plan {
	f.c.Options.Guard, f.c.Options.AllowLoss = true, true
	return remedy.New(snapshots, Findings(f.c.Options.Ports, snapshots), map[string]providers.Rewriter{snapshots[0].Scope.Provider: f.fixer}, f.c.Options)
}

// Findings returns what is to be mended in snapshots: every rule that admits more than a few internet hosts to an endpoint.
func Findings(ports []uint16, snapshots []*cloud.Snapshot) []remedy.Finding {
	var out []remedy.Finding
	seen := map[cloud.Ref]bool{}
	for _, s := range snapshots {
		for _, a := range (cloud.Question{Ports: ports}).Judge(s) {
			for _, by := range a.AdmittedBy {
				subject, check := by.Rule.Ref, "CA102"
				if by.Rule.Implied {
					subject, check = a.Endpoint.Ref, "CA105"
				}
				if coverage, _ := cloud.Cover(by.Sources, a.Endpoint.Family); coverage == cloud.Narrow {
					check = "CA110"
				}
				if a.Exposure == cloud.Unknown {
					check = "CA109"
				}
				if key := subject; !seen[key] || check == "CA102" {
					seen[key] = true
					out = append(out, remedy.Finding{Fingerprint: subject.String() + " " + check, Check: check, Subject: subject})
				}
			}
		}
	}
	return out
}

func (f *fixing) writes() int {
	n := 0
	for op, calls := range f.faults.Calls() {
		if f.c.Writes(op) {
			n += calls
		}
	}
	return n
}

// summary returns what became of the hunks, a line each.
func summary(o *remedy.Outcome) string {
	if o == nil {
		return "no outcome"
	}
	text := ""
	for _, r := range o.Hunks {
		text += fmt.Sprintf("\n%s: %s after %d writes: %s", r.List, r.State, len(r.Done), r.Reason)
	}
	return text
}

// digests returns what all lists are.
func digests(snapshots []*cloud.Snapshot) map[cloud.Ref]string {
	out := map[cloud.Ref]string{}
	for _, s := range snapshots {
		for _, l := range s.Lists {
			out[l.Ref] = l.Digest()
		}
	}
	return out
}

// narrower fails the test if any path of now admits what the same path did not admit before, or no longer admits what was
// to be kept.
func (f *fixing) narrower(t *testing.T) []*cloud.Snapshot {
	t.Helper()
	now := read(t, f.fixer)
	for i, s := range now {
		for n := range s.Endpoints {
			for h := range s.Endpoints[n].Hops {
				for l := range s.Endpoints[n].Hops[h].Layers {
					was, _ := f.before[i].Endpoints[n].Hops[h].Layers[l].Admits(traffic.All())
					is, _ := s.Endpoints[n].Hops[h].Layers[l].Admits(traffic.All())
					if wider := is.Subtract(was); !wider.IsEmpty() {
						t.Errorf("%v: wider than before: %v", s.Endpoints[n].Ref, wider)
					}
					if lost := was.Subtract(is).Intersect(f.plan.Keep); !lost.IsEmpty() && !f.c.AllowLoss && !trifles(f.plan, lost) {
						t.Errorf("%v: lost although it was to be kept: %v", s.Endpoints[n].Ref, lost)
					}
				}
			}
		}
	}
	return now
}

// trifles says whether lost is nothing but what some way declares not to matter.
func trifles(p *remedy.Plan, lost traffic.Set) bool {
	for _, h := range p.Hunks {
		for _, w := range h.Ways {
			lost = lost.Subtract(w.Trifle)
		}
	}
	return lost.IsEmpty()
}

// history returns what the journal tells.
func (f *fixing) history(t *testing.T) *remedy.History {
	t.Helper()
	h, err := remedy.ReadHistory(f.memory.Records)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func (c FixerCloud) fix(t *testing.T) {
	f := c.open(t, nil)
	if again := f.newPlan(f.before); again.ID != f.plan.ID {
		t.Error("two plans for one scene differ")
	}
	outcome, err := f.runner.Do(t.Context(), f.plan)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.runner.Verify(t.Context(), f.plan, outcome); err != nil {
		t.Fatal(err)
	}
	if !outcome.OK() {
		t.Errorf("not everything is fixed: %s", summary(outcome))
	}
	now := f.narrower(t)
	writes := f.writes()
	if writes == 0 {
		t.Error("nothing was written: the suite would check nothing")
	}
	second := f.newPlan(now)
	if outcome, err = f.runner.Do(t.Context(), second); err != nil || len(second.Hunks) > 0 || len(outcome.Hunks) > 0 || f.writes() != writes {
		t.Errorf("a second run: %d hunks, %d writes, %v", len(second.Hunks), f.writes()-writes, err)
	}
	// The first plan cannot be carried out again.
	f.memory.Records = nil
	if outcome, err = f.runner.Do(t.Context(), f.plan); err != nil || outcome.OK() || f.writes() != writes {
		t.Errorf("the plan was carried out again: %s, %v", summary(outcome), err)
	}
}

func (c FixerCloud) undo(t *testing.T) {
	f := c.open(t, nil)
	if _, err := f.runner.Do(t.Context(), f.plan); err != nil {
		t.Fatal(err)
	}
	if err := f.runner.Undo(t.Context(), f.history(t), false); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(digests(f.before), digests(read(t, f.fixer))); diff != "" {
		t.Errorf("undone:\n%s", diff)
	}
	writes := f.writes()
	if err := f.runner.Undo(t.Context(), f.history(t), false); err != nil || f.writes() != writes {
		t.Errorf("a second undo: %v, %d writes", err, f.writes()-writes)
	}

	// What someone has changed since is not undone.
	f = c.open(t, nil)
	if _, err := f.runner.Do(t.Context(), f.plan); err != nil {
		t.Fatal(err)
	}
	f.meddle()
	meddled := digests(read(t, f.fixer))
	writes = f.writes()
	if err := f.runner.Undo(t.Context(), f.history(t), false); !errors.Is(err, remedy.ErrChanged) || f.writes() != writes {
		t.Errorf("a list that was changed since was undone: %v", err)
	}
	if diff := cmp.Diff(meddled, digests(read(t, f.fixer))); diff != "" {
		t.Errorf("a list that was changed since was undone:\n%s", diff)
	}
}

func (c FixerCloud) meddled(t *testing.T) {
	f := c.open(t, nil)
	f.meddle()
	changed := digests(read(t, f.fixer))
	outcome, err := f.runner.Do(t.Context(), f.plan)
	if err != nil || outcome.OK() || f.writes() > 0 {
		t.Errorf("%s, %v, %d writes", summary(outcome), err, f.writes())
	}
	if diff := cmp.Diff(changed, digests(read(t, f.fixer))); diff != "" {
		t.Errorf("overwritten:\n%s", diff)
	}

	// Apply looks by itself too.
	f = c.open(t, nil)
	h := f.plan.Hunks[0]
	e := h.Ways[0].Edits[0]
	e.Base = h.List.Digest()
	f.meddle()
	if e.Guard == nil {
		if _, err := f.fixer.Apply(t.Context(), e); !errors.Is(err, providers.ErrStale) || f.writes() > 0 {
			t.Errorf("Apply on a list that was changed: %v, %d writes", err, f.writes())
		}
	}
}

// failing breaks every write of a fix in turn, and then once more with the writes that come after it healthy.
func (c FixerCloud) failing(t *testing.T, fault emulate.Fault) {
	for n := range c.open(t, nil).plan.Changes() {
		for _, finish := range []bool{false, true} {
			t.Run(strconv.Itoa(n+1)+map[bool]string{true: " finished", false: " undone"}[finish], func(t *testing.T) {
				seen := 0
				f := c.open(t, func(op string, _ *http.Request) emulate.Fault {
					if c.Writes(op) {
						if seen++; seen == n+1 {
							return fault
						}
					}
					return emulate.Fault{}
				})
				outcome, err := f.runner.Do(t.Context(), f.plan)
				if err != nil {
					t.Fatal(err)
				}
				if outcome.OK() || !slices.ContainsFunc(outcome.Hunks, func(r remedy.Result) bool { return r.State == remedy.Failed }) {
					t.Errorf("a write failed, and the outcome is %s", summary(outcome))
				}
				f.narrower(t)
				f.ends(t, finish)
			})
		}
	}
}

// ends finishes or undoes what was begun, and fails the test unless everything is exactly after or exactly before.
func (f *fixing) ends(t *testing.T, finish bool) {
	t.Helper()
	if !finish {
		if err := f.runner.Undo(t.Context(), f.history(t), false); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(digests(f.before), digests(read(t, f.fixer))); diff != "" {
			t.Errorf("undone:\n%s", diff)
		}
		return
	}
	outcome, err := f.runner.Recover(t.Context(), f.history(t))
	if err == nil {
		err = f.runner.Verify(t.Context(), f.plan, outcome)
	}
	if err != nil || !outcome.OK() {
		t.Errorf("finished: %s, %v", summary(outcome), err)
	}
	f.narrower(t)
}

// killed ends the process at every record of the journal: before it is written, and so before and after every write.
func (c FixerCloud) killed(t *testing.T) {
	whole := c.open(t, nil)
	if _, err := whole.runner.Do(t.Context(), whole.plan); err != nil {
		t.Fatal(err)
	}
	for n := range len(whole.memory.Records) {
		for _, finish := range []bool{false, true} {
			t.Run(strconv.Itoa(n)+map[bool]string{true: " finished", false: " undone"}[finish], func(t *testing.T) {
				f := c.open(t, nil)
				room := n
				f.memory.room = &room
				if _, err := f.runner.Do(t.Context(), f.plan); !errors.Is(err, errFull) {
					t.Fatalf("the journal was full, and Do returned %v", err)
				}
				f.narrower(t)
				if n == 0 {
					if f.writes() > 0 {
						t.Error("something was written without a journal")
					}
					return
				}
				f.memory.room = nil
				f.ends(t, finish)
			})
		}
	}
	// Undoing can be interrupted just as well.
	records := len(whole.memory.Records)
	if err := whole.runner.Undo(t.Context(), whole.history(t), false); err != nil {
		t.Fatal(err)
	}
	for n := range len(whole.memory.Records) - records {
		f := c.open(t, nil)
		if _, err := f.runner.Do(t.Context(), f.plan); err != nil {
			t.Fatal(err)
		}
		room := n
		f.memory.room = &room
		if err := f.runner.Undo(t.Context(), f.history(t), false); !errors.Is(err, errFull) {
			t.Fatalf("the journal was full, and Undo returned %v", err)
		}
		f.narrower(t)
		f.memory.room = nil
		f.ends(t, false)
	}
}
