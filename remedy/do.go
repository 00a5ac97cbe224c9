package remedy

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/cloudaudit/cloudaudit/cloud"
	"github.com/cloudaudit/cloudaudit/providers"
)

// Journal keeps records. Append returns when the record is where it survives the process and the machine.
type Journal interface {
	Append(record any) error
}

// Runner carries out plans. Its fields are set before the first call.
type Runner struct {
	Fixers  map[string]providers.Fixer // by provider
	Journal Journal                    // without one nothing is written
	// AllowLoss also takes ways that lose more than was asked.
	AllowLoss bool
	// ConfirmWithin is the time after which a run is to be undone unless it is confirmed; zero sets no deadline.
	ConfirmWithin time.Duration
	Now           func() time.Time
	Sleep         func(context.Context, time.Duration) error
	Progress      func(h *Hunk, text string) // nil tells nobody
}

// State is what became of a hunk.
type State string

// The states. Fixed, Partial and Drifted are the result of Verify; Applied is what it has not looked at yet.
const (
	Applied State = "applied" // every write was carried out
	Fixed   State = "fixed"   // and read back: what was asked for is closed, and the list is as planned
	Partial State = "partial" // a part of what was asked for is still open, or nobody could look
	Drifted State = "drifted" // what was asked for is closed, and someone else has changed the list since
	Skipped State = "skipped" // nothing was written
	Failed  State = "failed"  // a write failed; what was written before it stays, and narrows only
)

// Outcome is what became of a plan.
type Outcome struct {
	Plan  string   `json:"plan"`
	Hunks []Result `json:"hunks"`
}

// Result is what became of a hunk.
type Result struct {
	List     cloud.Ref    `json:"list"`
	Findings []string     `json:"findings"`
	State    State        `json:"state"`
	Reason   string       `json:"reason,omitempty"`
	Done     []cloud.Edit `json:"done"` // as carried out, in order
	After    *cloud.List  `json:"after,omitempty"`
}

// OK says whether everything was fixed and verified.
func (o *Outcome) OK() bool {
	for _, r := range o.Hunks {
		if r.State != Fixed {
			return false
		}
	}
	return true
}

// Record is a line of the journal.
type Record struct {
	Time   time.Time   `json:"time"`
	Kind   Kind        `json:"kind"`
	Plan   *Plan       `json:"plan,omitempty"` // of KindPlan
	Hunk   int         `json:"hunk"`
	Way    int         `json:"way"`
	Step   int         `json:"step"`
	Undo   bool        `json:"undo,omitempty"` // the edit is the inverse of that step
	Edit   *cloud.Edit `json:"edit,omitempty"` // of an intent as planned, of a result as carried out
	Before *cloud.List `json:"before,omitempty"`
	After  *cloud.List `json:"after,omitempty"`
	Error  string      `json:"error,omitempty"`
	// Distorted says of a write that was carried out that the cloud made something else of it, which is to be taken back.
	Distorted bool `json:"distorted,omitempty"`
	// AllowLoss is that of the Runner, in a record of KindPlan, so that Recover does what was consented to.
	AllowLoss bool      `json:"allow_loss,omitempty"`
	Expires   time.Time `json:"expires,omitzero"` // of KindDeadline
}

// Kind is what a Record tells.
type Kind string

// The kinds of records.
const (
	KindPlan      Kind = "plan"      // a run begins
	KindIntent    Kind = "intent"    // a write is about to be sent
	KindDone      Kind = "done"      // it was carried out
	KindVoid      Kind = "void"      // it was not, for certain
	KindFailed    Kind = "failed"    // it may have been
	KindDeadline  Kind = "deadline"  // the run is undone at Expires, unless it is confirmed
	KindConfirmed Kind = "confirmed" // the run is to stay
)

// errInterrupted ends a run between two writes.
var errInterrupted = errors.New("interrupted")

// step names a write of a plan.
type step struct{ hunk, way, step int }

func (r *Runner) record(kind Kind, at step, undo bool) Record {
	return Record{Time: r.Now().UTC(), Kind: kind, Hunk: at.hunk, Way: at.way, Step: at.step, Undo: undo}
}

func (r *Runner) tell(h *Hunk, format string, args ...any) {
	if r.Progress != nil {
		r.Progress(h, fmt.Sprintf(format, args...))
	}
}

// Do carries out p, list by list. Every scope is read again first: where the proof no longer holds, or a list is another,
// nothing is written. An error on one list does not stop the others. The error is not nil only if the run was not begun or
// the journal failed; then nothing further is written. When ctx ends, the write in flight is finished and journalled.
func (r *Runner) Do(ctx context.Context, p *Plan) (*Outcome, error) {
	if err := p.Validate(); err != nil {
		return nil, err
	}
	if r.Journal == nil {
		return nil, errors.New("fix: without a journal nothing is written")
	}
	begin := r.record(KindPlan, step{}, false)
	begin.Plan, begin.AllowLoss = p, r.AllowLoss
	if err := r.Journal.Append(begin); err != nil {
		return nil, fmt.Errorf("fix: nothing was written: %w", err)
	}
	if r.ConfirmWithin > 0 {
		if err := r.Deadline(); err != nil {
			return nil, fmt.Errorf("fix: nothing was written: %w", err)
		}
	}
	return r.run(ctx, p, nil)
}

// run carries out what of p is not done yet.
func (r *Runner) run(ctx context.Context, p *Plan, history *History) (*Outcome, error) {
	out := &Outcome{Plan: p.ID, Hunks: []Result{}}
	fresh := map[cloud.Scope]*cloud.Snapshot{}
	for i := range p.Hunks {
		h := &p.Hunks[i]
		res := Result{List: h.List.Ref, Findings: h.Findings, State: Skipped, Done: []cloud.Edit{}}
		err := r.hunk(ctx, p, i, fresh, history, &res)
		out.Hunks = append(out.Hunks, res)
		if err != nil {
			return out, err
		}
		r.tell(h, "%s %s", res.State, res.Reason)
	}
	return out, nil
}

// read reads a scope, with the lists of p whole.
func read(ctx context.Context, fixer providers.Fixer, p *Plan, scope cloud.Scope) (*cloud.Snapshot, error) {
	if w, ok := fixer.(providers.Watcher); ok {
		var lists []cloud.Ref
		for _, h := range p.Hunks {
			lists = append(lists, h.List.Ref)
		}
		w.Watch(lists)
	}
	return fixer.Read(ctx, scope)
}

// hunk carries out one hunk and says in res what became of it. Its error is one of the journal.
func (r *Runner) hunk(ctx context.Context, p *Plan, n int, fresh map[cloud.Scope]*cloud.Snapshot, history *History, res *Result) error {
	h := &p.Hunks[n]
	skip := func(reason string) error { res.Reason = reason; return nil }
	fixer := r.Fixers[h.Scope.Provider]
	switch {
	case ctx.Err() != nil:
		return skip(errInterrupted.Error())
	case fixer == nil:
		return skip("no credentials for " + h.Scope.String())
	}
	list := &h.List
	way, first := 0, 0
	var refused error
	if done := history.of(n); len(done) > 0 {
		last := done[len(done)-1]
		way, first, list = last.at.way, last.at.step+1, last.After
		for _, s := range done {
			res.Done = append(res.Done, s.Edit)
		}
		if last.distorted {
			var err, fatal error
			if list, err, fatal = r.back(ctx, fixer, h, step{n, way, 0}, list, res); fatal != nil || err != nil {
				res.State, res.Reason = Failed, fmt.Sprint(err)
				return fatal
			}
			way, first = way+1, 0
			refused = fmt.Errorf("%s: %w", h.Ways[way-1].Name, providers.ErrInexpressible)
		}
	} else {
		if fresh[h.Scope] == nil {
			s, err := read(ctx, fixer, p, h.Scope)
			if err != nil {
				return skip(errInterrupted.Error())
			}
			fresh[h.Scope] = s
		}
		if reason := h.stale(p, fresh[h.Scope]); reason != "" {
			return skip(reason)
		}
	}
	for ; way < len(h.Ways); way++ {
		if loss := h.Ways[way].Proof.Loss; !loss.IsEmpty() && !r.AllowLoss {
			reason := "it would also close " + loss.Words() + ": allow the loss, or see what else the plan proposes"
			if refused != nil {
				reason = refused.Error() + "; and the other way: " + reason
			}
			return skip(reason)
		}
		after, err, fatal := r.way(ctx, fixer, h, step{n, way, first}, list, res)
		if fatal != nil {
			return fatal
		}
		list, first = after, 0
		switch {
		case err == nil:
			res.State, res.After = Applied, list
			return nil
		case errors.Is(err, providers.ErrInexpressible):
			refused = err
			if list, err, fatal = r.back(ctx, fixer, h, step{n, way, 0}, list, res); fatal != nil || err != nil {
				res.State, res.Reason = Failed, fmt.Sprint(err)
				return fatal
			}
			continue
		case len(res.Done) == 0 && (errors.Is(err, providers.ErrStale) || errors.Is(err, errInterrupted)):
			return skip(err.Error())
		}
		res.State, res.Reason, res.After = Failed, err.Error(), list
		return nil
	}
	return skip(refused.Error())
}

// stale says why h must not be carried out on s, or nothing.
func (h *Hunk) stale(p *Plan, s *cloud.Snapshot) string {
	if h.Guard == nil {
		for _, l := range s.Lists {
			if l.Ref == h.List.Ref && l.Digest() == h.List.Digest() {
				if proof := Check(p, h, s); proof.Err() != nil || !proof.Loss.Subtract(h.Ways[0].Proof.Loss).IsEmpty() {
					return "changed since the plan: what else is in front of the endpoints is no longer the same"
				}
				return ""
			}
		}
		if len(s.Gaps) > 0 { // a list that does not show may be there all the same
			return "it could not be read again: " + s.Gaps[0].Cause
		}
		return providers.ErrStale.Error()
	}
	return ""
}

// Check proves h anew, in the way that is tried first, on a snapshot that was read after the plan was made. It is pure.
func Check(p *Plan, h *Hunk, s *cloud.Snapshot) Proof {
	return prove(s, h.Ways[0].Way, p.Target, p.Keep, p.asks, h.Rules)
}

// asks says whether the plan is to change r, or was to, and cannot.
func (p *Plan) asks(l *cloud.List, r *cloud.Rule) bool {
	among := func(rules []cloud.Rule) bool {
		return slices.ContainsFunc(rules, func(c cloud.Rule) bool { return c.Is(r) })
	}
	return r.Implied || slices.ContainsFunc(p.Hunks, func(h Hunk) bool { return h.List.Ref == l.Ref && among(h.Rules) }) ||
		slices.ContainsFunc(p.Unmet, func(u Unmet) bool { return u.List == l.Ref && among(u.Rules) })
}

// way carries out the steps of a way from at on. It returns the list after what was carried out.
func (r *Runner) way(ctx context.Context, fixer providers.Fixer, h *Hunk, at step, list *cloud.List, res *Result) (*cloud.List, error, error) {
	for ; at.step < len(h.Ways[at.way].Edits); at.step++ {
		if ctx.Err() != nil {
			return list, errInterrupted, nil
		}
		e := h.Ways[at.way].Edits[at.step]
		after, done, err, fatal := r.write(ctx, fixer, at, false, e, list)
		list = after
		if err == nil || errors.Is(err, providers.ErrInexpressible) && len(done.New)+len(done.Old) > 0 {
			res.Done = append(res.Done, done)
		}
		if fatal != nil || err != nil {
			return list, err, fatal
		}
		r.tell(h, "%d of %d writes", at.step+1, len(h.Ways[at.way].Edits))
	}
	return list, nil, nil
}

// back takes back what was done of a way that the cloud turned out not to keep.
func (r *Runner) back(ctx context.Context, fixer providers.Fixer, h *Hunk, at step, list *cloud.List, res *Result) (*cloud.List, error, error) {
	for i := len(res.Done) - 1; i >= 0; i-- {
		at.step = i
		after, _, err, fatal := r.write(ctx, fixer, at, true, res.Done[i].Inverse(), list)
		if fatal != nil || err != nil {
			return list, err, fatal
		}
		list, res.Done = after, res.Done[:i]
	}
	return list, nil, nil
}

// write carries out e on list, between two records of the journal: without the first nothing is written. It returns the
// list after, the edit as carried out, the error of the write, and that of the journal.
func (r *Runner) write(ctx context.Context, fixer providers.Fixer, at step, undo bool, e cloud.Edit, list *cloud.List) (*cloud.List, cloud.Edit, error, error) {
	if e.Guard == nil || len(e.Old) > 0 {
		e.Base = list.Digest()
	}
	intent := r.record(KindIntent, at, undo)
	intent.Edit, intent.Before, intent.After = &e, list, list.With(e)
	if err := r.Journal.Append(intent); err != nil {
		return list, e, nil, fmt.Errorf("fix: nothing further was written: %w", err)
	}
	done, err := fixer.Apply(context.WithoutCancel(ctx), e)
	result := r.record(KindDone, at, undo)
	after := list
	result.Distorted = errors.Is(err, providers.ErrInexpressible) && len(done.New)+len(done.Old) > 0
	switch {
	case errors.Is(err, providers.ErrStale), errors.Is(err, providers.ErrInexpressible) && !result.Distorted:
		result.Kind, result.Error = KindVoid, err.Error()
	case err != nil && !result.Distorted:
		result.Kind, result.Error = KindFailed, err.Error()
	default:
		moved := *list
		moved.Ref = done.List
		after = moved.With(done)
		result.Edit, result.After = &done, after
	}
	if journal := r.Journal.Append(result); journal != nil {
		return after, done, err, fmt.Errorf("fix: a write was carried out and could not be journalled; recover resolves it: %w", journal)
	}
	return after, done, err, nil
}

// verifyTries bounds how often a scope is read until it shows what was written; waits double from two seconds.
const verifyTries = 6

// Verify reads the scopes of p again and says in o what is fixed. It reads again, with waits that double, as long as
// something does not show yet.
func (r *Runner) Verify(ctx context.Context, p *Plan, o *Outcome) error {
	for try := range verifyTries {
		open := 0
		fresh := map[cloud.Scope]*cloud.Snapshot{}
		for i := range o.Hunks {
			res, h := &o.Hunks[i], &p.Hunks[i]
			if res.State != Applied && res.State != Partial {
				continue
			}
			if fresh[h.Scope] == nil {
				s, err := read(ctx, r.Fixers[h.Scope.Provider], p, h.Scope)
				if err != nil {
					return fmt.Errorf("verify %s: %w", h.Scope, err)
				}
				fresh[h.Scope] = s
			}
			res.verify(p, h, fresh[h.Scope])
			if res.State == Partial {
				open++
			}
		}
		if open == 0 || try == verifyTries-1 {
			return nil
		}
		if err := r.Sleep(ctx, 2*time.Second<<try); err != nil {
			return fmt.Errorf("verify: %w", err)
		}
	}
	return nil
}

// verify judges the list of h as s shows it.
func (res *Result) verify(p *Plan, h *Hunk, s *cloud.Snapshot) {
	res.State, res.Reason = Partial, "the list does not show in the cloud"
	for _, l := range s.Lists {
		if l.Ref != res.After.Ref {
			continue
		}
		rest := left(p, h, s, l.Ref)
		switch {
		case !rest.IsEmpty():
			res.Reason = "still open: " + rest.String()
		case l.Digest() != res.After.Digest():
			res.State, res.Reason = Drifted, "someone else has changed the list since"
		default:
			res.State, res.Reason = Fixed, ""
		}
	}
}
