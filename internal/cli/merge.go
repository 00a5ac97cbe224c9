package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/cloudaudit/cloudaudit/findings"
	"github.com/cloudaudit/cloudaudit/findings/escape"
	"github.com/cloudaudit/cloudaudit/internal/config"
	"github.com/cloudaudit/cloudaudit/providers"
)

// newMerge is the command that joins the reports of several machines.
func newMerge(sys System) *cobra.Command {
	var m mergeFlags
	cmd := &cobra.Command{
		Use:   "merge REPORT...",
		Short: "Join the reports of several machines into one",
		Long: `Merge joins JSON reports, or SARIF reports of the full profile, into the report that one scan over everything would have
given. It is complete only if every report is, and if no shard of a scan with --shard is missing. Of a scope that several
reports are about the complete reading is taken, or else the latest. With --max-age a report that is older, or is not there
at all, is a shard that is missing: what an earlier night has left behind is never taken for this one's.

` + exitStatuses,
		Example: `  cloudaudit scan --shard 1/2 --output json=1.json     # on one machine
  cloudaudit scan --shard 2/2 --output json=2.json     # on another
  cloudaudit merge 1.json 2.json --output sarif=cloudaudit.sarif`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return &providers.Hint{Err: errors.New("merge needs the files of at least one report"), Next: "for example `cloudaudit merge 1.json 2.json`"}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			var file *config.Config
			if m.config != "" {
				var err error
				if file, err = configure(cmd, sys, m.config); err != nil {
					return err
				}
			}
			return m.night.run(cmd.Context(), sys, file, func(n *night) error { return m.merge(cmd.Context(), sys, args, n) })
		},
	}
	m.out.register(cmd.Flags())
	m.since.register(cmd.Flags())
	m.night.register(cmd.Flags())
	cmd.Flags().BoolVar(&m.quiet, "quiet", false, "write nothing to standard output if nothing is new, cleared or incomplete")
	cmd.Flags().StringVar(&m.config, "config", "", "read settings and notifications from this `file` (default: none)")
	cmd.Flags().StringVar(&m.color, "color", "auto", "`auto`: colour on a terminal, unless NO_COLOR is set; or never, always")
	cmd.Flags().DurationVar(&m.maxAge, "max-age", 0, "leave out reports of scans that began longer ago than this `duration`, such as 6h (default: take all)")
	return cmd
}

// mergeFlags are all flags of merge.
type mergeFlags struct {
	out    outputFlags
	since  sinceFlags
	night  nightFlags
	quiet  bool
	config string
	color  string
	maxAge time.Duration
}

// merge joins the reports at paths.
func (m *mergeFlags) merge(ctx context.Context, sys System, args []string, n *night) error {
	plan, err := m.out.plan(sys, m.color)
	if err != nil {
		return err
	}
	show, err := level("severity", m.out.severity)
	if err != nil {
		return err
	}
	gate, err := level("fail-on", m.out.failOn)
	if err != nil {
		return err
	}
	old, err := m.since.read(sys, n.old)
	if err != nil {
		return err
	}
	var reports []*findings.Report
	seen := map[string]bool{}
	for _, path := range args {
		r, whole, err := readReport(path)
		if m.maxAge > 0 {
			if late := tooOld(path, r, err, m.maxAge); late != "" {
				fmt.Fprintln(sys.Stderr, escape.Terminal(late))
				continue
			}
		}
		if err == nil && !whole {
			err = errors.New("a SARIF report of the profile github has not everything that is needed")
		}
		if err != nil {
			return &providers.Hint{Err: fmt.Errorf("%s: %w", path, err), Next: "merge what `--output json=FILE` or `--output sarif=FILE` writes"}
		}
		if seen[path] {
			return fmt.Errorf("%s is given twice", path)
		}
		seen[path] = true
		if r.Severity != "" || r.NewOnly {
			fmt.Fprintf(sys.Stderr, "%s was written with --severity or --new-only: what it leaves out is missing here too\n", escape.Terminal(path))
		}
		reports = append(reports, r)
	}
	if len(reports) == 0 {
		return &exit{status: ExitIncomplete, err: errors.New("no report is left to merge: nothing is known")}
	}
	merged, err := findings.Merge(reports)
	if err != nil {
		return &providers.Hint{Err: err, Next: "merge reports of one scan, with the same ports and the same number of shards"}
	}
	if missing := merged.Shard.Missing(); len(missing) > 0 {
		var parts []string
		for _, p := range missing {
			parts = append(parts, strconv.Itoa(p))
		}
		fmt.Fprintf(sys.Stderr, "incomplete: of %d shards there is no report of %s\n", merged.Shard.Of, strings.Join(parts, ", "))
	}
	c := conclusion{run: newRun(sys), old: old, newOnly: m.since.newOnly, allowPartial: m.out.allowPartial, quiet: m.quiet, show: show, gate: gate, plan: plan, night: n}
	return c.write(ctx, merged)
}

// tooOld says why a report is none of those that are to be merged, or nothing. One that says no time is taken for old.
func tooOld(path string, r *findings.Report, err error, maxAge time.Duration) string {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return path + " is not there: it counts as missing"
	case err != nil:
		return "" // what is broken is said so by the caller
	case time.Since(r.Run.Started) > maxAge:
		return fmt.Sprintf("%s is from %s, which is longer ago than %s: it counts as missing", path, r.Run.Started.UTC().Format(time.RFC3339), maxAge)
	}
	return ""
}
