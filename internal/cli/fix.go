package cli

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/spf13/pflag"

	"github.com/cloudaudit/cloudaudit/cloud"
	"github.com/cloudaudit/cloudaudit/findings"
	"github.com/cloudaudit/cloudaudit/internal/journal"
	"github.com/cloudaudit/cloudaudit/probe"
	"github.com/cloudaudit/cloudaudit/providers"
	"github.com/cloudaudit/cloudaudit/remedy"
)

// fixFlags say what is mended, and how.
type fixFlags struct {
	fix           bool
	dryRun        bool
	yes           bool
	plan          string
	journal       string
	maxChanges    int
	allowLoss     bool
	attach        bool
	owned         bool
	keepPrivate   []string
	confirmWithin time.Duration

	given  *remedy.Plan // what --plan names, to be carried out
	passes bool         // the clouds end with the run, and so does the journal: there is nothing to undo later
}

func (x *fixFlags) register(f *pflag.FlagSet) {
	f.BoolVar(&x.fix, "fix", false, "close what was found by the smallest change that is proved to close nothing else")
	f.BoolVar(&x.dryRun, "dry-run", false, "with --fix: show the plan and write nothing to any cloud")
	f.StringVar(&x.plan, "plan", "", "with --fix --dry-run: save the plan to this `file`; with --fix: carry out the plan in it")
	f.BoolVar(&x.yes, "yes", false, "with --fix: do not ask")
	f.IntVar(&x.maxChanges, "max-changes", 10, "with --fix: write nothing at all if the plan makes more changes than this; 0 is any number")
	f.BoolVar(&x.allowLoss, "allow-loss", false, "with --fix: also make changes that close more than was asked; the plan says what")
	f.BoolVar(&x.attach, "attach-firewall", false, "with --fix: also put a firewall in front of droplets that have none")
	f.BoolVar(&x.owned, "fix-owned", false, "with --fix: also change what a controller such as Kubernetes owns, and may put back")
	f.StringSliceVar(&x.keepPrivate, "keep-private", []string{"auto"}, "with --fix: `sources` that keep their access: none; networks; or auto, every private network, also beside others")
	f.StringVar(&x.journal, "journal", "", "with --fix: write the `file` that undoes it here (default: a new one in the state directory)")
	f.DurationVar(&x.confirmWithin, "confirm-within", 0, "with --fix: undo everything after this `duration`, such as 10m, unless it is confirmed")
}

// check refuses flags that contradict each other and reads the plan, before anything is read of a cloud.
func (x *fixFlags) check(sys System, offline bool) error {
	if !x.fix {
		for _, f := range []struct {
			name  string
			given bool
		}{{"dry-run", x.dryRun}, {"yes", x.yes}, {"plan", x.plan != ""}, {"journal", x.journal != ""}} {
			if f.given {
				return &providers.Hint{Err: fmt.Errorf("--%s is of --fix", f.name), Next: "add --fix, or leave it out"}
			}
		}
		return nil
	}
	switch {
	case offline && !x.dryRun:
		return &providers.Hint{
			Err:  errors.New("--fix changes clouds, and --snapshot reads none"),
			Next: "make a plan with --dry-run --plan FILE, and carry it out with --fix --plan FILE",
		}
	case x.maxChanges < 0:
		return fmt.Errorf("--max-changes %d: want a number that is not negative", x.maxChanges)
	case x.confirmWithin < 0:
		return fmt.Errorf("--confirm-within %s: want a positive duration", x.confirmWithin)
	case !x.dryRun && !x.yes && !sys.interactive():
		return &providers.Hint{
			Err:  errors.New("--fix asks before it writes, and there is no terminal to ask on"),
			Next: "look at the plan with --dry-run, then give --yes",
		}
	}
	switch {
	case x.plan == "":
		return nil
	case !x.dryRun:
		var err error
		x.given, err = readPlan(x.plan)
		return err
	}
	dir := filepath.Dir(x.plan)
	if info, err := os.Stat(dir); err != nil || !info.IsDir() {
		return &providers.Hint{Err: fmt.Errorf("--plan %s: %s is not a directory", x.plan, dir), Next: "make it first"}
	}
	return nil
}

// options reads the flags that the plan depends on.
func (x *fixFlags) options(ports []uint16) (remedy.Options, error) {
	o := remedy.Options{Ports: ports, Owned: x.owned, Guard: x.attach, AllowLoss: x.allowLoss}
	var err error
	o.KeepPrivate, err = keepPrivate(x.keepPrivate)
	return o, err
}

// keepPrivate reads --keep-private: auto alone is the zero value, and beside networks it adds to them.
func keepPrivate(values []string) (remedy.KeepPrivate, error) {
	var out remedy.KeepPrivate
	if len(values) == 1 && values[0] == "auto" {
		return out, nil
	}
	if len(values) == 1 && values[0] == "none" {
		out.None = true
		return out, nil
	}
	for _, v := range values {
		if v == "auto" {
			out.Networks = append(out.Networks, remedy.PrivateUse()...)
			continue
		}
		prefix, err := netip.ParsePrefix(v)
		if err != nil {
			return out, &providers.Hint{
				Err: fmt.Errorf("--keep-private %q: want auto, none, or networks", v), Next: "for example --keep-private 10.0.0.0/8,fd00::/8, or auto,35.191.0.0/16",
			}
		}
		out.Networks = append(out.Networks, prefix.Masked())
	}
	return out, nil
}

// rewritersOf returns what plans changes in each cloud of the snapshots. It does no I/O.
func rewritersOf(in *sourceFlags, sys System, sources []source, snapshots []*cloud.Snapshot) map[string]providers.Rewriter {
	out := map[string]providers.Rewriter{}
	for _, s := range sources {
		if r, ok := s.provider.(providers.Rewriter); ok {
			out[s.name] = r
		}
	}
	for _, s := range snapshots {
		name := s.Scope.Provider
		if out[name] != nil || len(sources) > 0 {
			continue
		}
		if p, err := in.open(name, nil, sys.Getenv, hclog.NewNullLogger()); err == nil {
			if r, ok := p.(providers.Rewriter); ok {
				out[name] = r
			}
		}
	}
	return out
}

// remediable returns what a plan is told of the findings.
func remediable(r *findings.Report) []remedy.Finding {
	out := make([]remedy.Finding, 0, len(r.Findings))
	for i := range r.Findings {
		f := &r.Findings[i]
		x := remedy.Finding{Fingerprint: f.Fingerprint, Check: f.RuleID, Subject: refOf(f.Subject), Suppressed: f.Suppressed != nil}
		if f.Location != nil {
			x.Terraform = fmt.Sprintf("%s:%d", f.Location.File, f.Location.Line)
		}
		out = append(out, x)
	}
	return out
}

func refOf(s findings.Subject) cloud.Ref {
	return cloud.Ref{Provider: s.Provider, Scope: s.Scope, Kind: s.Type, ID: s.ID}
}

// advise adds to every finding how it can be closed, or why cloudaudit does not close it.
func advise(r *findings.Report, snapshots []*cloud.Snapshot, rewriters map[string]providers.Rewriter, o remedy.Options) error {
	consented := o
	o.Guard, o.AllowLoss = true, true
	plan := remedy.New(snapshots, remediable(r), rewriters, o)
	at := map[string]int{}
	for i := range r.Findings {
		at[r.Findings[i].Fingerprint] = i
	}
	for i := range plan.Hunks {
		h := &plan.Hunks[i]
		var fixes []findings.Fix
		for n := range h.Ways {
			w := &h.Ways[n]
			commands, err := h.Commands(rewriters[h.Scope.Provider], n)
			if err != nil {
				return err
			}
			fix := findings.Fix{
				Name: w.Name, List: h.List.Ref.ID, Changes: len(w.Edits), Commands: commands, Proof: w.Proof.Words, Closes: h.Findings,
			}
			if !w.Proof.Loss.IsEmpty() {
				fix.Loss = w.Proof.Loss.Words()
				if !consented.AllowLoss {
					fix.Flag = "--allow-loss"
				}
			}
			if h.Guard != nil && !consented.Guard {
				fix.Flag = strings.TrimSpace(fix.Flag + " --attach-firewall")
			}
			fixes = append(fixes, fix)
		}
		for _, fingerprint := range h.Findings {
			r.Findings[at[fingerprint]].Fixes = fixes
		}
	}
	for _, refused := range plan.Refused {
		r.Findings[at[refused.Finding]].NoFix = &findings.NoFix{Reason: refused.Reason, Instead: refused.Instead}
	}
	return nil
}

// mender is one run of --fix.
type mender struct {
	sys       System
	flags     *scanFlags
	sources   []source
	rewriters map[string]providers.Rewriter
	options   remedy.Options
	expired   error // an earlier fix that was not confirmed could not be undone
}

// prepare returns the plan to carry out: a new one, or the one in the file that --plan names.
func (m *mender) prepare(report *findings.Report, snapshots []*cloud.Snapshot) (*remedy.Plan, error) {
	if m.flags.mend.given != nil {
		return m.flags.mend.given, nil
	}
	p := remedy.New(snapshots, remediable(report), m.rewriters, m.options)
	if m.flags.mend.plan != "" {
		return p, m.savePlan(p)
	}
	return p, nil
}

// repair plans, asks, writes and verifies, and says in the returned report what is left. The report is never lost: what
// goes wrong is in it.
func (m *mender) repair(ctx context.Context, report *findings.Report, snapshots []*cloud.Snapshot) (*findings.Repair, []*cloud.Snapshot, error) {
	x := &m.flags.mend
	plan, err := m.prepare(report, snapshots)
	if err != nil {
		return nil, snapshots, err
	}
	if err := m.show(plan, report); err != nil {
		return nil, snapshots, err
	}
	repair := &findings.Repair{Plan: plan.ID, Results: []findings.Repaired{}}
	switch {
	case x.dryRun:
		return nil, snapshots, nil
	case m.expired != nil:
		repair.Error = "nothing was written, for an earlier fix that was not confirmed is to be undone first: " + m.expired.Error()
		return repair, snapshots, nil
	case len(plan.Hunks) == 0:
		return repair, snapshots, nil
	}
	if err := plan.Within(x.maxChanges); err != nil {
		repair.Error = err.Error() + " by --max-changes: nothing was written"
		return repair, snapshots, nil
	}
	if !x.yes {
		question := fmt.Sprintf("Type the number of changes, %d, to make them; anything else leaves the clouds as they are: ", plan.Changes())
		if !m.sys.asked(ctx, question, fmt.Sprint(plan.Changes())) {
			repair.Error = "it was not confirmed: nothing was written"
			return repair, snapshots, nil
		}
	}
	file, err := m.openJournal(plan)
	if err != nil {
		repair.Error = err.Error() + ": nothing was written"
		return repair, snapshots, nil
	}
	defer file.Close()
	if !x.passes {
		repair.Journal = file.Path()
		fmt.Fprintf(m.sys.Stderr, "journal: %s (`cloudaudit undo` takes back what is in it)\n", shown(file.Path()))
	}

	runner := newRunner(m.sys, m.sources, file)
	runner.AllowLoss, runner.ConfirmWithin = x.allowLoss, x.confirmWithin
	outcome, err := runner.Do(ctx, plan)
	if err != nil {
		repair.Error = err.Error()
	}
	if outcome != nil {
		if err := runner.Verify(ctx, plan, outcome); err != nil {
			repair.Error = strings.TrimPrefix(repair.Error+"; "+err.Error(), "; ")
		}
		repair.Results = results(report, plan, outcome)
		snapshots = m.readAgain(ctx, snapshots, plan, outcome)
	}
	if x.confirmWithin > 0 && ctx.Err() == nil && repair.Error == "" {
		kept, err := m.awaitConfirmation(ctx, runner, file.Path())
		switch {
		case err != nil:
			repair.Error = err.Error()
		case !kept:
			repair.Error = "it was not confirmed in time, and everything was undone"
			for i := range repair.Results {
				repair.Results[i].State, repair.Results[i].Reason = string(remedy.Skipped), "undone: not confirmed within "+x.confirmWithin.String()
			}
			snapshots = m.readAgain(ctx, snapshots, plan, outcome)
		}
	}
	return repair, snapshots, nil
}

// mend repairs, and returns the report of what is left.
func (m *mender) mend(ctx context.Context, q cloud.Question, report *findings.Report, snapshots []*cloud.Snapshot, o probe.Options) (*findings.Report, []*cloud.Snapshot, error) {
	repair, after, err := m.repair(ctx, report, snapshots)
	if err != nil || repair == nil {
		return report, snapshots, err
	}
	left := findings.Find(q, after)
	left.Repair = repair
	if m.flags.probe {
		if err := m.askAgain(ctx, report, left, o, after); err != nil {
			return left, after, err
		}
	}
	return left, after, nil
}

// askAgain asks the addresses that were open before the fix: what still answers is not fixed.
func (m *mender) askAgain(ctx context.Context, before, left *findings.Report, o probe.Options, snapshots []*cloud.Snapshot) error {
	if err := ask(ctx, m.sys, &m.flags.manners, left, o, m.sources, snapshots); err != nil {
		return err
	}
	fixed := map[string]*findings.Repaired{}
	for i := range left.Repair.Results {
		for _, f := range left.Repair.Results[i].Findings {
			fixed[f.Fingerprint] = &left.Repair.Results[i]
		}
	}
	again := *before
	again.Exposures, again.Findings = nil, nil
	var of []*findings.Repaired
	for i := range before.Findings {
		res := fixed[before.Findings[i].Fingerprint]
		if res == nil || res.State != string(remedy.Fixed) {
			continue
		}
		for _, at := range before.Findings[i].Exposures {
			x := before.Exposures[at]
			x.Probe = nil
			again.Exposures, of = append(again.Exposures, x), append(of, res)
		}
	}
	if len(again.Exposures) == 0 {
		return nil
	}
	if err := ask(ctx, m.sys, &m.flags.manners, &again, o, m.sources, snapshots); err != nil {
		return err
	}
	for i := range again.Exposures {
		x := &again.Exposures[i]
		if x.Probe != nil && x.Probe.Proves() != "" {
			of[i].State = string(remedy.Partial)
			of[i].Reason = fmt.Sprintf("memcached still answers at %s over %s: the change may not be in force for flows that were open before, or packets from here come another way", x.Address, x.Protocol)
		}
	}
	return nil
}

// results says what became of the findings.
func results(report *findings.Report, plan *remedy.Plan, outcome *remedy.Outcome) []findings.Repaired {
	out := []findings.Repaired{}
	for n, res := range outcome.Hunks {
		l := plan.Hunks[n].List
		x := findings.Repaired{
			State: string(res.State), Reason: res.Reason, Findings: []findings.Brief{},
			List: findings.Subject{Provider: l.Ref.Provider, Scope: l.Ref.Scope, Type: l.Ref.Kind, ID: l.Ref.ID, Name: l.Name},
		}
		if res.After != nil {
			x.List.ID = res.After.Ref.ID // a list that was made has its id only now
		}
		for i := range report.Findings {
			if f := &report.Findings[i]; slices.Contains(res.Findings, f.Fingerprint) {
				x.Findings = append(x.Findings, f.Brief())
			}
		}
		out = append(out, x)
	}
	return out
}

// readAgain reads the scopes in which something was written. Where that does not succeed, the report stays on what was read
// before, so that nothing is called closed that nobody has seen closed.
func (m *mender) readAgain(ctx context.Context, snapshots []*cloud.Snapshot, plan *remedy.Plan, outcome *remedy.Outcome) []*cloud.Snapshot {
	out := slices.Clone(snapshots)
	read := map[cloud.Scope]bool{}
	for n, res := range outcome.Hunks {
		scope := plan.Hunks[n].Scope
		if len(res.Done) == 0 || read[scope] {
			continue
		}
		read[scope] = true
		at := slices.IndexFunc(out, func(s *cloud.Snapshot) bool { return s.Scope == scope })
		i := slices.IndexFunc(m.sources, func(s source) bool { return s.name == scope.Provider })
		if at < 0 || i < 0 {
			continue
		}
		s, err := m.sources[i].provider.Read(ctx, scope)
		if err != nil {
			before := *out[at]
			before.Gaps = append(slices.Clone(before.Gaps), cloud.Gap{
				Subject: "scope", Cause: "it could not be read again after the fix: " + err.Error(), Hint: "scan again: what is reported here is from before the fix",
			})
			s = &before
		}
		out[at] = s
	}
	return out
}

// newRunner returns what carries out plans, with those of the sources that can write.
func newRunner(sys System, sources []source, j remedy.Journal) *remedy.Runner {
	r := &remedy.Runner{Fixers: map[string]providers.Fixer{}, Journal: j, Now: sys.now, Sleep: sys.sleep}
	for _, s := range sources {
		if f, ok := s.provider.(providers.Fixer); ok {
			r.Fixers[s.name] = f
		}
	}
	r.Progress = func(h *remedy.Hunk, text string) {
		fmt.Fprintf(sys.Stderr, "%s %s: %s\n", shown(h.Scope.String()), shown(h.List.Ref.ID), shown(strings.TrimSpace(text)))
	}
	return r
}

// openJournal makes the journal of plan.
func (m *mender) openJournal(plan *remedy.Plan) (*journal.File, error) {
	path := m.flags.mend.journal
	if path == "" {
		dir, err := journal.Dir(m.sys.Getenv)
		if err != nil {
			return nil, err
		}
		path = journal.Name(dir, time.Now(), plan.ID)
	}
	return journal.Create(path)
}
