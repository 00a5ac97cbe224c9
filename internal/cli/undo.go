package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/spf13/cobra"

	"github.com/cloudaudit/cloudaudit/findings/outline"
	"github.com/cloudaudit/cloudaudit/internal/journal"
	"github.com/cloudaudit/cloudaudit/providers"
	"github.com/cloudaudit/cloudaudit/remedy"
)

// undoFlags are those of undo and recover.
type undoFlags struct {
	in sourceFlags
	manners
	yes      bool
	force    bool
	rollback bool
	keep     bool
}

func newUndo(sys System) *cobra.Command {
	var flags undoFlags
	cmd := &cobra.Command{
		Use:   "undo JOURNAL",
		Short: "Put back what a fix changed, from its journal",
		Long: `Undo takes back every change that the journal tells of, the last one first, also those of a fix that was interrupted. It
opens again what the fix has closed. A list that someone else has changed since is left alone, and named. A second undo does
nothing. On a terminal it asks; elsewhere it needs --yes.

Exit status: 0 if everything is as it was before the fix, 2 usage, 4 if something is not, 130 interrupted.`,
		Example: "  cloudaudit undo ~/.local/state/cloudaudit/fix-20261124T020000Z-1f8e40aa.jsonl",
		Args:    journalArgument,
		RunE: func(cmd *cobra.Command, args []string) error {
			return undo(cmd.Context(), sys, args[0], &flags)
		},
	}
	flags.register(cmd)
	cmd.Flags().BoolVar(&flags.yes, "yes", false, "do not ask")
	cmd.Flags().BoolVar(&flags.force, "force", false, "also where someone has changed the list since, if the rules that the fix made are still there")
	return cmd
}

func newRecover(sys System) *cobra.Command {
	var flags undoFlags
	cmd := &cobra.Command{
		Use:   "recover JOURNAL",
		Short: "Finish a fix that was interrupted, or undo it",
		Long: `Recover finds out, for every change that the journal does not tell the end of, whether it was made, and finishes the fix;
with --rollback it undoes it instead. With --keep it confirms a fix that was made with --confirm-within.

Exit status: 0 if the fix is complete and verified (with --rollback: undone), 2 usage, 4 if it is not, 130 interrupted.`,
		Example: "  cloudaudit recover fix.jsonl\n  cloudaudit recover --rollback fix.jsonl",
		Args:    journalArgument,
		RunE: func(cmd *cobra.Command, args []string) error {
			switch {
			case flags.keep && flags.rollback:
				return errors.New("--keep and --rollback contradict each other")
			case flags.keep:
				return keep(sys, args[0])
			case flags.rollback:
				return undo(cmd.Context(), sys, args[0], &flags)
			}
			return finish(cmd.Context(), sys, args[0], &flags)
		},
	}
	flags.register(cmd)
	cmd.Flags().BoolVar(&flags.rollback, "rollback", false, "undo the fix instead of finishing it")
	cmd.Flags().BoolVar(&flags.keep, "keep", false, "confirm a fix that is otherwise undone when its time is up")
	cmd.Flags().BoolVar(&flags.yes, "yes", false, "with --rollback: do not ask")
	cmd.Flags().BoolVar(&flags.force, "force", false, "with --rollback: also where someone has changed the list since, if the rules that the fix made are still there")
	return cmd
}

func (u *undoFlags) register(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&u.in.profile, "profile", "", "AWS `profile` of the shared configuration")
	f.BoolVar(&u.in.organization, "organization", false, "go to other accounts of the AWS organisation through --role")
	f.StringVar(&u.in.role, "role", "", "`name` of the role to assume in each account of the AWS organisation")
	u.manners.register(f)
}

func journalArgument(_ *cobra.Command, args []string) error {
	if len(args) != 1 {
		return &providers.Hint{Err: errors.New("want the path of one journal"), Next: "a fix prints it; they are in ~/.local/state/cloudaudit unless --journal named another place"}
	}
	return nil
}

// resume opens a journal to go on with it, with a runner for the clouds that it is about.
func resume(sys System, path string, flags *undoFlags) (*journal.File, *remedy.History, *remedy.Runner, error) {
	log, err := flags.logger(sys.Stderr)
	if err != nil {
		return nil, nil, nil, err
	}
	if err := flags.in.check(); err != nil {
		return nil, nil, nil, err
	}
	file, err := journal.Open(path)
	if err != nil {
		return nil, nil, nil, err
	}
	h, err := readHistory(path)
	if err != nil {
		_ = file.Close()
		return nil, nil, nil, &providers.Hint{Err: fmt.Errorf("%s: %w", path, err), Next: "a journal is what `cloudaudit scan --fix` writes"}
	}
	sources, err := sourcesFor(sys, h.Plan, &flags.in, log)
	if err != nil {
		_ = file.Close()
		return nil, nil, nil, err
	}
	return file, h, newRunner(sys, sources, file), nil
}

// sourcesFor returns the providers of the clouds that p is about.
func sourcesFor(sys System, p *remedy.Plan, in *sourceFlags, log hclog.Logger) ([]source, error) {
	var out []source
	wanted := *in
	for _, h := range p.Hunks {
		switch h.Scope.Provider {
		case "gcp":
			if !slices.Contains(wanted.projects, h.Scope.Account) {
				wanted.projects = append(wanted.projects, h.Scope.Account)
			}
		case "aws":
			if !slices.Contains(wanted.regions, h.Scope.Region) {
				wanted.regions = append(wanted.regions, h.Scope.Region)
			}
		}
	}
	for _, h := range p.Hunks {
		name := h.Scope.Provider
		if slices.ContainsFunc(out, func(s source) bool { return s.name == name }) {
			continue
		}
		provider, err := wanted.open(name, p.Ports, sys.Getenv, log)
		if err != nil {
			return nil, err
		}
		out = append(out, source{name, provider})
	}
	return out, nil
}

func undo(ctx context.Context, sys System, path string, flags *undoFlags) error {
	file, h, runner, err := resume(sys, path, flags)
	if err != nil {
		return err
	}
	defer file.Close()
	n := h.Writes()
	if n == 0 {
		fmt.Fprintln(sys.Stderr, "nothing to undo: no change of this journal stands")
		return nil
	}
	for _, hunk := range h.Standing() {
		fmt.Fprintf(sys.Stderr, "%s %s: opens again what the fix closed: %s\n", shown(hunk.Scope.String()), shown(hunk.List.Ref.ID), shown(hunk.Ways[0].Proof.Lost.Words()))
	}
	if !flags.yes {
		if !sys.interactive() {
			return &providers.Hint{
				Err:  fmt.Errorf("undoing %s opens them again, and there is no terminal to ask on", outline.Count(n, "change")),
				Next: "give --yes if that is what is wanted",
			}
		}
		if !sys.asked(ctx, fmt.Sprintf("Type the number of changes, %d, to take them back: ", n), fmt.Sprint(n)) {
			return &exit{status: ExitNotFixed, err: errors.New("it was not confirmed: nothing was written")}
		}
	}
	if err := runner.Undo(ctx, h, flags.force); err != nil {
		return &exit{status: statusOf(ctx), err: err}
	}
	fmt.Fprintf(sys.Stderr, "%s taken back: the lists are as they were before the fix\n", outline.Count(n, "change"))
	return nil
}

// statusOf is the exit status of a fix that did not come to its end.
func statusOf(ctx context.Context) int {
	if ctx.Err() != nil {
		return ExitInterrupted
	}
	return ExitNotFixed
}

// finish carries out what is left of a run, and verifies it.
func finish(ctx context.Context, sys System, path string, flags *undoFlags) error {
	file, h, runner, err := resume(sys, path, flags)
	if err != nil {
		return err
	}
	defer file.Close()
	if h.Expired(time.Now()) {
		return &providers.Hint{
			Err: errors.New("the fix was to be confirmed by " + h.Expires.Format(time.RFC3339) + ", and was not"), Next: "undo it, or confirm it with --keep first",
		}
	}
	outcome, err := runner.Recover(ctx, h)
	if err != nil {
		return &exit{status: statusOf(ctx), err: err}
	}
	if err := runner.Verify(ctx, h.Plan, outcome); err != nil {
		return &exit{status: statusOf(ctx), err: err}
	}
	for _, r := range outcome.Hunks {
		fmt.Fprintf(sys.Stderr, "%s %s: %s %s\n", shown(r.List.Scope), shown(r.List.ID), r.State, shown(r.Reason))
	}
	if !outcome.OK() {
		return &exit{status: statusOf(ctx), err: errors.New("the fix is not complete")}
	}
	return nil
}

// keep confirms a run: by the journal, or, while another process waits for it, by the file that it looks for.
func keep(sys System, path string) error {
	file, err := journal.Open(path)
	switch {
	case errors.Is(err, journal.ErrLocked):
		f, err := os.OpenFile(confirmation(path), os.O_CREATE|os.O_WRONLY, 0o600)
		if err != nil {
			return err
		}
		return f.Close()
	case err != nil:
		return err
	}
	defer file.Close()
	h, err := readHistory(path)
	if err != nil {
		return err
	}
	if h.Writes() == 0 {
		return errors.New("no change of this journal stands: there is nothing to keep")
	}
	runner := newRunner(sys, nil, file)
	if err := runner.Confirm(); err != nil {
		return err
	}
	fmt.Fprintln(sys.Stderr, "confirmed")
	return nil
}

// undoExpired undoes the runs in the state directory whose time to be confirmed is over: the process that was to do it did
// not live to see that.
func undoExpired(ctx context.Context, sys System, sources []source) error {
	dir, err := journal.Dir(sys.Getenv)
	if err != nil {
		return nil // then no journal was ever written there
	}
	paths, err := filepath.Glob(filepath.Join(dir, "fix-*.jsonl"))
	if err != nil {
		return fmt.Errorf("journals: %w", err)
	}
	var failed error
	for _, path := range paths {
		h, err := readHistory(path)
		if err != nil || !h.Expired(time.Now()) {
			continue // a journal that tells of no run concerns nobody here
		}
		file, err := journal.Open(path)
		if errors.Is(err, journal.ErrLocked) {
			return err
		}
		if err == nil {
			fmt.Fprintf(sys.Stderr, "%s was not confirmed by %s: undoing\n", shown(path), h.Expires.Format(time.RFC3339))
			err = errors.Join(newRunner(sys, sources, file).Undo(ctx, h, false), file.Close())
		}
		if err != nil {
			failed = errors.Join(failed, fmt.Errorf("%s: %w", path, err))
		}
	}
	return failed
}
