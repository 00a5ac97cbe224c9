package remedy

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/cloudaudit/cloudaudit/cloud"
)

// History is what a journal tells of a run.
type History struct {
	Plan      *Plan
	Expires   time.Time // when the run is to be undone unless confirmed; zero without a deadline
	Confirmed bool
	AllowLoss bool // the user consented to losses
	steps     []*Write
}

// Write is a write of a run.
type Write struct {
	Edit          cloud.Edit // as carried out, or as intended
	Before, After *cloud.List
	at            step
	status        Kind // KindDone, or KindIntent and KindFailed for what may have been carried out
	distorted     bool // the cloud made something else of it
	undo          *Write
}

// ErrNothing is wrapped by the error of ReadHistory for a journal that tells of no run.
var ErrNothing = errors.New("the journal tells of no fix")

// ReadHistory reads the records of a journal, as package journal returns them.
func ReadHistory(records []json.RawMessage) (*History, error) {
	h := &History{}
	for n, text := range records {
		var r Record
		if err := json.Unmarshal(text, &r); err != nil {
			return nil, fmt.Errorf("journal: record %d: %w", n+1, err)
		}
		switch r.Kind {
		case KindPlan:
			if h.Plan != nil {
				return nil, fmt.Errorf("journal: record %d: a second run", n+1)
			}
			h.Plan, h.AllowLoss = r.Plan, r.AllowLoss
			continue
		case KindDeadline:
			h.Expires = r.Expires
			continue
		case KindConfirmed:
			h.Confirmed = true
			continue
		}
		if err := h.enter(&r); err != nil {
			return nil, fmt.Errorf("journal: record %d: %w", n+1, err)
		}
	}
	if h.Plan == nil {
		return nil, ErrNothing
	}
	return h, h.Plan.Validate()
}

// enter adds a record of a write.
func (h *History) enter(r *Record) error {
	at := step{r.Hunk, r.Way, r.Step}
	i := slices.IndexFunc(h.steps, func(w *Write) bool { return w.at == at })
	switch {
	case h.Plan == nil || r.Hunk < 0 || r.Hunk >= len(h.Plan.Hunks):
		return errors.New("it is of no hunk of the plan")
	case r.Kind == KindIntent && (r.Edit == nil || r.Before == nil || r.After == nil):
		return errors.New("the intent lacks its edit or an image of the list")
	case r.Kind == KindIntent && !r.Undo:
		w := &Write{Edit: *r.Edit, Before: r.Before, After: r.After, at: at, status: KindIntent}
		if i >= 0 { // tried again
			h.steps = slices.Delete(h.steps, i, i+1)
		}
		h.steps = append(h.steps, w)
		return nil
	case i < 0:
		return errors.New("it is of no write that was intended")
	case r.Kind == KindIntent:
		h.steps[i].undo = &Write{Edit: *r.Edit, Before: r.Before, After: r.After, at: at, status: KindIntent}
		return nil
	}
	w := h.steps[i]
	if r.Undo {
		if w = w.undo; w == nil {
			return errors.New("it is of no write that was intended")
		}
	}
	w.status = r.Kind
	if r.Kind == KindDone {
		if r.Edit == nil || r.After == nil {
			return errors.New("the result lacks its edit or the image of the list")
		}
		w.Edit, w.After, w.distorted = *r.Edit, r.After, r.Distorted
	}
	if r.Undo && r.Kind == KindDone || !r.Undo && r.Kind == KindVoid {
		h.steps = slices.Delete(h.steps, i, i+1) // as if it had not been
	} else if r.Undo && r.Kind == KindVoid {
		h.steps[i].undo = nil
	}
	return nil
}

// of returns the writes of hunk n that stand, in order.
func (h *History) of(n int) []*Write {
	if h == nil {
		return nil
	}
	var out []*Write
	for _, w := range h.steps {
		if w.at.hunk == n {
			out = append(out, w)
		}
	}
	return out
}

// image is how a list relates to a write.
type image uint8

const (
	asBefore image = iota
	asAfter
	asDistorted // the cloud made something else of the new rules
	asNeither
)

// compare says whether l, which is nil if there is no such list, is as before w or as after it, and returns w's edit with
// the rules as they are in l.
func (w *Write) compare(l *cloud.List) (image, cloud.Edit) {
	e := w.Edit
	if l == nil {
		switch {
		case e.Guard != nil && len(e.Old) == 0:
			return asBefore, e
		case e.Guard != nil:
			return asAfter, e
		}
		return asNeither, e
	}
	e.List = l.Ref
	if l.Digest() == w.Before.Digest() && (e.Guard == nil || len(e.Old) > 0) {
		return asBefore, e
	}
	is := asAfter
	e.New = slices.Clone(e.New)
	for i := range e.New {
		at := l.Find(&e.New[i])
		if at < 0 {
			// Something with the same packets, which was not there before?
			is = asDistorted
			at = slices.IndexFunc(l.Rules, func(r cloud.Rule) bool {
				return r.Match.Equal(e.New[i].Match) && !r.Match.IsEmpty() && w.Before.Find(&r) < 0
			})
		}
		if at < 0 {
			return asNeither, e
		}
		e.New[i] = l.Rules[at]
	}
	after := *w.Before
	after.Ref = l.Ref
	if after.With(e).Digest() != l.Digest() {
		return asNeither, e
	}
	return is, e
}

// reading reads scopes once.
type reading struct {
	r     *Runner
	plan  *Plan
	fresh map[cloud.Scope]*cloud.Snapshot
}

// list returns what w is about as it is now, or nil if it is not there.
func (rd *reading) list(ctx context.Context, scope cloud.Scope, w *Write) (*cloud.List, error) {
	fixer := rd.r.Fixers[scope.Provider]
	if fixer == nil {
		return nil, fmt.Errorf("no credentials for %s", scope)
	}
	if rd.fresh[scope] == nil {
		s, err := read(ctx, fixer, rd.plan, scope)
		if err != nil {
			return nil, err
		}
		rd.fresh[scope] = s
	}
	s := rd.fresh[scope]
	for _, l := range s.Lists {
		if l.Ref == w.Edit.List || w.Edit.Guard != nil && len(w.Edit.Old) == 0 && l.Name == w.Edit.Guard.Name {
			return l, nil
		}
	}
	if len(s.Gaps) > 0 {
		return nil, fmt.Errorf("%s could not be read: %s", w.Edit.List, s.Gaps[0].Cause)
	}
	return nil, nil
}

// ErrChanged is wrapped by errors that say that a list is neither as the run found it nor as the run left it.
var ErrChanged = errors.New("someone else has changed it since")

// resolve finds out, for every write of which it is not known, whether it was carried out, and journals it.
func (r *Runner) resolve(ctx context.Context, h *History) error {
	rd := reading{r, h.Plan, map[cloud.Scope]*cloud.Snapshot{}}
	var failed error
	for _, w := range slices.Clone(h.steps) {
		open, undo := w, false
		if w.undo != nil {
			open, undo = w.undo, true
		} else if w.status == KindDone {
			continue
		}
		scope := h.Plan.Hunks[w.at.hunk].Scope
		l, err := rd.list(ctx, scope, open)
		if err != nil {
			failed = errors.Join(failed, fmt.Errorf("recover %s: %w", open.Edit.List, err))
			continue
		}
		record := r.record(KindVoid, w.at, undo)
		switch is, e := open.compare(l); is {
		case asNeither:
			failed = errors.Join(failed, fmt.Errorf("recover %s: %w", open.Edit.List, ErrChanged))
			continue
		case asAfter, asDistorted:
			record.Kind, record.Edit, record.After, record.Distorted = KindDone, &e, l, is == asDistorted
			if l == nil {
				record.After = &cloud.List{Ref: e.List}
			}
		}
		if err := r.Journal.Append(record); err != nil {
			return fmt.Errorf("recover: %w", err)
		}
		if err := h.enter(&record); err != nil {
			return fmt.Errorf("recover: %w", err)
		}
	}
	return failed
}

// Undo takes back what a run did, the last write first, and so opens again what the run has closed. A list that is not as
// the run left it is left alone, unless force is set: then it is enough that the rules are there that the run made. A
// second undo writes nothing. The error joins what went wrong, list by list.
func (r *Runner) Undo(ctx context.Context, h *History, force bool) error {
	if r.Journal == nil {
		return errors.New("undo: without a journal nothing is written")
	}
	failed := r.resolve(ctx, h)
	rd := reading{r, h.Plan, map[cloud.Scope]*cloud.Snapshot{}}
	for n := len(h.Plan.Hunks) - 1; n >= 0; n-- {
		if err := r.undoHunk(ctx, h, n, &rd, force); err != nil {
			failed = errors.Join(failed, fmt.Errorf("undo %s: %w", h.Plan.Hunks[n].List.Ref, err))
		}
	}
	return failed
}

func (r *Runner) undoHunk(ctx context.Context, h *History, n int, rd *reading, force bool) error {
	done := h.of(n)
	if len(done) == 0 {
		return nil
	}
	last := done[len(done)-1]
	if last.status != KindDone || last.undo != nil {
		return ErrChanged
	}
	scope := h.Plan.Hunks[n].Scope
	list, err := rd.list(ctx, scope, last)
	switch {
	case err != nil:
		return err
	case list == nil:
		return fmt.Errorf("it is gone: %w", ErrChanged)
	case !force && list.Digest() != last.After.Digest():
		return ErrChanged
	}
	for i := len(done) - 1; i >= 0; i-- {
		if ctx.Err() != nil {
			return errInterrupted
		}
		w := done[i]
		after, e, err, fatal := r.write(ctx, r.Fixers[scope.Provider], w.at, true, w.Edit.Inverse(), list)
		if err := errors.Join(fatal, err); err != nil {
			return err
		}
		list = after
		// Rules that came back may have other ids now, which earlier writes are about.
		for k := range i {
			for j := range done[k].Edit.New {
				was := &done[k].Edit.New[j]
				for m := range w.Edit.Old {
					if was.Is(&w.Edit.Old[m]) && m < len(e.New) {
						*was = e.New[m]
					}
				}
			}
		}
	}
	h.steps = slices.DeleteFunc(h.steps, func(w *Write) bool { return w.at.hunk == n })
	return nil
}

// Recover resolves an interrupted run and finishes it, list by list.
func (r *Runner) Recover(ctx context.Context, h *History) (*Outcome, error) {
	if r.Journal == nil {
		return nil, errors.New("recover: without a journal nothing is written")
	}
	if err := r.resolve(ctx, h); err != nil {
		return nil, err
	}
	r.AllowLoss = h.AllowLoss
	return r.run(ctx, h.Plan, h)
}

// Expired says whether a run with a deadline is to be undone at now.
func (h *History) Expired(now time.Time) bool {
	return !h.Expires.IsZero() && !h.Confirmed && now.After(h.Expires) && len(h.steps) > 0
}

// Deadline journals that the run is to be undone after ConfirmWithin from now, unless it is confirmed by then.
func (r *Runner) Deadline() error {
	record := r.record(KindDeadline, step{}, false)
	record.Expires = record.Time.Add(r.ConfirmWithin)
	return r.Journal.Append(record)
}

// Confirm journals that the run is to stay.
func (r *Runner) Confirm() error { return r.Journal.Append(r.record(KindConfirmed, step{}, false)) }

// Writes returns the number of writes that stand, or may.
func (h *History) Writes() int { return len(h.steps) }

// Standing returns the hunks of which a write stands, or may.
func (h *History) Standing() []*Hunk {
	var out []*Hunk
	for n := range h.Plan.Hunks {
		if len(h.of(n)) > 0 {
			out = append(out, &h.Plan.Hunks[n])
		}
	}
	return out
}
