package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/cloudaudit/cloudaudit/cloud"
	"github.com/cloudaudit/cloudaudit/findings"
	"github.com/cloudaudit/cloudaudit/findings/escape"
	"github.com/cloudaudit/cloudaudit/internal/config"
	"github.com/cloudaudit/cloudaudit/probe"
	"github.com/cloudaudit/cloudaudit/providers"
)

// scanFlags are all flags of scan.
type scanFlags struct {
	in  sourceFlags
	ask questionFlags
	out outputFlags
	manners
	since sinceFlags
	night nightFlags
	shard string
	// config names the configuration file; file is what it says, nil if there is none.
	config string
	file   *config.Config
	probe  bool
	how    probeFlags
	mend   fixFlags
}

func newScan(sys System) *cobra.Command {
	var flags scanFlags
	cmd := &cobra.Command{
		Use:   "scan",
		Short: "Read the clouds, judge, and report",
		Long: `Scan reads every account, region, project and team that the credentials at hand lead to, decides for each public
address whether a host on the internet can reach memcached's port, and reports the rules that let it in.

What could not be read is reported as such, and never as clean. Every flag can be set by an environment variable:
CLOUDAUDIT_ and the flag's name in capitals, such as CLOUDAUDIT_FAIL_ON=error; and by a key in cloudaudit.yaml, of which
` + "`cloudaudit config example`" + ` is an example. A flag beats the environment, and that beats the file.

` + exitStatuses,
		Example: `  cloudaudit scan --provider aws,do
  cloudaudit scan --provider gcp --project my-project --port 11211,11214-11215
  cloudaudit scan --output sarif=cloudaudit.sarif --output json=cloudaudit.json
  cloudaudit scan --snapshot monday.json --snapshot tuesday.json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var err error
			if flags.file, err = configure(cmd, sys, flags.config); err != nil {
				return err
			}
			return flags.night.run(cmd.Context(), sys, flags.file, func(n *night) error {
				return scan(cmd.Context(), sys, &flags, nil, n)
			})
		},
	}
	flags.in.register(cmd.Flags(), true)
	flags.ask.register(cmd.Flags())
	flags.out.register(cmd.Flags())
	flags.since.register(cmd.Flags())
	flags.night.register(cmd.Flags())
	cmd.Flags().BoolVar(&flags.quiet, "quiet", false, "write nothing to standard output if nothing is new, cleared or incomplete")
	cmd.Flags().StringVar(&flags.config, "config", "", "read settings and ignores from this `file` (default: cloudaudit.yaml, if there is one)")
	cmd.Flags().StringVar(&flags.shard, "shard", "", "read only the `I/N`th part of the scopes, as 2/4; merge joins the reports (default: by the index of a Kubernetes or AWS Batch job)")
	flags.registerProbe(cmd.Flags())
	flags.mend.register(cmd.Flags())
	flags.manners.register(cmd.Flags())
	return cmd
}

func (f *scanFlags) registerProbe(flags *pflag.FlagSet) {
	flags.BoolVar(&f.probe, "probe", false, "ask what is open whether memcached answers, with a few small packets that read no key")
	f.how.register(flags)
}

// scan reads, judges and reports. Sources are chosen by the flags unless they are given; n is nil for a run that leaves nothing
// to the next.
func scan(ctx context.Context, sys System, flags *scanFlags, sources []source, n *night) error {
	question, err := flags.ask.question()
	if err != nil {
		return err
	}
	plan, err := flags.out.plan(sys, flags.color)
	if err != nil {
		return err
	}
	show, err := level("severity", flags.out.severity)
	if err != nil {
		return err
	}
	gate, err := level("fail-on", flags.out.failOn)
	if err != nil {
		return err
	}
	log, err := flags.logger(sys.Stderr)
	if err != nil {
		return err
	}
	var before *findings.Report
	if n != nil {
		before = n.old
	}
	old, err := flags.since.read(sys, before)
	if err != nil {
		return err
	}
	if flags.in.shard, err = shardOf(flags.shard, sys.Getenv); err != nil {
		return err
	}
	var options probe.Options
	if flags.probe {
		if options, err = flags.how.options(); err != nil {
			return err
		}
		if len(flags.in.snapshots) > 0 {
			return &providers.Hint{
				Err:  errors.New("--probe asks addresses that were read just now, and not those of a --snapshot, which may be somebody else's by now"),
				Next: "ask addresses that you vouch for with `cloudaudit probe`",
			}
		}
	}
	if err := flags.mend.check(sys, len(flags.in.snapshots) > 0); err != nil {
		return err
	}
	mending, err := flags.mend.options(question.Ports)
	if err != nil {
		return err
	}
	if sources == nil {
		if sources, err = sourcesOf(sys, &flags.in, question.Ports, &flags.manners, log); err != nil {
			return err
		}
	}

	run := newRun(sys)
	var expired error
	if flags.mend.fix && !flags.mend.dryRun {
		expired = undoExpired(ctx, sys, sources) // before anything is read: it opens again what it undoes
	}
	snapshots, err := gather(ctx, sys, &flags.in, &flags.manners, log, sources)
	if err != nil {
		return err
	}
	report := findings.Find(question, snapshots)
	suppress(report, flags.file)
	if flags.probe {
		if err := ask(ctx, sys, &flags.manners, report, options, sources, snapshots); err != nil {
			return err
		}
	}
	rewriters := rewritersOf(&flags.in, sys, sources, snapshots)
	if flags.mend.fix {
		m := mender{sys: sys, flags: flags, sources: sources, rewriters: rewriters, options: mending, expired: expired}
		if report, snapshots, err = m.mend(ctx, question, report, snapshots, options); err != nil {
			return err
		}
	}
	if err := advise(report, snapshots, rewriters, mending); err != nil {
		return err
	}
	report.Shard = flags.in.shard
	suppress(report, flags.file) // after a fix it is another report
	for _, n := range report.Notices {
		fmt.Fprintln(sys.Stderr, escape.Terminal(n))
	}
	c := conclusion{run: run, old: old, newOnly: flags.since.newOnly, allowPartial: flags.out.allowPartial, quiet: flags.quiet, show: show, gate: gate, plan: plan, night: n}
	return c.write(ctx, report)
}

// status decides the exit status. A report that a signal cut short is not to be mistaken for a finished one.
func status(ctx context.Context, r *findings.Report, gate findings.Level, allowPartial bool) int {
	switch {
	case ctx.Err() != nil:
		return ExitInterrupted
	case r.Repair != nil && !r.Repair.OK():
		return ExitNotFixed
	case r.Worst() != "" && r.Worst().AtLeast(gate):
		return ExitFindings
	case !r.Complete && !allowPartial:
		return ExitIncomplete
	}
	return ExitClean
}

// newSnapshot is the command that saves what was read.
func newSnapshot(sys System) *cobra.Command {
	var in sourceFlags
	var m manners
	var output string
	cmd := &cobra.Command{
		Use:   "snapshot",
		Short: "Save what was read, to judge it later with scan --snapshot",
		Long: `Snapshot reads the clouds as scan does and writes what it read as JSON. ` + "`cloudaudit scan --snapshot FILE`" + ` then gives
the report that a scan would have given at that moment. The file holds addresses, names and rules, and no credential.

Exit status: 0 if everything could be read, 2 usage or configuration, 3 if something could not, 130 interrupted.`,
		Example: "  cloudaudit snapshot --output monday.json\n  cloudaudit scan --snapshot monday.json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			log, err := m.logger(sys.Stderr)
			if err != nil {
				return err
			}
			sources, err := sourcesOf(sys, &in, nil, &m, log)
			if err != nil {
				return err
			}
			snapshots, err := gather(cmd.Context(), sys, &in, &m, log, sources)
			if err != nil {
				return err
			}
			slices.SortFunc(snapshots, func(a, b *cloud.Snapshot) int { return compareScopes(a.Scope, b.Scope) })
			if err := saveSnapshots(sys, output, snapshots); err != nil {
				return err
			}
			switch {
			case cmd.Context().Err() != nil:
				return &exit{status: ExitInterrupted}
			case slices.ContainsFunc(snapshots, func(s *cloud.Snapshot) bool { return len(s.Gaps) > 0 }):
				return &exit{status: ExitIncomplete}
			}
			return nil
		},
	}
	in.register(cmd.Flags(), false)
	m.register(cmd.Flags())
	cmd.Flags().StringVarP(&output, "output", "o", "-", "`path` to write to; - is standard output")
	return cmd
}
